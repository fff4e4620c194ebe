"""What `kws verify` runs a build on: real clips or inputs where they are given, made ones elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.arrays import read_inputs
from export.firmware_model import FirmwareModel
from export.from_checkpoint import proof_clips
from kws.audio import Pcm, to_pcm16
from kws.config import FeatureConfig
from kws.dataset import load_dataset_for
from kws.errors import KwsError
from kws.features import features_of_clips
from quantize.affine import Affine, FloatArray

_PARTIALS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class VerifyInputs:
    """`features` float32 (n, ...) as the float model takes them, `pcm` int16 (n, clip_samples) if they come from sound.

    `origin` says in words where they come from.
    """

    features: FloatArray
    pcm: Pcm | None
    origin: str


def clip_inputs(model: FirmwareModel, config: FeatureConfig, data: Path | None, count: int) -> VerifyInputs:
    """`count` clips of `data`, as in the proofs of `kws quantize`, or synthetic ones."""
    if data is None:
        pcm, origin = synthetic_clips(count, config), "synthetic clips, tones in noise; --data DATA takes real ones"
    else:
        pcm, origin = proof_clips(load_dataset_for(model.labels, data, config), count), f"clips of {data}"
    return VerifyInputs(features=features_of_clips(pcm, config), pcm=pcm, origin=origin)


def array_inputs(model: FirmwareModel, clip_shape: tuple[int, ...], path: Path | None, count: int) -> VerifyInputs:
    """`count` rows of the .npy file `path`, or noise, for a model whose input means nothing here.

    Raises KwsError if the file does not fit the model.
    """
    if path is not None:
        return VerifyInputs(features=read_inputs(path, clip_shape, most=count), pcm=None, origin=f"inputs of {path}")
    if not all(isinstance(size, int) for size in clip_shape):
        raise KwsError(f"The float model takes inputs of no fixed shape ({clip_shape}); run kws quantize again.")
    limits = np.iinfo(model.input.dtype)
    affine = Affine(model.input.scale, model.input.zero_point, dtype=model.input.dtype)
    # A quarter of the range: where all values were as large as the largest ever are, tensors would saturate.
    steps = np.random.default_rng(0).integers(limits.min // 4, limits.max // 4, (count, *clip_shape))
    noise = affine.dequantize(steps.astype(model.input.dtype))
    return VerifyInputs(features=noise, pcm=None, origin="inputs of noise; --inputs NPY takes real ones")


def synthetic_clips(count: int, config: FeatureConfig) -> Pcm:
    """int16 (count, clip_samples), the same on each call: voices of a few gliding partials that swell once or twice, of
    any level, in noise of any level."""
    rng = np.random.default_rng(0)
    time = np.linspace(0.0, 1.0, config.clip_samples, endpoint=False)
    seconds = config.clip_samples / config.sample_rate_hz
    clips = np.empty((count, config.clip_samples), np.float32)
    for clip in clips:
        pitch_hz, glide = rng.uniform(80, 400), rng.uniform(-0.5, 0.5)
        phase = 2 * np.pi * pitch_hz * seconds * (time + glide * time**2 / 2)
        amplitudes = rng.uniform(0, 1, _PARTIALS) / _PARTIALS
        voice = sum(level * np.sin((index + 1) * phase) for index, level in enumerate(amplitudes))
        swell = np.sin(np.pi * rng.integers(1, 3) * time) ** 2
        clip[:] = 10 ** rng.uniform(-2, 0) * voice * swell + rng.normal(0, 10 ** rng.uniform(-4, -1), len(time))
    return to_pcm16(clips)
