"""Data that the tests make themselves, and one model trained and built through the command line for all of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

RATE_HZ = 16_000
Kws = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["KWS_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


def tone(pitch_hz: float, seconds: float = 1.0, rate_hz: int = RATE_HZ, level: float = 0.3) -> np.ndarray:
    """float32 (n,): a tone that fades in and out."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (level * np.sin(2 * np.pi * pitch_hz * time_s) * np.sin(np.pi * time_s / seconds)).astype(np.float32)


def write_tones(root: Path, words: list[str], speakers: int = 12, noise: bool = True) -> Path:
    """A data set in Speech Commands layout: a word is a pitch, a speaker shifts it slightly."""
    for index, word in enumerate(words):
        (root / word).mkdir(parents=True)
        for speaker in range(speakers):
            samples = tone(300.0 * (index + 1) + 5.0 * speaker)
            soundfile.write(root / word / f"{speaker:08x}_nohash_0.wav", samples, RATE_HZ, subtype="PCM_16")
    if noise:
        (root / "_background_noise_").mkdir()
        hiss = np.random.default_rng(0).normal(0, 0.02, 20 * RATE_HZ).astype(np.float32)
        soundfile.write(root / "_background_noise_" / "hiss.wav", hiss, RATE_HZ, subtype="PCM_16")
    return root


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    return write_tones(tmp_path / "data", ["left", "right", "other"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    with disk_of("1m", tmp_path / "disk") as disk:
        yield disk


@contextlib.contextmanager
def disk_of(size: str, folder: Path) -> Iterator[Path]:
    """A file system of that size at `folder`."""
    folder.mkdir()
    mounted = shutil.which("mount") and os.geteuid() == 0
    if not mounted or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]).returncode != 0:
        pytest.skip("needs root that may mount a tmpfs, to have a disk that is easily filled")
    yield folder
    subprocess.run(["umount", folder], check=True)


def run_kws(*arguments: str | Path, check: bool = True, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-m", "kws.cli", *map(str, arguments)], capture_output=True, text=True, timeout=900, cwd=cwd
    )
    if check and result.returncode != 0:
        raise AssertionError(f"kws {' '.join(map(str, arguments))}\n{result.stdout}\n{result.stderr}")
    return result


@pytest.fixture(scope="session")
def kws() -> Kws:
    return run_kws


def answer_interrupts() -> None:
    """For a child process whose Ctrl-C is tested: a shell that starts the tests in the background has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


PATH_WORDS = "yes,no,stop,go,bed,cat"
PATH_KEYWORDS = "yes,no,stop,go"
PATH_EPOCHS = 20


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic data set, from `kws synth`."""
    folder = tmp_path_factory.mktemp("spoken") / "data"
    run_kws("synth", folder, "--words", PATH_WORDS)
    return folder


@pytest.fixture(scope="session")
def trained_run(spoken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a model that was actually trained."""
    out = tmp_path_factory.mktemp("trained") / "run"
    run_kws("train", spoken, "--out", out, "--words", PATH_KEYWORDS, "--recipe", "short", "--epochs", str(PATH_EPOCHS))
    return out


@pytest.fixture(scope="session")
def built(trained_run: Path, spoken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build folder of `trained_run`."""
    out = tmp_path_factory.mktemp("built") / "build"
    run_kws("quantize", trained_run / "checkpoint.pt", "--data", spoken, "--out", out)
    return out


@pytest.fixture
def untracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder of its own, and no mlflow store named in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many seconds a store may take to answer here."""
    from kws.training import store

    monkeypatch.setattr(store, "TIMEOUT_S", 2)
    return store.TIMEOUT_S
