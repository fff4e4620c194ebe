"""`kws benchmark` as a whole: what it refuses, what it runs, what it writes."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Kws, write_tones
from tiny_tflite import tiny_manifest, tiny_model, write_tiny_build

from export.built import read_built
from kws import cli
from kws.artifact import read_manifest
from kws.config import FeatureConfig, from_dict
from kws.dataset import load_dataset_for
from kws.features import features_of_clips
from kws.gates import KEYS
from kws.noisy_clips import noisy_copies
from quantize.device_answers import MIN_CLIPS_TO_SHARE, device_answers
from quantize.runtimes import TflmRuntime

LABELS = ["_silence_", "_unknown_", "left", "right"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The sentence with which `kws benchmark` fails."""
    assert cli.main(["benchmark", *map(str, arguments)]) == 1
    captured = capsys.readouterr()
    assert "Wrote" not in captured.out
    (sentence,) = captured.err.splitlines()
    return sentence.removeprefix("kws: ")


def stand_in(folder: Path, labels: list[str] = LABELS) -> Path:
    """A build folder that is whole, with a tiny model and ONNX files that nothing reads before the clips."""
    write_tiny_build(folder, labels)
    manifest = tiny_manifest(tiny_model(len(labels)), labels) | {"options": {"activations": "int8"}}
    for name in ("model.onnx", "model.prepared.onnx", "model.int8.onnx"):
        (folder / name).write_bytes(b"not read here")
        manifest["files"][name] = {"bytes": 13, "sha256": hashlib.sha256(b"not read here").hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_builds_of_different_words_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = stand_in(tmp_path / "one"), stand_in(tmp_path / "other", ["_silence_", "_unknown_", "left", "u\x1bp"])
    said = refused(capsys, one, other, "--data", tmp_path, "--out", tmp_path / "report")
    assert said == (
        f"{other}: knows other labels than {one} (not in both are right, u\\x1bp); compare builds of the same words."
    )
    assert not (tmp_path / "report").exists()


def test_arrays_are_not_given_to_builds_that_order_their_labels_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = stand_in(tmp_path / "one"), stand_in(tmp_path / "other", LABELS[::-1])
    said = refused(capsys, one, other, "--inputs", "x.npy", "--targets", "y.npy")
    assert said == f"{other}: orders its labels otherwise than {one}; benchmark them apart."


@pytest.mark.parametrize(
    ("testing", "said"),
    [("", "its lists leave no clip for testing"), ("other/00000001", "its testing split has no clip of a keyword")],
)
def test_a_test_split_without_clips_is_one_sentence(
    testing: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_tones(tmp_path / "data", ["left", "right", "other"])
    (data / "testing_list.txt").write_text(f"{testing}_nohash_0.wav\n" if testing else "")
    (data / "validation_list.txt").write_text("left/00000000_nohash_0.wav\n")
    sentence = refused(capsys, stand_in(tmp_path / "build"), "--data", data, "--out", tmp_path / "report")
    assert sentence.startswith(f"{data}: {said}; ")
    assert not list((tmp_path / "report").iterdir())


def test_data_of_other_words_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_tones(tmp_path / "data", ["left", "up", "other"])
    said = refused(capsys, stand_in(tmp_path / "build"), "--data", data, "--out", tmp_path / "report")
    assert said.startswith(f"{data}: has no clips of 'right'")


@pytest.mark.parametrize("key", ["accuracy.int16", "accuracy.torch", "macs", "params"])
def test_a_gate_on_a_figure_that_the_build_does_not_give_is_refused_before_any_clip_is_read(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert key in KEYS
    build = stand_in(tmp_path / "build")
    said = refused(capsys, build, "--data", tmp_path / "absent", "--fail-below", f"{key}=0.5")
    assert said == f"{build}: a report on it has no figure {key}; take it out of the gates."


def test_a_build_given_twice_is_refused_before_any_clip_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = stand_in(tmp_path / "build")
    assert "is given twice" in refused(capsys, build, build, "--data", tmp_path / "absent")


def test_a_missing_checkpoint_that_the_build_should_have_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = stand_in(tmp_path / "build")
    manifest = json.loads((build / "manifest.json").read_text())
    manifest["files"]["checkpoint.pt"] = {"bytes": 1, "sha256": "0" * 64}
    (build / "manifest.json").write_text(json.dumps(manifest))
    said = refused(capsys, build, "--data", tmp_path / "absent")
    assert said == f"{build / 'checkpoint.pt'}: no such file; run kws quantize again."


def test_a_stream_report_of_another_model_is_refused_before_any_clip_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = stand_in(tmp_path / "build")
    (build / "stream.json").write_text('{"schema": 1, "model_sha256": "0"}')
    said = refused(capsys, build, "--data", tmp_path / "absent")
    assert said == f"{build / 'stream.json'}: is of another model than {build}; remove it or give another --out."


def test_two_processes_answer_as_one_does() -> None:
    model = tiny_model(4)
    shape = TflmRuntime(model).input_shape
    images = np.random.default_rng(0).normal(size=(MIN_CLIPS_TO_SHARE + 5, 1, *shape[1:3])).astype(np.float32)
    shared = device_answers(model, images, "tiny")
    assert np.array_equal(shared, TflmRuntime(model)(images))
    assert np.array_equal(device_answers(model, images[:3], "tiny"), shared[:3])
    assert len(np.unique(shared, axis=0)) > 100


@pytest.fixture(scope="module")
def report_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmark") / "report"


@pytest.fixture(scope="module")
def report(built: Path, spoken: Path, report_folder: Path, kws: Kws) -> dict[str, Any]:
    out = report_folder
    gates = ("--fail-below", "accuracy.int8=0.5", "--fail-above", "arena.cortex_m4=200000", "--fail-drop", "0.2")
    result = kws("benchmark", built, "--data", spoken, "--out", out, *gates)
    assert result.stdout.splitlines()[-1] == f"Wrote {out / 'benchmark.json'}"
    found: dict[str, Any] = json.loads((out / "benchmark.json").read_text())
    return found


@pytest.mark.slow
def test_every_form_of_a_trained_model_answers_alike(report: dict[str, Any], built: Path) -> None:
    assert list(report["accuracy"]) == ["torch", "float", "qdq", "tflite", "int8"]
    assert report["accuracy"]["torch"] == report["accuracy"]["float"] > 0.7
    assert report["sqnrs_db"]["torch"] > 90
    for form in ("qdq", "tflite", "int8"):
        assert report["agreements"][form] >= 0.95
        assert 15 < report["sqnrs_db"][form] < 60
    for form, (low, high) in report["accuracy_interval"].items():
        assert low < report["accuracy"][form] <= high
    assert report["build"] == built.name
    assert report["params"] > 9000
    assert report["macs"] > 2_000_000
    assert report["arena"]["cortex_m4"] < report["arena_bytes"]
    assert sum(one["clips"] for one in report["calibration"]["int8"]["bins"]) == report["clips"]


@pytest.mark.slow
def test_the_report_page_shows_what_was_found(report: dict[str, Any], report_folder: Path) -> None:
    page = (report_folder / "report.html").read_text(encoding="utf-8")
    for title in ("Training", "Classes", "Scores", "Rounding, layer by layer", "Memory over the ops", "Flash and RAM"):
        assert f"<h2>{title}" in page
    assert f"{100 * report['accuracy']['int8']:.2f} %" in page
    assert "kws benchmark --stream measures it" in page


@pytest.mark.slow
def test_clips_that_are_answered_differently_can_be_listened_to(report: dict[str, Any], spoken: Path) -> None:
    differing = round((1 - report["agreement"]) * report["clips"])
    assert len(report["disagreements"]) == differing
    for one in report["disagreements"]:
        assert (spoken / one["clip"].partition("@")[0]).is_file()
        assert one["float"] != one["int8"]
        assert 0 < one["int8_score"] <= 1


@pytest.mark.slow
def test_accuracy_under_noise_is_that_of_the_device_on_noisy_copies_of_the_clips_with_a_word(
    report: dict[str, Any], built: Path, spoken: Path
) -> None:
    points = {point["snr_db"]: point for point in report["snr"]}
    assert list(points) == [None, 20.0, 10.0, 5.0, 0.0]
    assert points[0.0]["accuracy"]["float"] < points[None]["accuracy"]["float"]
    manifest = json.loads((built / "manifest.json").read_text())
    config = from_dict(FeatureConfig, manifest["features"], "manifest.json")
    dataset = load_dataset_for(manifest["labels"], spoken, config)
    clips = dataset.evaluation_clips("testing")
    with_word = clips.targets != manifest["labels"].index("_silence_")
    assert 0 < with_word.sum() < report["clips"]
    copies = {None: clips.pcm[with_word], **dict(noisy_copies(clips.pcm[with_word], dataset.noise_of("testing")))}
    device = TflmRuntime(built / "model.int8.tflite")
    for level_db, pcm in copies.items():
        answers = device(features_of_clips(pcm, config)).argmax(axis=1)
        assert points[level_db]["clips"] == len(answers)
        assert points[level_db]["accuracy"]["int8"] == pytest.approx(np.mean(answers == clips.targets[with_word]))
    # So weak a model is no better than chance where it is louder, which tells nothing of whose clips were answered.
    assert points[20.0]["accuracy"]["int8"] > 0.25


@pytest.mark.slow
def test_several_builds_are_compared_and_each_must_pass_the_gates(
    built: Path, spoken: Path, tmp_path: Path, kws: Kws
) -> None:
    one, other = tmp_path / "a" / "build", tmp_path / "b" / "build"
    for copy in (one, other):
        shutil.copytree(built, copy)
    manifest = read_manifest(other, verify=[])
    del manifest["files"]["checkpoint.pt"]
    (other / "manifest.json").write_text(json.dumps(manifest))
    (other / "checkpoint.pt").unlink()
    assert read_built(other).forms == ("float", "qdq", "tflite", "int8")
    out = tmp_path / "report"
    gates = ("--fail-below", "accuracy.int8=1.01", "--fail-above", "macs=1")
    result = kws("benchmark", one, other, "--data", spoken, "--out", out, *gates, check=False)
    assert result.returncode == 1
    said = result.stderr.splitlines()[-1]
    for name in ("a-build", "b-build"):
        assert f"{name}: accuracy.int8 is 0." in said or f"{name}: accuracy.int8 is 1, below" in said
        assert f"{name}: macs is " in said
        assert str(out / name / "benchmark.json") in said
    assert "2 builds on the same" in result.stdout
    names = ["a-build", "b-build", "comparison.json", "comparison.png", "comparison.svg"]
    assert sorted(path.name for path in out.iterdir()) == names
    reports = [json.loads((out / name / "benchmark.json").read_text()) for name in names[:2]]
    assert "torch" in reports[0]["accuracy"]
    assert "torch" not in reports[1]["accuracy"]
    assert reports[0]["snr"] == reports[1]["snr"]


@pytest.mark.slow
def test_builds_without_a_common_folder_get_a_report_each_and_are_told_how_to_have_pictures(
    built: Path, spoken: Path, tmp_path: Path, kws: Kws
) -> None:
    builds = [tmp_path / name for name in ("one", "two")]
    for copy in builds:
        shutil.copytree(built, copy)
    result = kws("benchmark", *builds, "--data", spoken)
    assert "give --out for the comparison" in result.stderr
    assert "Wrote" not in result.stdout
    assert all((copy / "benchmark.json").is_file() for copy in builds)
    assert not list(tmp_path.rglob("comparison*"))
