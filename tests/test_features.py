from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torchaudio

from kws.config import FeatureConfig
from kws.features import CLIPS_AT_ONCE, FeatureTables, LogMel, features_of_clips

CONFIG = FeatureConfig()


def samples_of(seed: int, n: int = 16_000) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 0.1, n).astype(np.float32))


def test_shape_is_40_bands_by_98_frames() -> None:
    assert LogMel(CONFIG)(samples_of(0)).shape == (40, 98) == (CONFIG.mel_bands, CONFIG.frames)
    assert LogMel(CONFIG)(torch.stack([samples_of(0), samples_of(1)])).shape == (2, 40, 98)


def test_features_equal_a_plain_float64_computation() -> None:
    tables = FeatureTables.of(CONFIG)
    samples = samples_of(0).numpy().astype(np.float64)
    expected = np.empty((40, 98))
    for frame in range(98):
        windowed = samples[frame * 160 : frame * 160 + 480] * tables.window
        power = np.abs(np.fft.rfft(windowed, 512)) ** 2
        expected[:, frame] = np.log(power @ tables.mel_weights.astype(np.float64) + 1e-6)
    np.testing.assert_allclose(LogMel(CONFIG)(samples_of(0)).numpy(), expected, atol=1e-4)


def test_features_agree_with_torchaudio_inside_the_clip() -> None:
    reference = torchaudio.transforms.MelSpectrogram(
        16_000, n_fft=512, win_length=480, hop_length=160, n_mels=40, f_min=0, f_max=8000, center=False
    )
    ours = LogMel(CONFIG)(samples_of(0))
    theirs = torch.log(reference(torch.nn.functional.pad(samples_of(0), (16, 16))) + 1e-6)
    torch.testing.assert_close(ours, theirs[:, :98], atol=1e-4, rtol=0)


def test_a_window_inside_a_long_stream_gives_the_features_of_its_samples_alone() -> None:
    stream = samples_of(0, 48_000)
    inside = LogMel(CONFIG)(stream)[:, 100:198]
    torch.testing.assert_close(inside, LogMel(CONFIG)(stream[16_000:32_000]), atol=1e-5, rtol=0)


def test_silence_is_the_log_of_the_offset() -> None:
    np.testing.assert_allclose(LogMel(CONFIG)(torch.zeros(16_000)).numpy(), np.log(1e-6), rtol=1e-6)


def test_window_is_periodic_and_every_mel_band_hears_something() -> None:
    tables = FeatureTables.of(CONFIG)
    assert tables.window[0] == 0.0
    assert tables.window[240] == 1.0
    assert tables.window[1] == tables.window[479]
    assert tables.mel_weights.shape == (257, 40)
    assert (tables.mel_weights.sum(axis=0) > 0).all()


@pytest.mark.parametrize("change", [{"hop_samples": 161}, {"window_samples": 479}, {"mel_low_hz": 20.0}])
def test_a_changed_number_changes_the_features(change: dict[str, float]) -> None:
    other = LogMel(dataclasses.replace(CONFIG, **change))(samples_of(0))[:, :97]
    assert not torch.allclose(other, LogMel(CONFIG)(samples_of(0))[:, :97], atol=1e-3)


def test_clips_in_batches_equal_clips_alone() -> None:
    pcm = np.random.default_rng(0).integers(-9000, 9000, (130, 16_000)).astype(np.int16)
    batched = features_of_clips(pcm, CONFIG)
    assert batched.shape == (130, 1, 40, 98)
    assert batched.dtype == np.float32
    np.testing.assert_allclose(batched[129:], features_of_clips(pcm[129:], CONFIG), atol=1e-5)


def test_clips_in_parts_are_the_same_clips_in_the_same_order() -> None:
    clips = torch.stack([samples_of(seed) for seed in range(CLIPS_AT_ONCE + 3)])
    parts = LogMel(CONFIG).in_parts(clips)
    torch.testing.assert_close(parts, LogMel(CONFIG)(clips), atol=1e-5, rtol=0)
