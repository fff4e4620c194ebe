"""Cutting to the word, noise at a stated level, rooms: each against its definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE_HZ, tone

from kws.errors import KwsError
from kws.overlay import PEAK_LIMIT, in_room, over_noise, read_noise, read_response
from kws.wordcut import cut_word, word_span

RNG = np.random.default_rng(0)


def hiss(count: int, level: float) -> np.ndarray:
    return (level * RNG.standard_normal(count)).astype(np.float32)


def word_at(start: int, length: int, total: int, background: float = 0.0) -> np.ndarray:
    samples = hiss(total, background)
    samples[start : start + length] += 0.3 * np.sin(2 * np.pi * 440 * np.arange(length) / RATE_HZ).astype(np.float32)
    return samples


def power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


@pytest.mark.parametrize("background", [0.0, 0.003, 0.03])
def test_the_word_is_found_in_its_background(background: float) -> None:
    start, stop = word_span(word_at(16_000, 8_000, 48_000, background))
    assert abs(start - 16_000) <= 160
    assert abs(stop - 24_000) <= 160


def test_a_constant_offset_is_no_word() -> None:
    start, stop = word_span(word_at(16_000, 8_000, 48_000) + np.float32(0.2))
    assert (start, stop) == (16_000, 24_000)
    assert word_span(np.full(16_000, 0.5, np.float32)) is None


def test_silence_and_nothing_are_no_word() -> None:
    assert word_span(hiss(16_000, 0.0005)) is None
    assert word_span(np.zeros(16_000, np.float32)) is None
    assert word_span(np.zeros(10, np.float32)) is None
    assert word_span(hiss(16_000, 0.002)) is not None


@pytest.mark.parametrize(
    ("start", "length", "total", "first"),
    [
        (16_000, 8_000, 48_000, 12_000),
        (0, 8_000, 48_000, 0),
        (40_000, 8_000, 48_000, 32_000),
        (0, 16_000, 16_000, 0),
        (0, 8_000, 8_000, -4_000),
        (100, 4_000, 8_000, -5_900),
        (0, 1_000, 12_000, -4_000),
    ],
)
def test_the_word_stands_in_the_middle_as_far_as_the_recording_allows(
    start: int, length: int, total: int, first: int
) -> None:
    samples = np.arange(1, total + 1, dtype=np.float32)
    clip = cut_word(samples, (start, start + length), 16_000)
    expected = np.array([samples[i] if 0 <= i < total else 0 for i in range(first, first + 16_000)])
    np.testing.assert_array_equal(clip, expected)


def test_of_a_long_word_the_loudest_second_is_kept() -> None:
    samples = word_at(0, 40_000, 40_000)
    samples[12_345:28_345] *= 2
    np.testing.assert_array_equal(cut_word(samples, (0, 40_000), 16_000), samples[12_345:28_345])


@pytest.mark.parametrize("snr_db", [-5, 0, 5, 10, 20])
@pytest.mark.parametrize("level", [0.01, 0.3])
def test_noise_is_as_much_quieter_than_the_word_as_stated(snr_db: float, level: float) -> None:
    speech = word_at(4_000, 6_000, 16_000) * np.float32(level)
    noise = hiss(16_000, 0.05)
    mixed = over_noise(speech, noise, (4_000, 10_000), snr_db)
    laid_over = mixed - speech
    assert 10 * np.log10(power(speech[4_000:10_000]) / power(laid_over)) == pytest.approx(snr_db, abs=0.01)
    assert np.corrcoef(laid_over, noise)[0, 1] > 0.999


def test_a_mix_that_would_clip_is_made_quieter_at_the_same_snr() -> None:
    speech = word_at(4_000, 6_000, 16_000) * np.float32(3)
    noise = hiss(16_000, 0.05)
    mixed = over_noise(speech, noise, (4_000, 10_000), 0)
    assert np.abs(mixed).max() == pytest.approx(PEAK_LIMIT)
    of_speech, of_noise = np.linalg.lstsq(np.stack([speech, noise], 1), mixed, rcond=None)[0]
    ratio = power(of_speech * speech[4_000:10_000]) / power(of_noise * noise)
    assert 10 * np.log10(ratio) == pytest.approx(0, abs=0.01)


def test_a_room_is_the_convolution_with_its_response_from_the_direct_sound_on() -> None:
    speech = word_at(4_000, 6_000, 16_000, 0.01)
    response = np.concatenate([hiss(50, 0.01), [0.9], hiss(3_000, 0.05)]).astype(np.float32)
    expected = np.convolve(speech.astype(np.float64), response[50:].astype(np.float64))[:16_000]
    expected *= np.sqrt(power(speech) / power(expected))
    np.testing.assert_allclose(in_room(speech, response), expected, atol=1e-6)


def test_a_room_without_echo_changes_nothing() -> None:
    speech = word_at(4_000, 6_000, 16_000, 0.01)
    np.testing.assert_allclose(in_room(speech, np.array([0, 0, -0.5], np.float32)), -speech, atol=1e-6)


def test_noise_is_cut_from_its_part_of_the_recording(tmp_path: Path) -> None:
    ramp = np.linspace(0.01, 0.9, 160_000, dtype=np.float32)
    soundfile.write(tmp_path / "ramp.wav", ramp, RATE_HZ, subtype="FLOAT")
    for position in (0.0, 0.5, 1.0):
        noise = read_noise(tmp_path / "ramp.wav", (0.0, 0.8), 16_000, RATE_HZ, position)
        start = round(position * (128_000 - 16_001))
        np.testing.assert_allclose(noise, ramp[start : start + 16_000], atol=1e-5)


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
def test_noise_of_another_rate_is_resampled(tmp_path: Path, rate_hz: int) -> None:
    pitch = np.sin(2 * np.pi * 1_000 * np.arange(5 * rate_hz) / rate_hz)
    soundfile.write(tmp_path / "hum.flac", np.stack([pitch, pitch], 1) * 0.4, rate_hz)
    noise = read_noise(tmp_path / "hum.flac", (0.0, 1.0), 16_000, RATE_HZ, 0.3)
    assert noise.shape == (16_000,)
    assert np.abs(np.fft.rfft(noise)).argmax() == 1_000


def test_noise_hardly_longer_than_a_clip_is_used_as_a_whole(tmp_path: Path) -> None:
    ramp = np.linspace(0.01, 0.9, 18_000, dtype=np.float32)
    soundfile.write(tmp_path / "ramp.wav", ramp, RATE_HZ, subtype="FLOAT")
    for position, start in ((0.0, 0), (1.0, 1_999)):
        noise = read_noise(tmp_path / "ramp.wav", (0.0, 0.8), 16_000, RATE_HZ, position)
        np.testing.assert_allclose(noise, ramp[start : start + 16_000], atol=1e-5)


def test_short_noise_is_repeated_and_silent_stretches_are_passed_over(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", hiss(3_000, 0.1), RATE_HZ)
    short = read_noise(tmp_path / "short.wav", (0.0, 0.8), 16_000, RATE_HZ, 0.5)
    np.testing.assert_array_equal(short[:3_000], short[3_000:6_000])
    late = np.concatenate([np.zeros(100_000, np.float32), hiss(16_000, 0.1)])
    soundfile.write(tmp_path / "late.wav", late, RATE_HZ)
    assert power(read_noise(tmp_path / "late.wav", (0.0, 0.8), 16_000, RATE_HZ, 0.0)) > 0.005


def test_noise_and_responses_of_no_use_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "zeros.wav", np.zeros(20_000, np.float32), RATE_HZ)
    (tmp_path / "text.wav").write_text("no audio")
    for read in (
        lambda path: read_noise(path, (0.0, 1.0), 16_000, RATE_HZ, 0.5),
        lambda path: read_response(path, RATE_HZ),
    ):
        with pytest.raises(KwsError, match=r"zeros\.wav: holds only zeros"):
            read(tmp_path / "zeros.wav")
        with pytest.raises(KwsError, match=r"text\.wav: cannot be decoded"):
            read(tmp_path / "text.wav")


def test_a_tone_that_fades_is_one_word() -> None:
    start, stop = word_span(tone(440.0))
    assert stop - start > 14_000
