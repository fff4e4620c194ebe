"""A long recording through a window: what each window holds, when it ends, and the events that come of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from kws.config import FeatureConfig, features_with_hop
from kws.detector import DetectorParams, posteriors_of_probabilities
from kws.features import features_of_clips
from kws.stream import stream_events, stream_windows

RATE_HZ = 16_000
LABELS = ["_silence_", "_unknown_", "beep"]


def recording(seconds: float, beep_at_s: float) -> npt.NDArray[np.int16]:
    """Soft noise with half a second of a loud tone."""
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    beep = 0.5 * np.sin(2 * np.pi * 1000 * time_s) * (abs(time_s - beep_at_s) < 0.25)
    noise = np.random.default_rng(0).normal(0, 1e-3, len(time_s))
    return np.round((beep + noise) * 32767).astype(np.int16)


@pytest.mark.parametrize("hop_ms", [10, 20])
@pytest.mark.parametrize("stride_frames", [1, 3, 10])
def test_a_window_holds_what_its_samples_alone_give(hop_ms: int, stride_frames: int) -> None:
    config = features_with_hop(hop_ms)
    pcm = recording(1.7, 1.2)
    times_ms, windows = stream_windows(pcm, config, stride_frames)
    length = config.window_samples + (config.frames - 1) * config.hop_samples
    stride = stride_frames * config.hop_samples
    assert windows.shape == (1 + (len(pcm) - length) // stride, 1, 40, config.frames)
    for index, (time_ms, window) in enumerate(zip(times_ms, windows, strict=True)):
        start = index * stride
        clip = np.pad(pcm[start : start + length], (0, config.clip_samples - length))
        np.testing.assert_array_equal(window, features_of_clips(clip[np.newaxis], config)[0])
        assert time_ms == (start + length) * 1000 // RATE_HZ


def test_too_few_samples_give_no_window() -> None:
    config = FeatureConfig()
    for samples, wanted in ((0, 0), (1, 0), (480, 0), (15_999, 0), (16_000, 1), (17_599, 1), (17_600, 2)):
        times_ms, windows = stream_windows(np.zeros(samples, np.int16), config, 10)
        assert len(times_ms) == len(windows) == wanted


def test_events_come_when_the_word_is_in_the_window() -> None:
    def loud_is_a_beep(windows: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
        share = (windows.max(axis=(1, 2)) > 5).mean(axis=-1) * 2
        return posteriors_of_probabilities(np.stack([1 - share, 0 * share, share], axis=1))

    params = DetectorParams(threshold=0.8)
    (event,) = stream_events(recording(4, 2.0), FeatureConfig(), params, LABELS, loud_is_a_beep)
    assert event.label == 2
    assert 2250 <= event.time_ms <= 2600
    assert stream_events(recording(0.5, 0.2), FeatureConfig(), params, LABELS, loud_is_a_beep) == []
