"""Recordings and options of no use to `kws prepare`: one sentence, and nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
import soundfile
from conftest import RATE_HZ, Kws, answer_interrupts, tone
from word_recordings import PLAIN, all_copies, record, write_noise, write_recordings, write_rooms

from kws import cli
from kws.errors import KwsError
from kws.prepare import PrepareOptions, prepare


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    return write_recordings(tmp_path / "src")


def test_too_few_speakers_are_a_warning_and_with_copies_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "src" / "lamp" / "anna_nohash_0.wav", 300.0)
    prepare(tmp_path / "src", tmp_path / "data", PLAIN)
    assert f"This cannot be trained on yet: {tmp_path / 'src'}: 1 speaker(s)" in capsys.readouterr().err
    with pytest.raises(KwsError, match=r"src: 1 speaker\(s\) cannot fill 3"):
        prepare(tmp_path / "src", tmp_path / "more", all_copies(tmp_path))
    assert not (tmp_path / "more").exists()


def break_noise(folder: Path) -> Path:
    folder.mkdir()
    (folder / "bad.wav").write_bytes(b"RIFF")
    return folder


@pytest.mark.parametrize(
    ("arrange", "sentence"),
    [
        (lambda src, tmp: {"src": tmp / "absent"}, "absent: no such folder"),
        (lambda src, tmp: {"out": write_noise(tmp / "used" / "x.wav", 1).parent}, "exists already"),
        (lambda src, tmp: {"out": src / "prepared"}, "choose an output folder outside"),
        (lambda src, tmp: {"out": src}, "exists already"),
        (lambda src, tmp: {"noise": tmp / "absent"}, "give a folder with recordings of noise"),
        (lambda src, tmp: {"noise": write_rooms(tmp / "x").parent / "x" / "none"}, "no such folder"),
        (lambda src, tmp: {"noise": break_noise(tmp / "bad")}, r"bad\.wav: cannot be decoded"),
        (lambda src, tmp: {"rir": break_noise(tmp / "bad")}, r"bad\.wav: cannot be decoded"),
        (lambda src, tmp: {"layout": "word/speaker"}, "holds no audio in folders of the layout word/speaker"),
    ],
)
def test_unusable_folders_are_refused_and_nothing_is_left(
    recordings: Path, tmp_path: Path, arrange: Callable[[Path, Path], dict[str, Path]], sentence: str
) -> None:
    arranged = arrange(recordings, tmp_path)
    src, out = arranged.pop("src", recordings), arranged.pop("out", tmp_path / "data")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(KwsError, match=sentence):
        prepare(src, out, PrepareOptions(snr_db=(5.0,), **arranged))
    assert set(tmp_path.rglob("*")) == before


def test_recordings_of_which_none_is_of_use_are_refused(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / "src" / "lamp").mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / "lamp" / f"{name}_nohash_0.wav").write_bytes(b"RIFF")
    with pytest.raises(KwsError, match=r"none of its 3 recordings gives a clip \(3 unreadable, for example lamp/a_"):
        prepare(tmp_path / "src", tmp_path / "data", PLAIN)
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_noise_that_cannot_be_read_is_named_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "src" / "lamp").mkdir(parents=True)
    (tmp_path / "src" / "lamp" / "a_nohash_0.wav").write_bytes(b"RIFF")
    with pytest.raises(KwsError, match=r"bad\.wav: cannot be decoded"):
        prepare(
            tmp_path / "src", tmp_path / "data", PrepareOptions(noise=break_noise(tmp_path / "noise"), snr_db=(5.0,))
        )


def test_silent_noise_stops_the_work_and_nothing_is_left(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    soundfile.write(tmp_path / "noise" / "zeros.wav", np.zeros(20_000), RATE_HZ)
    for workers in (1, 2):
        options = PrepareOptions(noise=tmp_path / "noise", snr_db=(5.0,), workers=workers)
        with pytest.raises(KwsError, match=r"zeros\.wav: holds only zeros"):
            prepare(recordings, tmp_path / "data", options)
    assert {path.name for path in tmp_path.iterdir()} == {"src", "noise"}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    recordings: Path, small_disk: Path, kws: Kws, workers: str
) -> None:
    result = kws("prepare", recordings, "--out", small_disk / "data", "--workers", workers, check=False)
    assert result.returncode == 1
    assert "No space left on device; free some space" in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(small_disk.iterdir()) == []


def test_an_interrupt_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "src" / "lamp").mkdir(parents=True)
    soundfile.write(tmp_path / "long.wav", np.tile(tone(440.0, rate_hz=48_000), 29), 48_000)
    for index in range(400):
        os.link(tmp_path / "long.wav", tmp_path / "src" / "lamp" / f"{index}_nohash_0.wav")
    before = set(tmp_path.iterdir())
    command = [
        sys.executable,
        "-m",
        "kws.cli",
        "prepare",
        tmp_path / "src",
        "--out",
        tmp_path / "data",
        "--workers",
        "2",
    ]
    # A process group of its own: Ctrl-C in a terminal reaches the workers too.
    process = subprocess.Popen(
        command, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True, preexec_fn=answer_interrupts
    )
    while not list(tmp_path.glob(".data.*/lamp/*.wav")) and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    printed, complained = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, "")
    assert complained == "kws: Interrupted; nothing was written.\n"
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--snr-db", "5"],
        ["--noise", "N", "--snr-db", "loud"],
        ["--noise", "N", "--snr-db", "nan"],
        ["--noise", "N", "--snr-db", "20,,5"],
        ["--noise", "N", "--snr-db", "1000"],
        ["--workers", "0"],
        ["--layout", "words"],
        ["--format", "mp3"],
    ],
)
def test_wrong_options_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        cli.main(["prepare", "SRC", "--out", "DATA", *arguments])
    assert exited.value.code == 2
    assert "usage: kws prepare" in capsys.readouterr().err
