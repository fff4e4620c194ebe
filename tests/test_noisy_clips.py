from __future__ import annotations

import numpy as np
import pytest
from conftest import RATE_HZ, tone

from kws.audio import to_float, to_pcm16
from kws.noisy_clips import SNR_DB, noisy_copies
from kws.wordcut import word_span


@pytest.fixture
def clips() -> np.ndarray:
    """int16 (3, 16000): a word of half a second in the middle."""
    words = [np.pad(tone(pitch, seconds=0.5, level=0.2), (RATE_HZ // 4, RATE_HZ // 4)) for pitch in (300, 500, 700)]
    return np.stack([to_pcm16(word) for word in words])


@pytest.fixture
def hiss() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.02, 3 * RATE_HZ).astype(np.float32)


def test_the_word_is_as_much_louder_than_the_noise_as_was_asked(clips: np.ndarray, hiss: np.ndarray) -> None:
    for level_db, noisy in noisy_copies(clips, [hiss]):
        for clip, mixed in zip(clips, noisy, strict=True):
            speech, noise = to_float(clip), to_float(mixed) - to_float(clip)
            start, stop = word_span(speech) or (0, 0)
            assert stop - start < 0.6 * RATE_HZ
            ratio = np.mean(speech[start:stop] ** 2) / np.mean(noise**2)
            assert 10 * np.log10(ratio) == pytest.approx(level_db, abs=0.05)


def test_levels_differ_in_nothing_but_the_level_and_calls_in_nothing(clips: np.ndarray, hiss: np.ndarray) -> None:
    first, again = dict(noisy_copies(clips, [hiss])), dict(noisy_copies(clips, [hiss]))
    assert tuple(first) == SNR_DB
    for level_db in SNR_DB:
        assert np.array_equal(first[level_db], again[level_db])
    loud, quiet = (to_float(first[level_db]) - to_float(clips) for level_db in (0.0, 20.0))
    assert np.corrcoef(loud.ravel(), quiet.ravel())[0, 1] > 0.99
    assert np.abs(np.corrcoef(loud)[0, 1]) < 0.1


def test_a_silent_stretch_gives_way_to_the_loudest_and_a_silent_recording_to_the_others(
    clips: np.ndarray, hiss: np.ndarray
) -> None:
    late = np.concatenate([np.zeros(60 * RATE_HZ, np.float32), hiss[:RATE_HZ]])
    for _, noisy in noisy_copies(clips, [np.zeros_like(hiss), late]):
        assert (np.abs(noisy.astype(int) - clips).max(axis=1) > 0).all()
    assert list(noisy_copies(clips, [np.zeros_like(hiss)])) == []
    assert list(noisy_copies(clips, [])) == []


def test_a_clip_without_a_word_stays_finite(hiss: np.ndarray) -> None:
    for _, noisy in noisy_copies(np.zeros((1, RATE_HZ), np.int16), [hiss]):
        assert not noisy.any()
