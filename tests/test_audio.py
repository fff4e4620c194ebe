from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import tone

from kws.audio import fit_clip, read_audio, to_float, to_pcm16
from kws.errors import KwsError


def test_wav_and_flac_read_back_the_same_samples(tmp_path: Path) -> None:
    samples = tone(440.0)
    for name in ("a.wav", "a.flac"):
        soundfile.write(tmp_path / name, samples, 16_000, subtype="PCM_16")
        read = read_audio(tmp_path / name, 16_000)
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, samples, atol=1 / 32768)


def test_stereo_is_averaged(tmp_path: Path) -> None:
    stereo = np.stack([tone(440.0), np.zeros(16_000, np.float32)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", 16_000), tone(440.0) / 2, atol=1e-6)


def test_other_rates_are_resampled(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440.0, rate_hz=44_100), 44_100, subtype="FLOAT")
    read = read_audio(tmp_path / "a.wav", 16_000)
    assert len(read) == 16_000
    np.testing.assert_allclose(read[200:-200], tone(440.0)[200:-200], atol=1e-3)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [(b"", "decoded"), (b"RIFF nothing", "decoded"), (b"\x00" * 4096, "decoded")],
)
def test_files_that_are_no_audio_are_refused_by_name(tmp_path: Path, content: bytes, wrong: str) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(KwsError, match=wrong) as caught:
        read_audio(path, 16_000)
    assert "bad.wav" in str(caught.value)


def test_empty_and_nan_recordings_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16_000)
    with pytest.raises(KwsError, match="no samples"):
        read_audio(tmp_path / "empty.wav", 16_000)
    soundfile.write(tmp_path / "nan.wav", np.full(16_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    with pytest.raises(KwsError, match="NaN"):
        read_audio(tmp_path / "nan.wav", 16_000)


def test_short_clips_are_padded_at_the_end() -> None:
    clip = fit_clip(np.ones(10, np.float32), 16)
    assert clip.tolist() == [1.0] * 10 + [0.0] * 6


def test_long_clips_keep_their_loudest_stretch() -> None:
    samples = np.full(40_000, 0.01, np.float32)
    samples[20_000:30_000] = 0.5
    clip = fit_clip(samples, 16_000)
    assert len(clip) == 16_000
    assert np.count_nonzero(clip == 0.5) == 10_000


def test_pcm16_survives_the_round_trip_and_clips_what_is_too_loud() -> None:
    pcm = np.arange(-32768, 32768).astype(np.int16)
    np.testing.assert_array_equal(to_pcm16(to_float(pcm)), pcm)
    assert to_pcm16(np.array([2.0, -2.0], np.float32)).tolist() == [32767, -32768]


def test_a_file_name_that_is_no_utf8_is_read_all_the_same(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "plain.wav", np.full(1600, 0.25), 16_000)
    strange = tmp_path / os.fsdecode(b"caf\xe9.wav")
    (tmp_path / "plain.wav").rename(strange)
    np.testing.assert_allclose(read_audio(strange, 16_000), 0.25, atol=1e-4)
