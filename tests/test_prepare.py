from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE_HZ, Kws, tone
from word_recordings import PLAIN, SPEAKERS, all_copies, contents, record, write_noise, write_recordings, write_rooms

from kws.audio import read_audio
from kws.config import FeatureConfig
from kws.dataset import load_dataset
from kws.prepare import PrepareOptions, prepare
from kws.prepare_clips import MAX_RECORDING_S
from kws.splits import speaker_of, split_names
from kws.wordcut import word_span


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    return write_recordings(tmp_path / "src")


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
