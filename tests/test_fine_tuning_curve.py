"""The data sets of a few clips a word, on which fine-tuning is held against training from scratch."""

from __future__ import annotations

from pathlib import Path

from conftest import write_tones

from kws.config import FeatureConfig
from kws.dataset import Dataset, load_dataset
from kws.splits import speaker_of
from scripts.fine_tuning_curve import few_clips, row, spread, write_data


def names_of(dataset: Dataset) -> dict[str, list[str]]:
    return {name: [dataset.names[row] for row in split.rows] for name, split in dataset.splits.items()}


def test_every_speaker_is_heard_once_before_one_is_heard_again() -> None:
    clips = [f"lamp/{speaker}_nohash_{take}.wav" for speaker in "abc" for take in range(4)]
    for count, most in ((2, 1), (3, 1), (4, 2), (6, 2), (12, 4)):
        chosen = spread(clips, count)
        heard = [speaker_of(name) for name in chosen]
        assert len(set(chosen)) == count
        assert max(heard.count(speaker) for speaker in heard) == most
    assert spread(clips, 99) == spread(reversed(clips), 99)
    assert len(spread(clips, 99)) == 12


def test_the_small_data_set_has_that_many_clips_a_word_and_all_that_test(tmp_path: Path) -> None:
    root = write_tones(tmp_path / "data", ["left", "right"], speakers=40)
    before = names_of(load_dataset(root, None, FeatureConfig()))
    kept = few_clips(before, 6)
    write_data(root, kept, tmp_path / "few")
    few = load_dataset(tmp_path / "few", None, FeatureConfig())
    found = names_of(few)
    assert {name: sorted(clips) for name, clips in found.items()} == {n: sorted(clips) for n, clips in kept.items()}
    assert [len(found["training"]), len(found["validation"])] == [12, 4]
    assert found["testing"] == before["testing"]
    assert set(found["training"]) <= set(before["training"])
    assert few.noise


def test_a_row_has_the_mean_of_the_seeds_and_each_of_them() -> None:
    assert row(5, [[0.5, 0.75], [1.0]]) == ["5", "62.50%", "50.00, 75.00", "100.00%", "100.00"]
