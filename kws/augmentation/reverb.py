"""Rooms: an impulse response of decaying noise for each clip that gets one."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

REVERB_TIME_S = (0.1, 0.5)
DIRECT_TO_REVERB_DB = (0.0, 15.0)


def reverberate(samples: Tensor, chosen: np.ndarray, rate_hz: int, rng: np.random.Generator) -> Tensor:
    """float32 (n, samples); the clips where `chosen` (bool, (n,)) sound as in a room, the others stay as they are.

    The room is noise whose power falls by 60 dB in a random reverberation time (Moorer 1979, "About this
    reverberation business"), under the direct sound by a random ratio; the power of the clip is kept.
    """
    rows = np.flatnonzero(chosen)
    if not len(rows):
        return samples
    device = samples.device
    index = torch.from_numpy(rows).to(device)
    dry, length = samples[index], samples.shape[1]
    tail = _impulse_responses(len(rows), rate_hz, rng).to(device)
    size = _fast_size(length + tail.shape[1])
    spectrum = torch.fft.rfft(dry, n=size) * torch.fft.rfft(tail, n=size)
    wet = torch.fft.irfft(spectrum, n=size)[:, :length]
    level = dry.square().mean(1, keepdim=True) / wet.square().mean(1, keepdim=True).clamp_min(1e-12)
    return samples.index_copy(0, index, wet * level.sqrt())


def _impulse_responses(n: int, rate_hz: int, rng: np.random.Generator) -> Tensor:
    """float32 (n, REVERB_TIME_S[1] * rate_hz), the direct sound first."""
    length = round(REVERB_TIME_S[1] * rate_hz)
    reverb_s = rng.uniform(*REVERB_TIME_S, (n, 1))
    decay = np.exp(-3 * math.log(10) * np.arange(length) / rate_hz / reverb_s)
    tail = rng.standard_normal((n, length), dtype=np.float32) * decay
    ratio = 10 ** (-rng.uniform(*DIRECT_TO_REVERB_DB, (n, 1)) / 20)
    tail *= ratio / np.sqrt(np.square(tail).sum(axis=1, keepdims=True))
    tail[:, 0] = 1.0
    return torch.from_numpy(tail.astype(np.float32))


def _fast_size(least: int) -> int:
    """The next multiple of a power of two whose factor is small: fast for the FFT."""
    unit = 1 << max(0, least.bit_length() - 3)
    return -(-least // unit) * unit
