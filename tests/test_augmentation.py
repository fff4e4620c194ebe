from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from kws.augmentation import Augmenter
from kws.augmentation.masks import MASKS_EACH, mask
from kws.augmentation.noise import COLOUR_SLOPES, COLOURED_LEVEL, coloured_noise
from kws.augmentation.reverb import reverberate
from kws.augmentation.warp import change_speed, shift
from kws.config import FeatureConfig, TrainConfig

FEATURES = FeatureConfig()
CPU = torch.device("cpu")
RATE_HZ = FEATURES.sample_rate_hz
SHIFT_ONLY = TrainConfig(shift_ms=100, noise_probability=0.0)
STILL = TrainConfig(shift_ms=0, noise_probability=0.0)
NONE_SILENT = np.zeros(64, bool)


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
    config = TrainConfig(shift_ms=0, snr_share=0.0)
    clips = torch.zeros(4000, 16_000)
    augmented = Augmenter(noise(), FEATURES, config, CPU)(clips, np.zeros(4000, bool), np.random.default_rng(0))
    level = augmented.abs().amax(dim=1)
    assert 0.77 < float((level > 0).float().mean()) < 0.83
    assert float(level.max()) <= 0.5 * config.noise_max_amplitude
    assert float(level.max()) > 0.9 * 0.5 * config.noise_max_amplitude


def test_a_loud_clip_in_noise_stays_within_full_scale() -> None:
    config = TrainConfig(shift_ms=0, snr_share=0.0, noise_probability=1.0)
    loud = torch.full((64, 16_000), 0.99)
    augmented = Augmenter(noise(), FEATURES, config, CPU)(loud, NONE_SILENT, np.random.default_rng(0))
    assert float(augmented.max()) == 1.0


def test_silence_is_noise_up_to_its_own_level() -> None:
    silent = np.ones(64, bool)
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


def power_db(samples: torch.Tensor) -> torch.Tensor:
    return 10 * samples.square().mean(dim=1).log10()


def speech_like(n: int, level: float = 0.1) -> torch.Tensor:
    return level * torch.randn(n, 16_000, generator=torch.Generator().manual_seed(1))


