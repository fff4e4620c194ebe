"""Recordings, noise and rooms that the tests of `kws prepare` make themselves."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import soundfile
from conftest import RATE_HZ, tone

from kws.prepare import PrepareOptions

PLAIN = PrepareOptions()
SPEAKERS = 12


def record(path: Path, pitch_hz: float, seconds: float = 0.5, rate_hz: int = RATE_HZ, channels: int = 1) -> None:
    """A word of a known pitch in the middle of low noise, half a second before and behind it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(round(pitch_hz)).normal(0, 0.001, round((1 + seconds) * rate_hz))
    word = tone(pitch_hz, seconds, rate_hz)
    samples[rate_hz // 2 : rate_hz // 2 + len(word)] += word
    soundfile.write(os.fsencode(path), np.stack([samples] * channels, 1), rate_hz, format=path.suffix[1:].upper())


def write_recordings(src: Path) -> Path:
    """Two words of SPEAKERS speakers, each twice, and background noise."""
    for index, word in enumerate(["lamp", "music"], 1):
        for speaker in range(SPEAKERS):
            for take in range(2):
                record(src / word / f"{speaker:08x}_nohash_{take}.wav", 300.0 * index + 10 * speaker + take)
    write_noise(src / "_background_noise_" / "fan.wav", 30)
    return src


def write_noise(path: Path, seconds: float, rate_hz: int = 22_050) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(5).normal(0, 0.05, round(seconds * rate_hz)), rate_hz)
    return path


def write_rooms(folder: Path) -> Path:
    folder.mkdir()
    for index in range(2):
        decay = np.exp(-np.arange(4_000) / 800) * np.random.default_rng(index).normal(0, 0.2, 4_000)
        soundfile.write(folder / f"room{index}.wav", np.concatenate([[0, 0.9], decay]), RATE_HZ)
    return folder


def all_copies(tmp_path: Path, workers: int = 1, seed: int = 0) -> PrepareOptions:
    noise, rooms = tmp_path / "noise", tmp_path / "rooms"
    if not noise.exists():
        write_noise(noise / "deep" / "street.flac", 20)
        write_noise(noise / "tap.wav", 3)
        write_rooms(rooms)
    return PrepareOptions(noise=noise, snr_db=(20.0, 5.0), rir=rooms, workers=workers, seed=seed)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
