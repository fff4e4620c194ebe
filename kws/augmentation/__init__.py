"""What happens to a clip at training time only, a batch at a time on the training device.

Samples in the order of the air: speed and shift of the speaker, the room's reverb, the microphone's gain, background
noise. Masks (SpecAugment) are laid on the log-mel features after that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kws.audio import Samples
from kws.augmentation.noise import NoiseBank, coloured_noise
from kws.augmentation.reverb import reverberate
from kws.augmentation.warp import change_speed, shift
from kws.config import FeatureConfig, TrainConfig


class Augmenter:
    """All changes to the samples of a batch; which and how strong says `config`."""

    def __init__(
        self, noise: Sequence[Samples], features: FeatureConfig, config: TrainConfig, device: torch.device
    ) -> None:
        self.config, self.rate_hz = config, features.sample_rate_hz
        self.shift_samples = config.shift_ms * features.sample_rate_hz // 1000
        recordings = list(noise) or coloured_noise(features.sample_rate_hz, config.seed)
        self.noise = NoiseBank(recordings, features.clip_samples, device)

    def __call__(self, samples: Tensor, is_silence: np.ndarray, rng: np.random.Generator) -> Tensor:
        """float32 (n, clip_samples) -> the same shape; where `is_silence` (bool, (n,)) the clip is noise alone,
        at a random level up to that of the recording."""
        config, n = self.config, len(samples)
        if config.speed_change:
            samples = change_speed(samples, rng.uniform(1 - config.speed_change, 1 + config.speed_change, n))
        samples = shift(samples, rng.integers(-self.shift_samples, self.shift_samples + 1, n), self.shift_samples)
        if config.reverb_probability:
            samples = reverberate(samples, rng.random(n) < config.reverb_probability, self.rate_hz, rng)
        if config.gain_db:
            decibels = rng.uniform(-config.gain_db, config.gain_db, n)
            samples = samples * _column(10 ** (decibels / 20), samples)
        noise, level = self._noise(samples, is_silence, rng)
        return torch.addcmul(samples, level, noise).clamp_(-1, 1)

    def _noise(self, samples: Tensor, is_silence: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Noise by the paper's amplitude (sec. 4.1), or for a share of the clips by a ratio to the clip's power.

        Returns it as recorded, (n, clip_samples), and the factors to take it times, (n, 1).
        """
        config, n = self.config, len(samples)
        clips = self.noise.draw(n, rng)
        is_noisy = rng.random(n) < config.noise_probability
        amplitude = rng.uniform(0, config.noise_max_amplitude, n) * is_noisy
        amplitude = np.where(is_silence, rng.uniform(0, 1, n), amplitude)
        gain = _column(amplitude, samples)
        if config.snr_share:
            by_ratio = is_noisy & ~is_silence & (rng.random(n) < config.snr_share)
            ratio_db = rng.uniform(config.snr_low_db, config.snr_high_db, n)
            wanted = samples.square().mean(1, keepdim=True) / _column(10 ** (ratio_db / 10), samples)
            level = (wanted / clips.square().mean(1, keepdim=True).clamp_min(1e-12)).sqrt()
            gain = torch.where(_column(by_ratio, samples) > 0, level, gain)
        return clips, gain


def _column(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(like.device)[:, None]
