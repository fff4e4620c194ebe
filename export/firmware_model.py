"""An int8 or int16 TFLite file and the manifest beside it, read and held against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export import cgen
from export.labels_hash import labels_sha256
from export.tflite_reader import TensorFacts, TfliteFacts, parse_tflite, read_tflite_bytes
from kws.artifact import MANIFEST_NAME, read_manifest
from kws.config import FeatureConfig, from_dict
from kws.errors import KwsError
from quantize.affine import StepType

MAX_FFT_SIZE = 8192
MAX_MEL_BANDS = 256
MAX_FRAMES = 4096
MAX_SAMPLE_RATE_HZ = 192_000


@dataclass(frozen=True, kw_only=True)
class IntegerTensor:
    """Shape and per-tensor quantization of an input or output: real = scale * (integer - zero_point)."""

    shape: tuple[int, ...]
    scale: float
    zero_point: int
    dtype: StepType

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class FirmwareModel:
    """What the firmware needs to know of a model; shapes and scales are the .tflite's own.

    `registrations` are the calls on TFLM's MicroMutableOpResolver for the ops of the model. `features` is None for a
    model that came from ONNX: how its input is made is not known here.
    """

    name: str
    data: bytes
    registrations: list[str]
    input: IntegerTensor
    output: IntegerTensor
    labels: list[str]
    features: FeatureConfig | None


def read_firmware_model(model: Path) -> FirmwareModel:
    """Read the TFLite file `model` and the manifest beside it.

    With features in the manifest the input must be (1, mel_bands, frames, 1); the output one logit a label.
    Raises KwsError if either is missing or damaged, or if they disagree.
    """
    data = read_tflite_bytes(model)
    manifest = read_manifest(model.parent, verify=[model.name])
    manifest_name = str(model.parent / MANIFEST_NAME)
    facts = parse_tflite(data, source=str(model))
    found = FirmwareModel(
        name=model.name,
        data=data,
        registrations=cgen.op_registrations(op_types(facts), source=str(model)),
        input=_integer_tensor(facts.input, "input", str(model)),
        output=_integer_tensor(facts.output, "output", str(model)),
        labels=_labels(manifest.get("labels"), manifest_name),
        features=_features(manifest["features"], manifest_name) if "features" in manifest else None,
    )
    _check_tensor(found.input, manifest.get("input"), "input", model)
    _check_tensor(found.output, manifest.get("output"), "output", model)
    _check_fit(found, model)
    if facts.labels_sha256 not in (None, labels_sha256(found.labels)):
        raise KwsError(
            f"{model}: was made for other labels than {MANIFEST_NAME} beside it has, or for these in another order; "
            "run kws quantize again."
        )
    return found


def op_types(facts: TfliteFacts) -> dict[str, str | None]:
    """For each op the type that its nodes' first input and all outputs have, None if they differ."""
    types: dict[str, set[str]] = {}
    for op in facts.operators:
        seen = types.setdefault(op.name, set())
        seen.update(facts.tensors[index].dtype for index in (*op.inputs[:1], *op.outputs))
    return {name: next(iter(seen)) if len(seen) == 1 else None for name, seen in types.items()}


def _integer_tensor(tensor: TensorFacts, which: str, source: str) -> IntegerTensor:
    remedy = "give the model that kws quantize wrote"
    types: dict[str, StepType] = {"INT8": "int8", "INT16": "int16"}
    dtype = types.get(tensor.dtype)
    if dtype is None:
        raise KwsError(f"{source}: its {which} is {tensor.dtype}, not INT8 or INT16; {remedy}.")
    lowest, highest = (-128, 127) if dtype == "int8" else (0, 0)
    if tensor.scale is None or tensor.zero_point is None or not lowest <= tensor.zero_point <= highest:
        raise KwsError(f"{source}: its {which} has no {dtype} scale and zero point; {remedy}.")
    return IntegerTensor(shape=tensor.shape, scale=tensor.scale, zero_point=tensor.zero_point, dtype=dtype)


