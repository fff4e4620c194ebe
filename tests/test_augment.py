from __future__ import annotations

import dataclasses

import numpy as np
import torch

from kws.augment import Augmenter
from kws.config import FeatureConfig, TrainConfig

FEATURES = FeatureConfig()
CPU = torch.device("cpu")
SHIFT_ONLY = TrainConfig(noise_probability=0.0)
NONE_SILENT = torch.zeros(64, dtype=torch.bool)


def impulses(n: int = 64) -> torch.Tensor:
    samples = torch.zeros(n, 16_000)
    samples[:, 8000] = 0.5
    return samples


def noise() -> list[np.ndarray]:
    return [np.full(20_000, 0.25, np.float32), np.full(20_000, -0.5, np.float32)]


def test_shift_moves_a_clip_by_at_most_100_ms_either_way() -> None:
    shifted = Augmenter([], FEATURES, SHIFT_ONLY, CPU)(impulses(), NONE_SILENT, np.random.default_rng(0))
    moved = shifted.argmax(dim=1) - 8000
    assert shifted.shape == (64, 16_000)
    assert moved.abs().max() <= 1600
    assert moved.min() < -800
    assert moved.max() > 800


def test_noise_comes_with_the_stated_probability_and_amplitude() -> None:
    config = TrainConfig(shift_ms=0)
    clips = torch.zeros(4000, 16_000)
    augmented = Augmenter(noise(), FEATURES, config, CPU)(
        clips, torch.zeros(4000, dtype=torch.bool), np.random.default_rng(0)
    )
    level = augmented.abs().amax(dim=1)
    assert 0.77 < float((level > 0).float().mean()) < 0.83
    assert float(level.max()) <= 0.5 * config.noise_max_amplitude
    assert float(level.max()) > 0.9 * 0.5 * config.noise_max_amplitude


def test_silence_is_noise_up_to_its_own_level() -> None:
    silent = torch.ones(64, dtype=torch.bool)
    augmented = Augmenter(noise(), FEATURES, TrainConfig(), CPU)(
        torch.zeros(64, 16_000), silent, np.random.default_rng(0)
    )
    level = augmented.abs().amax(dim=1)
    assert (level > 0).all()
    assert float(level.max()) > 0.2


def test_same_generator_same_clips() -> None:
    augment = Augmenter(noise(), FEATURES, dataclasses.replace(TrainConfig(), seed=3), CPU)
    first = augment(impulses(), NONE_SILENT, np.random.default_rng(5))
    torch.testing.assert_close(first, augment(impulses(), NONE_SILENT, np.random.default_rng(5)), rtol=0, atol=0)
    assert not torch.equal(first, augment(impulses(), NONE_SILENT, np.random.default_rng(6)))
