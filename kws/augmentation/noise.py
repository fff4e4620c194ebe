"""Background noise: a bank of recordings, or coloured noise where there are none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kws.audio import Samples

COLOURED_SECONDS = 30
# Power per frequency f is f ** -slope: white, pink, and that of distant traffic and fans.
COLOUR_SLOPES = (0.0, 1.0, 2.0)
COLOURED_LEVEL = 0.1
LOWEST_HZ = 50.0


class NoiseBank:
    """Recordings, each at least a clip long, from which any stretch of a clip's length is equally likely."""

    def __init__(self, recordings: Sequence[Samples], clip_samples: int, device: torch.device) -> None:
        self.clip_samples = clip_samples
        self.samples = torch.from_numpy(np.concatenate(list(recordings))).to(device)
        lengths = np.array([len(recording) for recording in recordings], np.int64)
        self.offsets = np.cumsum(lengths) - lengths
        self.windows = lengths - clip_samples + 1

    def draw(self, n: int, rng: np.random.Generator) -> Tensor:
        """float32 (n, clip_samples)."""
        chosen = rng.choice(len(self.windows), n, p=self.windows / self.windows.sum())
        starts = self.offsets[chosen] + rng.integers(0, self.windows[chosen])
        return self.samples.unfold(0, self.clip_samples, 1)[torch.from_numpy(starts).to(self.samples.device)]


def coloured_noise(rate_hz: int, seed: int) -> list[Samples]:
    """float32 recordings of noise at the root-mean-square level COLOURED_LEVEL, one for each of COLOUR_SLOPES."""
    rng = np.random.default_rng([seed, len(COLOUR_SLOPES)])
    count = COLOURED_SECONDS * rate_hz
    frequency = np.maximum(np.fft.rfftfreq(count, 1 / rate_hz), LOWEST_HZ)
    recordings = []
    for slope in COLOUR_SLOPES:
        spectrum = np.fft.rfft(rng.normal(size=count)) * frequency ** (-slope / 2)
        noise = np.fft.irfft(spectrum, count)
        recordings.append((noise * (COLOURED_LEVEL / np.sqrt(np.mean(noise**2)))).astype(np.float32))
    return recordings