def _labels(labels: Any, source: str) -> list[str]:
    remedy = "run kws quantize again"
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) and label for label in labels):
        raise KwsError(f"{source}: its labels are not a list of words; {remedy}.")
    if len(set(labels)) != len(labels):
        raise KwsError(f"{source}: the same label stands there twice; {remedy}.")
    for label in labels:
        try:
            cgen.c_string(label)
        except ValueError as error:
            raise KwsError(f"{source}: the label {label!r} cannot be a C string ({error}); {remedy}.") from error
    return labels


def _features(values: Any, source: str) -> FeatureConfig:
    """The manifest's FeatureConfig, checked for what the C front end can do. Raises KwsError."""
    config = from_dict(FeatureConfig, values, source)
    demands = {
        f"sample_rate_hz in 1 .. {MAX_SAMPLE_RATE_HZ}": 1 <= config.sample_rate_hz <= MAX_SAMPLE_RATE_HZ,
        f"fft_size a power of two in 4 .. {MAX_FFT_SIZE}": 4 <= config.fft_size <= MAX_FFT_SIZE
        and config.fft_size.bit_count() == 1,
        "window_samples in 1 .. fft_size": 1 <= config.window_samples <= config.fft_size,
        "hop_samples in 1 .. window_samples": 1 <= config.hop_samples <= config.window_samples,
        f"mel_bands in 1 .. {MAX_MEL_BANDS}": 1 <= config.mel_bands <= MAX_MEL_BANDS,
        "mel_low_hz below mel_high_hz, up to half the sample rate": 0
        <= config.mel_low_hz
        < config.mel_high_hz
        <= config.sample_rate_hz / 2,
        "a positive log_offset": float(np.float32(config.log_offset)) > 0,
    }
    for demand, met in demands.items():
        if not met:
            raise KwsError(f"{source}: its features must have {demand}; run kws quantize again.")
    if not 1 <= config.frames <= MAX_FRAMES:
        raise KwsError(f"{source}: a clip of its features has {config.frames} frames; run kws quantize again.")
    return config


def _check_tensor(tensor: IntegerTensor, described: Any, which: str, model: Path) -> None:
    """Raises KwsError unless the manifest's shape, scale (as float32) and zero point are the model's."""
    fields = described if isinstance(described, Mapping) else {}
    scale = fields.get("scale")
    agrees = (
        fields.get("shape") == list(tensor.shape)
        and isinstance(scale, int | float)
        and np.float32(scale) == np.float32(tensor.scale)
        and fields.get("zero_point") == tensor.zero_point
    )
    if not agrees:
        raise KwsError(
            f"{model}: its {which} is {list(tensor.shape)} with scale {tensor.scale:.9g} and zero point "
            f"{tensor.zero_point}, which is not what {MANIFEST_NAME} beside it says; run kws quantize again."
        )


def _check_fit(found: FirmwareModel, model: Path) -> None:
    """Raises KwsError unless the features, if any, fit the input, the labels the output, and both have one type."""
    if found.input.dtype != found.output.dtype:
        raise KwsError(f"{model}: takes {found.input.dtype} and answers {found.output.dtype}; run kws quantize again.")
    features = found.features
    wanted = found.input.shape if features is None else (1, features.mel_bands, features.frames, 1)
    if found.input.shape != wanted:
        raise KwsError(
            f"{model}: its input {list(found.input.shape)} is not the {list(wanted)} that {MANIFEST_NAME} describes; "
            "run kws quantize again."
        )
    if found.output.shape[-1:] != (found.output.elements,) or found.output.elements != len(found.labels):
        raise KwsError(
            f"{model}: its output {list(found.output.shape)} does not fit the {len(found.labels)} labels of "
            f"{MANIFEST_NAME}; run kws quantize again."
        )
