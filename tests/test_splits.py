from __future__ import annotations

from pathlib import Path

import pytest

from kws.errors import KwsError
from kws.splits import hash_percent, speaker_of, split_names


def names_of(speakers: list[str], words: tuple[str, ...] = ("yes", "no")) -> list[str]:
    return [f"{word}/{speaker}_nohash_{n}.wav" for word in words for speaker in speakers for n in range(2)]


def test_speaker_is_what_stands_before_nohash() -> None:
    assert speaker_of("yes/0a7c2a8d_nohash_3.wav") == "0a7c2a8d"
    assert speaker_of("yes/my recording.flac") == "my recording"


@pytest.mark.parametrize(
    ("speaker", "split"),
    [
        # Lines of the data set's own validation_list.txt and testing_list.txt (v0.02), and clips in neither.
        ("026290a7", "validation"),
        ("060cd039", "validation"),
        ("0c40e715", "testing"),
        ("0ea0e2f4", "testing"),
        ("0a7c2a8d", "training"),
        ("00f0204f", "training"),
    ],
)
def test_the_hash_is_that_of_speech_commands(speaker: str, split: str) -> None:
    percent = hash_percent(speaker)
    assert split == ("validation" if percent < 10 else "testing" if percent < 20 else "training")


def test_hash_splits_are_disjoint_in_speakers_and_near_80_10_10(tmp_path: Path) -> None:
    names = names_of([f"{i:08x}" for i in range(1000)])
    split_of = split_names(tmp_path, names)
    by_speaker = {speaker_of(name): {split_of[other] for other in names_of([speaker_of(name)])} for name in names}
    assert all(len(splits) == 1 for splits in by_speaker.values())
    share = {split: list(split_of.values()).count(split) / len(names) for split in set(split_of.values())}
    assert 0.75 < share["training"] < 0.85
    assert 0.07 < share["testing"] < 0.13
    thresholds = {name: hash_percent(speaker_of(name)) for name in names}
    assert all((split_of[name] == "validation") == (thresholds[name] < 10) for name in names)


def test_a_new_word_does_not_move_a_speaker(tmp_path: Path) -> None:
    speakers = [f"{i:08x}" for i in range(30)]
    before, after = split_names(tmp_path, names_of(speakers)), split_names(tmp_path, names_of(speakers, ("go",)))
    assert {speaker_of(n): s for n, s in before.items()} == {speaker_of(n): s for n, s in after.items()}


@pytest.mark.parametrize("count", [3, 4, 5, 8])
def test_each_split_has_a_speaker_however_few_there_are(tmp_path: Path, count: int) -> None:
    for first in range(40):
        split_of = split_names(tmp_path, names_of([f"{first * 100 + i:08x}" for i in range(count)]))
        assert set(split_of.values()) == {"training", "validation", "testing"}


def test_two_speakers_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match=r"2 speaker.*testing_list\.txt"):
        split_names(tmp_path, names_of(["a", "b"]))


def test_lists_decide_whatever_the_file_suffix(tmp_path: Path) -> None:
    (tmp_path / "testing_list.txt").write_text("yes/a_nohash_0.flac\nno/a_nohash_1.wav\n")
    (tmp_path / "validation_list.txt").write_text("yes/b_nohash_0.wav\r\n")
    split_of = split_names(tmp_path, names_of(["a", "b"]))
    assert split_of["yes/a_nohash_0.wav"] == "testing"
    assert split_of["no/a_nohash_1.wav"] == "testing"
    assert split_of["yes/b_nohash_0.wav"] == "validation"
    assert split_of["yes/a_nohash_1.wav"] == "training"


def test_one_list_leaves_the_other_split_to_the_hash(tmp_path: Path) -> None:
    names = names_of([f"{i:08x}" for i in range(50)])
    (tmp_path / "testing_list.txt").write_text("\n".join(names[:8]))
    split_of = split_names(tmp_path, names)
    assert {name for name, split in split_of.items() if split == "testing"} == set(names[:8])
    assert "validation" in split_of.values()


def test_a_folder_of_test_clips_alone_can_be_judged(tmp_path: Path) -> None:
    names = names_of(["a"])
    (tmp_path / "testing_list.txt").write_text("\n".join(names))
    assert set(split_names(tmp_path, names, needed=["testing"]).values()) == {"testing"}
    with pytest.raises(KwsError):
        split_names(tmp_path, names)


def test_lists_that_leave_a_split_empty_are_refused(tmp_path: Path) -> None:
    names = names_of(["a", "b"])
    (tmp_path / "testing_list.txt").write_text("yes/unknown_nohash_0.wav\n")
    (tmp_path / "validation_list.txt").write_text(names[0])
    with pytest.raises(KwsError, match="testing"):
        split_names(tmp_path, names)
