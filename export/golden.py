"""An input of the model and TFLM's answer to it: what the firmware tests itself with at boot."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.firmware_model import FirmwareModel, IntegerTensor
from kws.audio import to_pcm16
from kws.config import FeatureConfig
from kws.errors import KwsError
from kws.features import features_of_clips
from quantize.affine import Affine, StepArray

_PROBE = Path(__file__).with_name("golden_probe.py")
_PROBE_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Input and output of one inference, in the model's integers and shapes."""

    input: StepArray
    output: StepArray


def make_golden(model: FirmwareModel, arena_bytes: int) -> Golden:
    """Run `model`, which was checked, under TFLM in a process of its own. `arena_bytes` is what it needs there.

    Raises KwsError if TFLM does not run it.
    """
    values = _features(model.features, model.input) if model.features is not None else _noise(model.input)
    try:
        done = subprocess.run(
            [sys.executable, str(_PROBE), str(len(model.data)), str(arena_bytes)],
            input=model.data + values.tobytes(),
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise KwsError(f"{model.name}: TensorFlow Lite Micro does not come to an end with it; {_REMEDY}.") from error
    if done.returncode != 0 or len(done.stdout) != model.output.elements * np.dtype(model.output.dtype).itemsize:
        raise KwsError(f"{model.name}: TensorFlow Lite Micro cannot run it; {_REMEDY}.")
    return Golden(input=values, output=np.frombuffer(done.stdout, model.output.dtype).reshape(model.output.shape))


_REMEDY = "convert the model with kws quantize"


def _features(config: FeatureConfig, tensor: IntegerTensor) -> StepArray:
    """Those of a tone that rises and fades in a soft noise: the same each time."""
    time_s = np.arange(config.clip_samples) / config.sample_rate_hz
    sweep_hz = config.sample_rate_hz / 4 / time_s[-1] if config.clip_samples > 1 else 0.0
    tone = 0.3 * np.sin(2 * np.pi * (200 + sweep_hz * time_s / 2) * time_s) * np.exp(-2 * time_s)
    noise = np.random.default_rng(0).uniform(-0.01, 0.01, config.clip_samples)
    log_mel = features_of_clips(to_pcm16((tone + noise).astype(np.float32))[np.newaxis], config)
    quantized = Affine(tensor.scale, tensor.zero_point, dtype=tensor.dtype).quantize(log_mel)
    return np.ascontiguousarray(quantized.transpose(0, 2, 3, 1))


def _noise(tensor: IntegerTensor) -> StepArray:
    """Half of the range: as a rule that of most values that come."""
    limits = np.iinfo(tensor.dtype)
    values = np.random.default_rng(0).integers(limits.min // 2, limits.max // 2, tensor.shape)
    return values.astype(np.int8) if tensor.dtype == "int8" else values.astype(np.int16)
