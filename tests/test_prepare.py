from __future__ import annotations

import json
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
from conftest import RATE_HZ, Kws, tone

from kws import cli
from kws.audio import read_audio
from kws.config import FeatureConfig
from kws.dataset import load_dataset
from kws.errors import KwsError
from kws.prepare import PrepareOptions, prepare
from kws.prepare_clips import MAX_RECORDING_S
from kws.splits import speaker_of, split_names
from kws.wordcut import word_span

PLAIN = PrepareOptions()
SPEAKERS = 12


def record(path: Path, pitch_hz: float, seconds: float = 0.5, rate_hz: int = RATE_HZ, channels: int = 1) -> None:
    """A word of a known pitch in the middle of low noise, half a second before and behind it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(round(pitch_hz)).normal(0, 0.001, round((1 + seconds) * rate_hz))
    word = tone(pitch_hz, seconds, rate_hz)
    samples[rate_hz // 2 : rate_hz // 2 + len(word)] += word
    soundfile.write(os.fsencode(path), np.stack([samples] * channels, 1), rate_hz, format=path.suffix[1:].upper())


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Two words of SPEAKERS speakers, each twice, and background noise."""
    src = tmp_path / "src"
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


def test_clips_are_a_second_with_the_word_in_the_middle_and_load_as_a_data_set(
    recordings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    prepare(recordings, out, PLAIN)
    clip, rate_hz = soundfile.read(out / "music" / "00000003_nohash_1.wav", dtype="float32")
    assert (clip.shape, rate_hz) == ((16_000,), RATE_HZ)
    assert soundfile.info(out / "music" / "00000003_nohash_1.wav").subtype == "PCM_16"
    assert np.abs(np.fft.rfft(clip)).argmax() == pytest.approx(631, abs=1)
    start, stop = word_span(clip)
    assert abs((start + stop) / 2 - 8_000) <= 160
    dataset = load_dataset(out, ["lamp"], FeatureConfig())
    assert dataset.labels == ["_silence_", "_unknown_", "lamp"]
    assert len(dataset.names) == 2 * 2 * SPEAKERS
    assert list(dataset.noise) == ["fan.wav"]
    assert len(dataset.noise["fan.wav"]) == 30 * RATE_HZ


@pytest.mark.parametrize(
    ("suffix", "rate_hz", "channels"),
    [
        (".wav", 8_000, 1),
        (".flac", 44_100, 2),
        (".ogg", 48_000, 2),
        (".mp3", 44_100, 1),
        (".aiff", 22_050, 1),
        (".WAV", 96_000, 4),
    ],
)
def test_any_format_rate_and_number_of_channels_is_read(
    tmp_path: Path, suffix: str, rate_hz: int, channels: int
) -> None:
    record(tmp_path / "src" / "lamp" / f"anna_nohash_0{suffix}", 1_000.0, rate_hz=rate_hz, channels=channels)
    prepare(tmp_path / "src", tmp_path / "data", PLAIN)
    clip = read_audio(tmp_path / "data" / "lamp" / "anna_nohash_0.wav", RATE_HZ)
    spectrum = np.abs(np.fft.rfft(clip))
    assert spectrum.argmax() == 1_000
    assert np.abs(clip).max() == pytest.approx(0.3, abs=0.02)
    start, stop = word_span(clip)
    assert 6_000 < stop - start <= 8_400


def test_three_workers_write_the_same_bytes_as_one_and_another_seed_others(recordings: Path, tmp_path: Path) -> None:
    (recordings / "lamp" / "00000002_nohash_5.wav").write_bytes(b"RIFF")
    for name, options in (
        ("one", all_copies(tmp_path)),
        ("three", all_copies(tmp_path, workers=3)),
        ("seed", all_copies(tmp_path, seed=1)),
    ):
        prepare(recordings, tmp_path / name, options)
    one = contents(tmp_path / "one")
    assert len([name for name in one if "-snr" in name]) > 50
    assert one == contents(tmp_path / "three")
    seed = contents(tmp_path / "seed")
    assert all(one[name] == seed[name] for name in one if "-room" not in name and name != "prepare.json")
    assert all(one[name] != seed[name] for name in one if "-snr" in name)


def test_a_clip_does_not_depend_on_which_other_clips_there_are(recordings: Path, tmp_path: Path) -> None:
    prepare(recordings, tmp_path / "all", all_copies(tmp_path))
    for path in (recordings / "lamp").iterdir():
        path.unlink()
    prepare(recordings, tmp_path / "fewer", all_copies(tmp_path))
    before, after = contents(tmp_path / "all"), contents(tmp_path / "fewer")
    assert {name for name in before if name.startswith("music/")} == {name for name in after if "/" in name} - {
        "_background_noise_/fan.wav"
    }
    assert all(before[name] == after[name] for name in after if name != "prepare.json")


def test_copies_are_only_of_speakers_who_train_as_training_itself_decides(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    prepared = prepare(recordings, out, all_copies(tmp_path))
    dataset = load_dataset(out, None, FeatureConfig())
    split_of = split_names(out, dataset.names)
    copies = [name for name in dataset.names if "-room" in name]
    trainers = {speaker_of(name) for name in dataset.names if split_of[name] == "training"}
    assert sorted(copies) == sorted(prepared.copies)
    assert {split_of[name] for name in copies} == {"training"}
    assert {speaker_of(name) for name in copies} == trainers
    assert len(copies) == 3 * 2 * 2 * len(trainers)
    assert len(trainers) < SPEAKERS
    for split in ("validation", "testing"):
        assert not any("-room" in name for name in dataset.evaluation_clips(split).names)


def test_lists_of_held_out_clips_are_carried_over_under_the_new_names(recordings: Path, tmp_path: Path) -> None:
    (recordings / "lamp" / "00000004_nohash_0.wav").rename(recordings / "lamp" / "00000004_nohash_7.wav")
    (recordings / "testing_list.txt").write_text("lamp/00000004_nohash_7.wav\nmusic/00000004_nohash_0.wav\n")
    (recordings / "validation_list.txt").write_text("lamp/00000005_nohash_0.wav\nlamp/gone_nohash_0.wav\n")
    out = tmp_path / "data"
    prepared = prepare(recordings, out, all_copies(tmp_path))
    assert (out / "testing_list.txt").read_text() == "lamp/00000004_nohash_1.wav\nmusic/00000004_nohash_0.wav\n"
    assert (out / "validation_list.txt").read_text() == "lamp/00000005_nohash_0.wav\n"
    held_out = ("lamp/00000004_nohash_1", "music/00000004_nohash_0", "lamp/00000005_nohash_0")
    assert not [name for name in prepared.copies if name.startswith(held_out)]
    assert len(prepared.copies) == 3 * (2 * 2 * SPEAKERS - 3)


def test_without_lists_none_are_written_so_that_later_clips_go_by_their_speaker(
    recordings: Path, tmp_path: Path
) -> None:
    prepare(recordings, tmp_path / "data", PLAIN)
    assert not list((tmp_path / "data").glob("*.txt"))


@pytest.mark.parametrize("snr_db", [20.0, 10.0, 0.0])
def test_the_snr_of_a_copy_is_as_stated(recordings: Path, tmp_path: Path, snr_db: float) -> None:
    noise = write_noise(tmp_path / "noise" / "tap.wav", 60).parent
    prepared = prepare(recordings, tmp_path / "data", PrepareOptions(noise=noise, snr_db=(snr_db,)))
    laid_over = []
    for name in prepared.copies[::7]:
        mixed = read_audio(tmp_path / "data" / name, RATE_HZ)
        clean = read_audio(tmp_path / "data" / name.replace(f"-snr{snr_db:g}db", ""), RATE_HZ)
        start, stop = word_span(clean)
        ratio = np.mean(clean[start:stop] ** 2) / np.mean((mixed - clean) ** 2)
        assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.5)
        laid_over.append(mixed - clean)
    assert np.abs(np.corrcoef(laid_over) - np.eye(len(laid_over))).max() < 0.5, "two clips have the same noise"


def test_the_end_of_a_noise_recording_is_left_for_validation_and_testing(recordings: Path, tmp_path: Path) -> None:
    time_s = np.arange(60 * RATE_HZ) / RATE_HZ
    pitch_hz = np.where(time_s < 48, 3_000, 6_000)
    (tmp_path / "noise").mkdir()
    soundfile.write(tmp_path / "noise" / "two.wav", 0.3 * np.sin(2 * np.pi * pitch_hz * time_s), RATE_HZ)
    options = PrepareOptions(noise=tmp_path / "noise", snr_db=(20.0, 10.0, 5.0))
    for name in prepare(recordings, tmp_path / "data", options).copies:
        spectrum = np.abs(np.fft.rfft(read_audio(tmp_path / "data" / name, RATE_HZ)))
        assert spectrum[2_990:3_010].max() > 10 * spectrum[5_990:6_010].max(), name


def test_a_room_alone_gives_one_copy_that_echoes(recordings: Path, tmp_path: Path) -> None:
    rooms = write_rooms(tmp_path / "rooms")
    prepared = prepare(recordings, tmp_path / "data", PrepareOptions(rir=rooms))
    name = prepared.copies[0]
    echoing = read_audio(tmp_path / "data" / name, RATE_HZ)
    clean = read_audio(tmp_path / "data" / name.replace("-room", ""), RATE_HZ)
    responses = [read_audio(path, RATE_HZ)[1:] for path in sorted(rooms.iterdir())]
    expected = [np.convolve(clean, response)[:16_000] for response in responses]
    expected = [one * np.sqrt(np.mean(clean**2) / np.mean(one**2)) for one in expected]
    assert min(np.abs(echoing - one).max() for one in expected) < 2 / 32_768
    assert set(prepared.split_of.values()) == {"training", "validation", "testing"}
    trained_on = [clip for clip, split in prepared.split_of.items() if split == "training"]
    assert prepared.copies == [clip.replace(".wav", "-room.wav") for clip in trained_on]


def test_what_gives_no_clip_is_dropped_with_its_reason(recordings: Path, tmp_path: Path) -> None:
    lamp = recordings / "lamp"
    (lamp / "broken_nohash_0.wav").write_bytes(b"RIFF")
    (lamp / "empty_nohash_0.flac").write_bytes(b"")
    soundfile.write(lamp / "silent_nohash_0.wav", np.zeros(16_000), RATE_HZ)
    soundfile.write(lamp / "click_nohash_0.wav", np.pad(tone(800.0, 0.05), 4_000), RATE_HZ)
    soundfile.write(lamp / "nan_nohash_0.wav", np.full(16_000, np.nan), RATE_HZ, subtype="FLOAT")
    record(lamp / "long_nohash_0.wav", 500.0, MAX_RECORDING_S)
    (lamp / "zz_nohash_0.wav").write_bytes((lamp / "00000001_nohash_0.wav").read_bytes())
    (lamp / "phone_nohash_0.m4a").write_bytes(b"")
    (recordings / "_background_noise_" / "bad.wav").write_bytes(b"RIFF")
    out = tmp_path / "data"
    prepared = prepare(recordings, out, PLAIN)
    assert {one.source: one.reason for one in prepared.dropped} == {
        "lamp/broken_nohash_0.wav": "unreadable",
        "lamp/empty_nohash_0.flac": "unreadable",
        "lamp/silent_nohash_0.wav": "silent",
        "lamp/click_nohash_0.wav": "too short",
        "lamp/nan_nohash_0.wav": "unreadable",
        "lamp/long_nohash_0.wav": "too long",
        "lamp/zz_nohash_0.wav": "double",
        "lamp/phone_nohash_0.m4a": "foreign format",
        "_background_noise_/bad.wav": "unreadable",
    }
    report = json.loads((out / "prepare.json").read_text())
    assert len(report["dropped"]) == 9
    assert str(tmp_path) not in (out / "prepare.json").read_text()
    assert report["words"]["lamp"] == {"recordings": 31, "clips": 24, "speakers": 12, "copies": 0}
    assert len(list((out / "lamp").iterdir())) == 24
    assert "zz" not in {speaker_of(name) for name in load_dataset(out, None, FeatureConfig()).names}


def test_of_a_word_longer_than_a_second_the_loudest_is_kept_and_counted(recordings: Path, tmp_path: Path) -> None:
    record(recordings / "lamp" / "slow_nohash_0.wav", 500.0, 3.0)
    prepared = prepare(recordings, tmp_path / "data", PLAIN)
    assert prepared.shortened == 1
    clip = read_audio(tmp_path / "data" / "lamp" / "slow_nohash_0.wav", RATE_HZ)
    assert len(clip) == 16_000
    assert np.sqrt(np.mean(clip**2)) > 0.19


def test_folders_of_speakers_give_clips_of_speakers(tmp_path: Path) -> None:
    for speaker, pitch in (("Anna Lee", 300.0), ("ben", 400.0), (os.fsdecode(b"ren\xe9"), 500.0)):
        for take in range(2):
            for index, word in enumerate(["lamp", "music"]):
                record(tmp_path / "src" / speaker / word / f"take {take}.wav", pitch + take + 10 * index)
    prepared = prepare(tmp_path / "src", tmp_path / "data", PrepareOptions(layout="speaker/word", suffix=".flac"))
    speakers = {speaker_of(name) for name in prepared.clips}
    assert len(speakers) == 3
    assert "ben" in speakers
    assert {speaker.split("-")[0] for speaker in speakers} == {"Anna", "ben", "ren"}
    assert {path.suffix for path in (tmp_path / "data" / "lamp").iterdir()} == {".flac"}
    assert set(load_dataset(tmp_path / "data", None, FeatureConfig()).names) == set(prepared.clips)


def test_a_word_of_which_nothing_is_left_has_no_folder(recordings: Path, tmp_path: Path) -> None:
    (recordings / "empty").mkdir()
    (recordings / "empty" / "a_nohash_0.wav").write_bytes(b"")
    prepare(recordings, tmp_path / "data", PLAIN)
    assert not (tmp_path / "data" / "empty").exists()


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


def test_the_command_prints_tables_and_what_it_wrote(recordings: Path, tmp_path: Path, kws: Kws) -> None:
    (recordings / "lamp" / "[red]bad_nohash_0.wav").write_bytes(b"")
    noise = write_noise(tmp_path / "noise" / "tap.wav", 3).parent
    out = tmp_path / "data"
    result = kws("prepare", recordings, "--out", out, "--noise", noise, "--workers", "2", "--format", "flac")
    assert result.stdout.splitlines()[-1] == f"Wrote {out}"
    assert "48 clips, " in result.stdout
    assert "[red]bad_nohash_0.wav: cannot be decoded" in " ".join(result.stdout.split())
    assert {name.rpartition("-")[2] for name in contents(out) if "-" in name} == {
        "snr20db.flac",
        "snr10db.flac",
        "snr5db.flac",
    }


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
    process = subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True)
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
