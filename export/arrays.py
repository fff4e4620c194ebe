"""Arrays and labels that a user hands over in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.errors import KwsError
from kws.metrics import Indices
from quantize.affine import FloatArray

NPY_REMEDY = "save one array with numpy.save"


def read_inputs(path: Path, clip_shape: tuple[int, ...], most: int | None = None) -> FloatArray:
    """The .npy file `path` as float32 (n, *clip_shape); float64 and float16 are converted.

    With `most`, that many rows, evenly spread over the file. Raises KwsError if it is no .npy file of numbers, of
    another shape or type, empty, or holds NaN or infinity.
    """
    array = _read_npy(path)
    wanted = f"float32 (n, {', '.join(map(str, clip_shape))})"
    if array.shape[1:] != clip_shape or array.ndim != len(clip_shape) + 1 or not len(array):
        raise KwsError(f"{path}: has shape {array.shape}, but the model takes {wanted}; save inputs of that shape.")
    if array.dtype.kind != "f":
        raise KwsError(f"{path}: holds {array.dtype}, but the model takes {wanted}; save it as float32.")
    count = len(array) if most is None else min(most, len(array))
    rows = np.linspace(0, len(array) - 1, count).round().astype(np.int64)
    with np.errstate(over="ignore"):
        inputs = np.asarray(array[rows], dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(inputs.reshape(len(inputs), -1)).all(axis=1))
    if bad.size:
        raise KwsError(f"{path}: input {rows[bad[0]]} holds NaN or infinity; take it out.")
    return inputs


def read_targets(path: Path, inputs: int, classes: int) -> Indices:
    """The .npy file `path` as int64 (inputs,), each the index of a class. Raises KwsError for anything else."""
    array = _read_npy(path)
    if array.shape != (inputs,) or array.dtype.kind not in "iu":
        raise KwsError(
            f"{path}: holds {array.dtype} of shape {array.shape}; save a whole number for each of the {inputs} inputs."
        )
    targets = np.asarray(array, dtype=np.int64)
    outside = np.flatnonzero((targets < 0) | (targets >= classes))
    if outside.size:
        raise KwsError(
            f"{path}: target {outside[0]} is {array[outside[0]]}, but the model has classes 0 to {classes - 1}; "
            "save the indices of its labels."
        )
    return targets


def read_labels(path: Path, classes: int) -> list[str]:
    """The UTF-8 file `path`, one label a line in the order of the outputs. Raises KwsError if they do not fit."""
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise KwsError(f"{path}: cannot be read as UTF-8 text; write one label a line.") from error
    labels = [line.strip() for line in lines]
    if len(labels) != classes:
        raise KwsError(
            f"{path}: has {len(labels)} lines, but the model has {classes} outputs; write one label for each."
        )
    for index, label in enumerate(labels):
        if not label or "\0" in label:
            raise KwsError(f"{path}: line {index + 1} is no label; write one word or phrase a line.")
        if label in labels[:index]:
            raise KwsError(f"{path}: the label {label!r} stands there twice; give each output a label of its own.")
    return labels


def _read_npy(path: Path) -> npt.NDArray[Any]:
    """Mapped, not read: a header can claim any size, and a file of pickles never runs."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise KwsError(f"{path}: cannot be read ({error.strerror or error}); {NPY_REMEDY}.") from error
    except (ValueError, EOFError) as error:
        raise KwsError(f"{path}: is no .npy file of numbers, or damaged; {NPY_REMEDY}.") from error
    if not isinstance(array, np.ndarray):
        raise KwsError(f"{path}: holds several arrays; {NPY_REMEDY}.")
    return array
