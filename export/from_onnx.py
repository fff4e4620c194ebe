"""An ONNX model from anywhere, and inputs for it -> a build."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from export.arrays import read_inputs, read_labels
from export.build import PROOF_CLIPS, Source, build
from kws.artifact import make_folder, sha256_file
from kws.errors import KwsError
from kws.progress import note
from quantize.affine import FloatArray
from quantize.given_model import GivenModel, read_onnx
from quantize.options import QuantizeOptions
from quantize.runtimes import OnnxRuntime


def build_onnx(
    model_path: Path, calibration_path: Path, out: Path, options: QuantizeOptions, *, labels_path: Path | None = None
) -> Path:
    """`export.build.build` for a float ONNX model: ranges and proofs both come from the inputs in `calibration_path`.

    Without `labels_path` the classes are called class_0, class_1 and so on. The build has no features: those are the
    business of whoever trained the model. Raises KwsError, leaving `out` as it was, if an input cannot be used or an
    arrow is past its tolerance.
    """
    given = read_onnx(model_path)
    for sentence in given.notes:
        note(sentence)
    make_folder(out)
    clip_shape = given.input_shape[1:]
    calibration = read_inputs(calibration_path, clip_shape, most=options.calibration_clips)
    answer = OnnxRuntime(given.as_given.SerializeToString(), str(model_path))
    classes = _classes(model_path, answer(calibration[:1]))
    labels = [f"class_{index}" for index in range(classes)]
    source = Source(
        origin="given ONNX",
        answer=answer,
        export=lambda path: _write(given, path),
        calibration=calibration,
        proof=read_inputs(calibration_path, clip_shape, most=PROOF_CLIPS),
        fields={
            "labels": labels if labels_path is None else read_labels(labels_path, classes),
            "source": {"onnx": model_path.name, "sha256": sha256_file(model_path)},
        },
    )
    return build(source, out, options)


def _classes(model_path: Path, logits: FloatArray) -> int:
    if logits.ndim != 2 or len(logits) != 1:
        raise KwsError(
            f"{model_path}: answers one input with shape {logits.shape}; end it in (1, classes), for example with a "
            "Flatten."
        )
    if not np.isfinite(logits).all():
        raise KwsError(
            f"{model_path}: answers the first calibration input with NaN or infinity; look for weights or inputs that "
            "overflow float32."
        )
    return int(logits.shape[1])


def _write(given: GivenModel, path: Path) -> onnx.ModelProto:
    path.write_bytes(given.model.SerializeToString(deterministic=True))
    return given.model
