"""Hours made of clips: what lies where, how loud, from whom; and the labels of a recording."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE_HZ, write_tones

from kws.audio import to_float
from kws.config import FeatureConfig
from kws.dataset import Dataset, load_dataset
from kws.errors import KwsError
from kws.label_track import check_labels, read_labels, write_labels
from kws.scene import DEFAULT_SNR_DB, FADE_S, LEAST_GAP_S, Scene, make_scene
from kws.spotting import Word
from kws.wordcut import word_span

HOURS = 0.06
FADE = round(FADE_S * RATE_HZ)


@pytest.fixture
def dataset(tones: Path) -> Dataset:
    return load_dataset(tones, ["left", "right"], FeatureConfig())


def scene_of(dataset: Dataset, split: str = "testing", seed: int = 0) -> Scene:
    return make_scene(dataset, split, RATE_HZ, HOURS, seed)


def samples_of(scene: Scene) -> np.ndarray:
    return to_float(np.concatenate(list(scene.blocks())))


def test_each_word_is_heard_where_the_labels_say(dataset: Dataset) -> None:
    scene = make_scene(dataset, "testing", RATE_HZ, HOURS, 0, (80.0, 80.0))
    samples = samples_of(scene)
    assert len(samples) == scene.samples == round(HOURS * 3600 * RATE_HZ)
    assert scene.hours == pytest.approx(HOURS)
    assert len(scene.placed) == len(scene.words) > 40
    for placed, word in zip(scene.placed, scene.words, strict=True):
        clip = to_float(dataset.pcm[placed.row])
        here = samples[placed.at : placed.at + len(clip)]
        np.testing.assert_allclose(here[FADE:-FADE], clip[FADE:-FADE], atol=1e-3)
        start, stop = word_span(clip)
        edges_ms = [(placed.at + edge) * 1000 / RATE_HZ for edge in (start, stop)]
        assert [word.start_ms, word.end_ms] == pytest.approx(edges_ms, abs=0.51)
        assert dataset.names[placed.row].startswith(f"{word.label}/")
    assert {word.label for word in scene.words} == {"left", "right", "other"}
    ends = np.array([0] + [placed.at + dataset.clip_samples for placed in scene.placed])
    starts = np.array([placed.at for placed in scene.placed] + [scene.samples])
    assert (starts - ends).min() >= LEAST_GAP_S * RATE_HZ - 1


def test_a_scene_is_of_its_split_and_seed_alone(dataset: Dataset) -> None:
    first, again, other = scene_of(dataset), scene_of(dataset), scene_of(dataset, seed=1)
    assert (first.placed, first.noise, first.words) == (again.placed, again.noise, again.words)
    np.testing.assert_array_equal(samples_of(first), samples_of(again))
    assert first.placed != other.placed
    for split in ("validation", "testing"):
        part = dataset.splits[split]
        placed = {one.row for one in scene_of(dataset, split).placed}
        assert placed == {*part.rows.tolist(), *part.unknown_rows.tolist()}


def test_blocks_of_another_length_give_the_same_samples(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scene_of(dataset)
    whole = samples_of(scene)
    monkeypatch.setattr("kws.scene.BLOCK_S", 7)
    assert len(list(scene.blocks())) > 25
    np.testing.assert_array_equal(samples_of(scene), whole)


def test_a_clip_comes_again_only_when_all_of_its_kind_were_used(dataset: Dataset) -> None:
    scene = scene_of(dataset)
    used = [placed.row for placed in scene.placed]
    part = dataset.splits["testing"]
    for rows in (part.rows, part.unknown_rows):
        counts = [used.count(row) for row in rows.tolist()]
        assert max(counts) - min(counts) <= 1
    others = sum(row in part.unknown_rows for row in used)
    assert scene.distinct_negative_clips == len(part.unknown_rows)
    assert scene.distinct_keyword_clips == len(part.rows)
    assert scene.negative_speech_seconds == others > 5


def test_noise_is_everywhere_at_the_levels_that_it_should_have(dataset: Dataset) -> None:
    scene = scene_of(dataset)
    speech = [to_float(dataset.pcm[row]) for row in dataset.splits["testing"].rows.tolist()]
    level = np.median([np.sqrt(np.mean(clip[slice(*word_span(clip))] ** 2)) for clip in speech])
    silent = np.ones(scene.samples, bool)
    for placed in scene.placed:
        silent[placed.at : placed.at + dataset.clip_samples] = False
    samples = samples_of(scene)
    assert len({round(stretch.snr_db, 3) for stretch in scene.noise}) == len(scene.noise) > 5
    for stretch in scene.noise:
        here = slice(stretch.at + FADE, min(stretch.at + stretch.samples, scene.samples) - FADE)
        noise = samples[here][silent[here]]
        assert DEFAULT_SNR_DB[0] <= stretch.snr_db <= DEFAULT_SNR_DB[1]
        assert 20 * np.log10(level / np.sqrt(np.mean(noise**2))) == pytest.approx(stretch.snr_db, abs=0.7)
    assert scene.noise[0].at == 0 and scene.noise[-1].at + scene.noise[-1].samples >= scene.samples
    for one, following in itertools.pairwise(scene.noise):
        assert following.at == one.at + one.samples - FADE, "they fade into each other"
    np.testing.assert_allclose(scene.noise_seconds, 0.1 * 20, rtol=0.01)


def test_without_noise_and_other_words_the_scene_says_so(tmp_path: Path) -> None:
    data = write_tones(tmp_path / "bare", ["left", "right"], noise=False)
    scene = scene_of(load_dataset(data, None, FeatureConfig()))
    assert not scene.has_own_noise
    assert (scene.distinct_negative_clips, scene.negative_speech_seconds) == (0, 0)
    assert {word.label for word in scene.words} == {"left", "right"}
    assert np.abs(samples_of(scene)[: RATE_HZ // 2]).max() > 1e-3


def test_clips_without_a_word_are_left_out_and_refused_if_there_are_no_others(tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", ["left", "right"])
    clips = sorted((data / "left").iterdir())
    for clip in clips:
        soundfile.write(clip, np.zeros(RATE_HZ), RATE_HZ)
    scene = scene_of(load_dataset(data, None, FeatureConfig()))
    assert {word.label for word in scene.words} == {"right"}
    for clip in (data / "right").iterdir():
        soundfile.write(clip, np.zeros(RATE_HZ), RATE_HZ)
    with pytest.raises(KwsError, match="no clip of a keyword in its testing split has a word in it"):
        scene_of(load_dataset(data, None, FeatureConfig()))


def test_too_short_a_scene_is_refused(dataset: Dataset) -> None:
    with pytest.raises(KwsError, match=r"0\.0001 hours hold no word"):
        make_scene(dataset, "testing", RATE_HZ, 0.0001, 0)


def test_labels_come_back_as_they_were_written(tmp_path: Path) -> None:
    words = [Word(label="نعم", start_ms=1234, end_ms=1800), Word(label="a b", start_ms=3_600_001, end_ms=3_600_001)]
    write_labels(tmp_path / "labels.txt", words)
    assert (tmp_path / "labels.txt").read_text(encoding="utf-8").splitlines()[0] == "1.234\t1.800\tنعم"
    assert read_labels(tmp_path / "labels.txt") == words
    write_labels(tmp_path / "hostile.txt", [Word(label="a\tb\nc", start_ms=0, end_ms=1)])
    assert [word.label for word in read_labels(tmp_path / "hostile.txt")] == ["a\\tb\\nc"]


def test_labels_of_audacity_are_read(tmp_path: Path) -> None:
    path = tmp_path / "audacity.txt"
    path.write_bytes("\ufeff0.500000\t1.000000\tyes\r\n\\\t100.0\t200.0\r\n\r\n2.5\t2.5\tno \r\n".encode())
    assert read_labels(path) == [
        Word(label="yes", start_ms=500, end_ms=1000),
        Word(label="no", start_ms=2500, end_ms=2500),
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("1\t2\tyes\n3 4 no\n", r"labels\.txt:2: is not START<TAB>END<TAB>LABEL"),
        ("1\t2\n", ":1: is not START"),
        ("one\ttwo\tyes\n", ":1: is not START"),
        ("2\t1\tyes\n", ":1: must have a label, and a start at or before its end"),
        ("-1\t1\tyes\n", ":1: must have"),
        ("1\tinf\tyes\n", ":1: must have"),
        ("nan\t2\tyes\n", ":1: must have"),
        ("1\t2\t \n", ":1: must have a label"),
        ("\n\n", "holds no label"),
        (b"\xff\xfe\x00", "cannot be read as text"),
        (None, "no such file"),
    ],
)
def test_labels_that_are_none_get_one_sentence(tmp_path: Path, content: str | bytes | None, sentence: str) -> None:
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(KwsError, match=sentence):
        read_labels(path)


def test_labels_of_another_recording_or_model_are_refused() -> None:
    words = [Word(label="Yes", start_ms=0, end_ms=500), Word(label="cat", start_ms=59_000, end_ms=60_000)]
    path, recording = Path("labels.txt"), Path("a.wav")
    with pytest.raises(KwsError, match=r"its labels reach to 60\.00 s, but a\.wav ends at 30\.00 s"):
        check_labels(path, words, ["Yes"], recording, 30_000)
    with pytest.raises(KwsError, match="names Yes, cat, but the model listens for yes, no; give labels"):
        check_labels(path, words, ["yes", "no"], recording, 60_000)
    check_labels(path, words, ["Yes"], recording, 60_000)
