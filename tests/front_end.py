"""The C front end as a program on this machine, what it is fed, and what Python makes of the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tiny_tflite
import torch
from toolchains import host_program, run_program

from export import front_end_parity
from kws.config import FeatureConfig
from kws.features import LogMel

LABELS = ["_silence_", "_unknown_", 'a"b\\??/', "\u0628\u062d\u0631", "1\n2"]
RATE_HZ = 16_000
FIXED_POINT = (front_end_parity.FIXED_POINT_FLAG,)

Samples = npt.NDArray[np.int16]


def includes(firmware: Path) -> list[Path]:
    return [firmware / "src", firmware / "generated", firmware / "platform/common", firmware / "platform/cortex-m"]


def build_features_tool(firmware: Path, out: Path, flags: tuple[str, ...] = ()) -> Path:
    names = (*front_end_parity.FEATURES_SOURCES, *front_end_parity.FRONT_END_SOURCES)
    return host_program([firmware / name for name in names], includes(firmware), out, flags)


def signals() -> dict[str, Samples]:
    """One second each, as 16-bit samples; `room` is what a microphone adds to anything: noise at -66 dB."""
    rng = np.random.default_rng(0)
    time_s = np.arange(RATE_HZ) / RATE_HZ
    chirp = 0.5 * np.sin(2 * np.pi * (50 * time_s + 3900 * time_s**2))
    room = rng.normal(0, 5e-4, RATE_HZ)
    waves = {
        "full scale noise": rng.uniform(-1, 1, RATE_HZ),
        "soft noise": rng.normal(0, 1e-3, RATE_HZ),
        "chirp in a room": chirp + room,
        "silence": np.zeros(RATE_HZ),
        "click": np.eye(1, RATE_HZ, 5000)[0],
        "clean chirp": chirp,
    }
    return {name: np.round(wave * 32767).astype(np.int16) for name, wave in waves.items()}


def c_features(tool: Path, samples: Samples, bands: int = 40) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Log-mel and int8 of the C front end, each (frames, bands)."""
    lines = run_program(tool, "-", stdin=samples.astype("<i2").tobytes()).decode().splitlines()
    rows = np.array([[float(value) for value in line.split()] for line in lines])
    return rows[:, :bands].astype(np.float32), rows[:, bands:].astype(np.int64)


def python_features(samples: Samples, config: FeatureConfig) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    log_mel = LogMel(config)(torch.from_numpy(samples.astype(np.float32) / 32768)).numpy().T
    steps = np.rint(log_mel / np.float32(tiny_tflite.INPUT_SCALE)) + tiny_tflite.INPUT_ZERO_POINT
    return log_mel, np.clip(steps, -128, 127).astype(np.int64)


def rounding_bound(log_mel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """That of the package, for (frames, bands)."""
    return front_end_parity.rounding_bound(log_mel.T).T


def frames_program(firmware: Path, out: Path, flags: tuple[str, ...] = ()) -> Path:
    sources = [
        Path(__file__).with_name("frontend_frames.c"),
        *(firmware / name for name in front_end_parity.FRONT_END_SOURCES),
    ]
    return host_program(sources, includes(firmware), out, flags)


def loud_tones() -> Samples:
    """Square waves of every eighth bin and between two bins, as loud as can be, in four phases each."""
    turns = np.outer(np.arange(2, 514, 8) / 1024, np.arange(480))[:, np.newaxis] + np.arange(4)[:, np.newaxis] / 8
    return np.where(np.sin(2 * np.pi * turns) >= 0, 32767, -32768).astype(np.int16).ravel()
