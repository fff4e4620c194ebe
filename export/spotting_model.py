"""Any form of a trained model -> what answers windows of a stream with posteriors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import numpy as np
import torch

from export.build import FLOAT_ONNX, PREPARED_ONNX, ModelFiles
from export.firmware_model import FirmwareModel, read_firmware_model
from kws.artifact import MANIFEST_NAME, read_manifest
from kws.checkpoint import load_checkpoint
from kws.config import FeatureConfig
from kws.detector import Posteriors, posteriors_of_logits, posteriors_of_probabilities
from kws.errors import KwsError
from kws.stream import PosteriorsOf
from quantize.affine import Affine, FloatArray, StepArray, StepType
from quantize.runtimes import OnnxRuntime, TflmRuntime

KINDS = "a checkpoint.pt, a folder of kws quantize, or a .onnx or .tflite in it"


@dataclass(frozen=True, kw_only=True)
class SpottingModel:
    """`posteriors_of` takes log-mel windows float32 (n, 1, mel_bands, frames). `form` is float, int8 or int16."""

    path: Path
    labels: list[str]
    features: FeatureConfig
    form: str
    runtime: str
    posteriors_of: PosteriorsOf


def open_model(path: Path) -> SpottingModel:
    """`path` is one of KINDS; a folder stands for its integer .tflite.

    A .tflite runs under TensorFlow Lite for Microcontrollers, so that its posteriors are the firmware's; ONNX models
    run under onnxruntime, several times as fast. Raises KwsError if it is none of these, damaged, was changed, or came
    from an ONNX model, whose features nobody knows.
    """
    if path.is_dir():
        path = path / build_files(path).tflite
    if path.suffix == ".pt":
        return _of_checkpoint(path)
    if path.suffix not in (".onnx", ".tflite"):
        raise KwsError(f"{path}: is no model; give {KINDS}.")
    if not path.is_file():
        raise KwsError(f"{path}: no such file; give {KINDS}.")
    return _of_build(path)


def build_files(build: Path) -> ModelFiles:
    """The files of the build in folder `build`. Raises KwsError if its manifest does not tell."""
    options = read_manifest(build, verify=[]).get("options")
    activations = options.get("activations") if isinstance(options, dict) else None
    if activations not in get_args(StepType):
        raise KwsError(f"{build / MANIFEST_NAME}: does not say what its model computes with; run kws quantize again.")
    return ModelFiles(cast(StepType, activations))


def _of_checkpoint(path: Path) -> SpottingModel:
    checkpoint = load_checkpoint(path)
    network = checkpoint.build()

    def answer(windows: FloatArray) -> FloatArray:
        with torch.inference_mode():
            logits: FloatArray = np.concatenate([network(torch.tensor(w[np.newaxis])).numpy() for w in windows])
        return logits

    return SpottingModel(
        path=path,
        labels=checkpoint.labels,
        features=checkpoint.features,
        form="float",
        runtime="torch",
        posteriors_of=lambda windows: _of_float_logits(answer(windows)),
    )


def _of_build(path: Path) -> SpottingModel:
    files = build_files(path.parent)
    if path.name not in files.all:
        raise KwsError(f"{path}: is none of {', '.join(files.all)}; give {KINDS}.")
    read_manifest(path.parent, verify=[path.name])
    facts = read_firmware_model(path.parent / files.tflite)
    if facts.features is None:
        raise KwsError(f"{path}: came from an ONNX model and has no features; give a build of a kws checkpoint.")
    is_float = path.name in (FLOAT_ONNX, PREPARED_ONNX)
    return SpottingModel(
        path=path,
        labels=facts.labels,
        features=facts.features,
        form="float" if is_float else files.activations,
        runtime="TFLM" if path.suffix == ".tflite" else "onnxruntime",
        posteriors_of=_float_answers(path) if is_float else _integer_answers(path, facts),
    )


def _float_answers(path: Path) -> PosteriorsOf:
    runtime = OnnxRuntime(path)
    return lambda windows: _of_float_logits(runtime(windows))


def _integer_answers(path: Path, facts: FirmwareModel) -> PosteriorsOf:
    if path.suffix == ".tflite":
        device = TflmRuntime(facts.data)
        return lambda windows: posteriors_of_logits(device(windows), facts.output.scale)
    logits_of = simulated_logits(path, facts)
    return lambda windows: posteriors_of_logits(logits_of(windows), facts.output.scale)


def simulated_logits(qdq: Path, facts: FirmwareModel) -> Callable[[FloatArray], StepArray]:
    """The integer logits of the QDQ model at `qdq`, which simulates the .tflite of `facts`."""
    runtime = OnnxRuntime(qdq)
    output = Affine(facts.output.scale, facts.output.zero_point, dtype=facts.output.dtype)
    return lambda windows: output.quantize(runtime(windows))


def _of_float_logits(logits: FloatArray) -> Posteriors:
    return posteriors_of_probabilities(torch.softmax(torch.from_numpy(logits), dim=1).numpy())
