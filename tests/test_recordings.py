from __future__ import annotations

import os
from pathlib import Path

import pytest

from kws.errors import KwsError
from kws.recordings import audio_files, find_recordings, safe_speaker
from kws.splits import speaker_of


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def said(root: Path, layout: str | None = None) -> list[tuple[str, str]]:
    return [(one.word, one.speaker) for one in find_recordings(root, layout).recordings]


def test_word_folders_are_found_out_and_the_speaker_is_in_the_file_name(tmp_path: Path) -> None:
    touch(tmp_path, "lamp/anna_nohash_0.wav", "lamp/ben_nohash_3.flac", "no/anna_nohash_1.MP3")
    assert said(tmp_path) == [("lamp", "anna"), ("lamp", "ben"), ("no", "anna")]
    assert find_recordings(tmp_path, None).nameless == 0


def test_files_without_a_speaker_each_count_as_one_and_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "lamp/1.wav", "lamp/2.wav", "lamp/anna_nohash_0.wav")
    assert said(tmp_path) == [("lamp", "1"), ("lamp", "2"), ("lamp", "anna")]
    assert find_recordings(tmp_path, None).nameless == 2


def test_two_folders_deep_is_asked_about_and_both_answers_are_understood(tmp_path: Path) -> None:
    touch(tmp_path, "lamp/anna/1.wav", "lamp/ben/1.wav", "no/anna/1.wav")
    with pytest.raises(KwsError, match=r"lamp/anna can be read in two ways; give --layout word/speaker"):
        said(tmp_path)
    assert said(tmp_path, "word/speaker") == [("lamp", "anna"), ("lamp", "ben"), ("no", "anna")]
    assert said(tmp_path, "speaker/word") == [("anna", "lamp"), ("ben", "lamp"), ("anna", "no")]


def test_names_that_begin_with_an_underscore_or_a_dot_are_no_words(tmp_path: Path) -> None:
    touch(
        tmp_path, "lamp/a.wav", "lamp/._a.wav", ".git/a.wav", "_old/a.wav", "_background_noise_/fan.wav", "lamp/_b.wav"
    )
    found = find_recordings(tmp_path, None)
    assert [one.source for one in found.recordings] == ["lamp/a.wav"]
    assert [path.name for path in found.noise] == ["fan.wav"]
    assert found.dropped == []


def test_files_outside_the_layout_and_formats_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "lamp/a.wav", "b.wav", "lamp/c.m4a", "lamp/notes.txt", "lamp/deep/er/d.wav")
    dropped = {one.source: one.reason for one in find_recordings(tmp_path, "word").dropped}
    assert dropped == {"b.wav": "misplaced", "lamp/c.m4a": "foreign format", "lamp/deep/er/d.wav": "misplaced"}


def test_a_link_to_a_folder_above_ends(tmp_path: Path) -> None:
    touch(tmp_path, "lamp/a.wav")
    (tmp_path / "lamp" / "up").symlink_to(tmp_path)
    found = find_recordings(tmp_path, "word")
    assert [one.source for one in found.recordings] == ["lamp/a.wav"]
    assert len(found.dropped) <= 2


def test_one_person_in_two_spellings_is_one_speaker(tmp_path: Path) -> None:
    touch(tmp_path, "lamp/Anna/1.wav", "no/anna/1.wav", "no/Ren\u00e9/1.wav", "lamp/Rene\u0301/1.wav")
    assert len({speaker for _, speaker in said(tmp_path, "word/speaker")}) == 2


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("a\nb", "control character"),
        (" yes", "begins or ends with a space"),
        ("yes.", "dot"),
        ("what?", "no folder name may hold"),
        ("x" * 61, "longer than 60 bytes"),
        (os.fsdecode(b"caf\xe9"), r"'caf\\\\xe9' is not UTF-8"),
    ],
)
def test_words_that_cannot_name_a_folder_everywhere_are_refused(tmp_path: Path, folder: str, sentence: str) -> None:
    touch(tmp_path, f"{folder}/a.wav")
    with pytest.raises(KwsError, match=sentence) as refused:
        said(tmp_path)
    str(refused.value).encode()


def test_one_word_in_two_spellings_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "anna/Yes/1.wav", "ben/yes/1.wav")
    with pytest.raises(KwsError, match="'Yes' and 'yes' name the same word"):
        said(tmp_path, "speaker/word")


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="no such folder"):
        said(tmp_path / "absent")
    touch(tmp_path, "notes.txt", "lamp/notes.txt")
    with pytest.raises(KwsError, match="holds no audio"):
        said(tmp_path)
    with pytest.raises(KwsError, match="no such folder; give a folder with noise"):
        audio_files(tmp_path / "absent", "noise")
    with pytest.raises(KwsError, match="holds no audio files; give a folder with noise"):
        audio_files(tmp_path, "noise")


@pytest.mark.parametrize("name", ["anna", "0a7c2a8d", "Anna_B-2", "مريم", "x" * 60])
def test_plain_speakers_keep_their_name(name: str) -> None:
    assert safe_speaker(name) == name


STRANGE = [
    "..",
    ".",
    "a/b",
    "a b",
    "a-b ",
    "anna_nohash_1",
    "anna_nohash",
    "_a",
    "a:b",
    "x" * 300,
    "م" * 200,
    "💡",
    "\n",
    "",
]


@pytest.mark.parametrize("name", [*STRANGE, os.fsdecode(b"\xff\xfe")])
def test_strange_speakers_get_a_name_that_stays_theirs(name: str) -> None:
    safe = safe_speaker(name)
    file = f"{safe}_nohash_0-room-snr20db.flac"
    assert speaker_of(f"word/{file}") == safe
    assert len(file.encode()) < 255
    assert all(c.isalnum() or c in "-_" for c in safe)
    assert safe.strip("-_") == safe != ""


def test_different_speakers_stay_different() -> None:
    names = [*STRANGE, "a-b", "a_b", "x" * 299, "x" * 301, os.fsdecode(b"\xff"), os.fsdecode(b"\xfe")]
    assert len({safe_speaker(name) for name in names}) == len(names)