def test_positive_places_move_a_word_to_an_earlier_time_and_zeros_follow() -> None:
    moved = shift(torch.arange(1.0, 9.0).repeat(3, 1), np.array([0, 2, -3]), 3)
    assert moved[0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert moved[1].tolist() == [3, 4, 5, 6, 7, 8, 0, 0]
    assert moved[2].tolist() == [0, 0, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_speech_that_is_faster_is_higher_and_shorter_by_the_same_factor(factor: float) -> None:
    time_s = torch.arange(16_000) / RATE_HZ
    word = (torch.sin(2 * torch.pi * 1000 * time_s) * ((time_s > 0.3) & (time_s < 0.7)))[None]
    changed = change_speed(word, np.array([factor]))
    peak_hz = int(torch.fft.rfft(changed[0]).abs().argmax())
    assert peak_hz == pytest.approx(1000 * factor, abs=2)
    loud = changed[0].abs().gt(0.01).nonzero()
    assert float(loud.max() - loud.min()) / RATE_HZ == pytest.approx(0.4 / factor, abs=0.002)
    assert float(loud.max() + loud.min()) / 2 == pytest.approx(8000, abs=8)


def test_speed_one_changes_nothing() -> None:
    clips = speech_like(3)
    torch.testing.assert_close(change_speed(clips, np.ones(3)), clips, rtol=0, atol=0)


def test_a_room_keeps_the_power_of_a_clip_and_lets_it_ring_on() -> None:
    click = torch.zeros(2, 16_000)
    click[:, 1000] = 0.5
    wet = reverberate(click, np.array([True, False]), RATE_HZ, np.random.default_rng(0))
    torch.testing.assert_close(wet[1], click[1], rtol=0, atol=0)
    torch.testing.assert_close(power_db(wet), power_db(click), rtol=0, atol=0.01)
    assert wet[0, :990].abs().max() < 1e-5
    early, late = wet[0, 1010:2600].square().sum(), wet[0, 7000:8600].square().sum()
    assert early > 0
    assert late < early / 10


def test_reverb_meets_the_stated_share_of_clips() -> None:
    config = dataclasses.replace(STILL, reverb_probability=0.25)
    clips = speech_like(400)
    changed = (Augmenter([], FEATURES, config, CPU)(clips, np.zeros(400, bool), rng()) - clips).abs()
    assert 0.18 < float((changed.amax(dim=1) > 1e-4).float().mean()) < 0.32


def test_gain_is_even_in_decibels_up_to_its_limit() -> None:
    clips = speech_like(64, level=0.01)
    louder = Augmenter([], FEATURES, dataclasses.replace(STILL, gain_db=6.0), CPU)(clips, NONE_SILENT, rng())
    change = power_db(louder) - power_db(clips)
    assert change.abs().max() <= 6.001
    assert change.max() > 4.5
    assert change.min() < -4.5


def test_noise_by_ratio_has_that_ratio_to_the_clip() -> None:
    config = dataclasses.replace(
        STILL, noise_probability=1.0, snr_share=1.0, snr_low_db=5.0, snr_high_db=15.0, noise_max_amplitude=0.0
    )
    clips = speech_like(64)
    added = Augmenter([speech_like(1)[0].numpy()], FEATURES, config, CPU)(clips, NONE_SILENT, rng()) - clips
    ratio = power_db(clips) - power_db(added)
    assert 4.9 < ratio.min() < 7
    assert 13 < ratio.max() < 15.1


def test_noise_by_ratio_to_digital_silence_is_nothing_and_not_nan() -> None:
    config = dataclasses.replace(STILL, noise_probability=1.0, snr_share=1.0)
    augmented = Augmenter(noise(), FEATURES, config, CPU)(torch.zeros(64, 16_000), NONE_SILENT, rng())
    assert augmented.abs().max() == 0


def test_coloured_noise_falls_with_frequency_as_its_slope_says() -> None:
    recordings = coloured_noise(RATE_HZ, seed=0)
    assert len(recordings) == len(COLOUR_SLOPES)
    for slope, recording in zip(COLOUR_SLOPES, recordings, strict=True):
        power = np.abs(np.fft.rfft(recording)) ** 2
        hz = np.fft.rfftfreq(len(recording), 1 / RATE_HZ)
        octaves = [power[(hz >= low) & (hz < 2 * low)].mean() for low in (500, 1000, 2000)]
        assert np.sqrt(np.mean(recording**2)) == pytest.approx(COLOURED_LEVEL, rel=1e-3)
        assert octaves[0] / octaves[1] == pytest.approx(2**slope, rel=0.1)
        assert octaves[1] / octaves[2] == pytest.approx(2**slope, rel=0.1)


def test_without_recordings_words_meet_coloured_noise() -> None:
    clips = torch.zeros(64, 16_000)
    heard = Augmenter([], FEATURES, TrainConfig(shift_ms=0, snr_share=0.0), CPU)(clips, NONE_SILENT, rng())
    assert 40 <= int((heard.abs().amax(dim=1) > 0).sum()) <= 60


def test_masks_take_the_mean_of_their_clip_and_are_as_wide_as_stated() -> None:
    log_mel = torch.randn(200, 40, 98, generator=torch.Generator().manual_seed(0))
    masked = mask(log_mel, 7, 20, rng())
    hidden = masked != log_mel
    mean = log_mel.mean(dim=(1, 2), keepdim=True).expand_as(log_mel)
    torch.testing.assert_close(masked[hidden], mean[hidden])
    bands, frames = hidden.all(dim=2).sum(dim=1), hidden.all(dim=1).sum(dim=1)
    assert 0 <= bands.min() < 3
    assert MASKS_EACH * 5 <= bands.max() <= MASKS_EACH * 6
    assert MASKS_EACH * 16 <= frames.max() <= MASKS_EACH * 19
    assert len({tuple(row.tolist()) for row in hidden.all(dim=2)}) > 50
    torch.testing.assert_close(mask(log_mel, 0, 0, rng()), log_mel, rtol=0, atol=0)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)
