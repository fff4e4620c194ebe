"""What happens to a clip at training time only: time shift and background noise, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kws.audio import Samples
from kws.config import FeatureConfig, TrainConfig


class Augmenter:
    """Random shift of +-shift_ms filled with zeros, then noise with noise_probability (paper, sec. 4.1)."""

    def __init__(
        self, noise: Sequence[Samples], features: FeatureConfig, config: TrainConfig, device: torch.device
    ) -> None:
        self.config = config
        self.clip_samples = features.clip_samples
        self.shift_samples = config.shift_ms * features.sample_rate_hz // 1000
        self.device = device
        self.noise = torch.from_numpy(np.concatenate(list(noise))).to(device) if noise else None
        lengths = np.array([len(recording) for recording in noise], np.int64)
        self.noise_offsets = np.cumsum(lengths) - lengths
        self.noise_windows = lengths - features.clip_samples + 1

    def __call__(self, samples: Tensor, is_silence: Tensor, rng: np.random.Generator) -> Tensor:
        """float32 (n, clip_samples) -> the same shape; where `is_silence` (bool, (n,)) the clip is noise alone,
        at a random level up to that of the recording."""
        samples = self._shift(samples, rng)
        if self.noise is None:
            return samples
        n = len(samples)
        amplitude = rng.uniform(0, self.config.noise_max_amplitude, n) * (rng.random(n) < self.config.noise_probability)
        amplitude = np.where(is_silence.cpu().numpy(), rng.uniform(0, 1, n), amplitude)
        gain = torch.from_numpy(amplitude.astype(np.float32)).to(self.device)
        return (samples + gain[:, None] * self._noise_clips(n, rng)).clamp(-1, 1)

    def _shift(self, samples: Tensor, rng: np.random.Generator) -> Tensor:
        reach = self.shift_samples
        starts = torch.from_numpy(rng.integers(0, 2 * reach + 1, len(samples))).to(self.device)
        padded = torch.nn.functional.pad(samples, (reach, reach))
        return padded.unfold(1, self.clip_samples, 1)[torch.arange(len(samples), device=self.device), starts]

    def _noise_clips(self, n: int, rng: np.random.Generator) -> Tensor:
        assert self.noise is not None
        recordings = rng.choice(len(self.noise_windows), n, p=self.noise_windows / self.noise_windows.sum())
        starts = self.noise_offsets[recordings] + rng.integers(0, self.noise_windows[recordings])
        return self.noise.unfold(0, self.clip_samples, 1)[torch.from_numpy(starts).to(self.device)]
