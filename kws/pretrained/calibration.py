"""The clips that pretrained models are calibrated on where there is no data set: log-mel features, coarsely coded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from kws.artifact import atomic_file
from kws.errors import KwsError
from kws.pretrained import CALIBRATION_SUFFIX, FOLDER, is_pretrained

LEVELS = 255

FloatArray = npt.NDArray[np.float32]


def calibration_of(path: Path, count: int) -> FloatArray:
    """Log-mel float32 (<= count, 1, mel_bands, frames) of clips that the pretrained model in `path` was trained on,
    its labels in turn. Raises KwsError if there are none."""
    [*found] = (clips for clips in FOLDER.glob(f"*{CALIBRATION_SUFFIX}") if path.stem.startswith(_data_of(clips)))
    if not is_pretrained(path) or not found:
        raise KwsError(f"{path}: is no pretrained model; give --data, the folder that it was trained on.")
    return read_calibration(found[0])[:count]


def _data_of(clips: Path) -> str:
    return clips.name.removesuffix(CALIBRATION_SUFFIX)


def write_calibration(path: Path, log_mel: FloatArray) -> None:
    """Keep `log_mel` in steps of a 255th of its range, about what an int8 input of the model has."""
    lowest, highest = log_mel.min(), log_mel.max()
    step = np.float32((highest - lowest) / LEVELS)
    codes = np.rint((log_mel - lowest) / step).astype(np.uint8)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, codes=codes, lowest=lowest, step=step)


def read_calibration(path: Path) -> FloatArray:
    with np.load(path, allow_pickle=False) as content:
        values: FloatArray = content["codes"] * content["step"] + content["lowest"]
    return values
