"""The whole path through the command line, on a small synthetic data set and a model that was actually trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import PATH_KEYWORDS, Kws, write_tones
from toolchains import host_program, run_program

from export.build import ModelFiles, prove
from export.from_checkpoint import checkpoint_source
from kws.checkpoint import load_checkpoint
from kws.config import FeatureConfig, from_dict
from kws.dataset import load_dataset_for
from kws.errors import KwsError
from kws.features import features_of_clips
from quantize.reference import reference_process
from quantize.runtimes import OnnxRuntime, TflmRuntime

pytestmark = pytest.mark.slow

LABELS = ["_silence_", "_unknown_", *PATH_KEYWORDS.split(",")]


def test_training_leaves_a_checkpoint_that_loads_without_pickle_and_its_metrics(trained_run: Path) -> None:
    assert sorted(path.name for path in trained_run.iterdir()) == ["checkpoint.pt", "metrics.json", "training.csv"]
    assert torch.load(trained_run / "checkpoint.pt", weights_only=True)["labels"] == LABELS
    metrics = json.loads((trained_run / "metrics.json").read_text())
    assert metrics["test"]["clips"] >= 30
    assert metrics["test"]["accuracy"] > 0.7
    assert metrics["params"] > 9000
    assert metrics["macs"] > 2_000_000


def test_labels_in_another_order_are_not_taken_for_the_models(built: Path, tmp_path: Path, kws: Kws) -> None:
    shutil.copytree(built, tmp_path / "build")
    manifest = json.loads((built / "manifest.json").read_text())
    manifest["labels"][2:4] = manifest["labels"][3:1:-1]
    (tmp_path / "build" / "manifest.json").write_text(json.dumps(manifest))
    refused = kws("headers", tmp_path / "build" / "model.int8.tflite", "--out", tmp_path / "firmware", check=False)
    assert refused.returncode == 1
    assert "was made for other labels than manifest.json" in refused.stderr
    assert not (tmp_path / "firmware").exists()


def test_a_build_holds_its_models_and_a_manifest_with_every_proof(built: Path) -> None:
    names = sorted(path.name for path in built.iterdir())
    models = ["model.int8.onnx", "model.int8.tflite", "model.onnx", "model.prepared.onnx"]
    assert names == ["checkpoint.pt", "manifest.json", *models, "training.csv"]
    manifest = json.loads((built / "manifest.json").read_text())
    assert sorted(manifest["files"]) == ["checkpoint.pt", *models, "training.csv"]
    assert manifest["labels"] == LABELS
    assert manifest["input"]["shape"] == [1, 40, 98, 1]
    assert manifest["output"]["shape"] == [1, 6]
    assert all(check["passed"] for check in manifest["checks"])
    arrows = {check["name"].partition(":")[0] for check in manifest["checks"]}
    assert len(arrows) == 4
    for path in built.iterdir():
        content = path.read_bytes()
        assert str(Path.home()).encode() not in content
        assert str(built.parent.parent).encode() not in content


def test_the_same_checkpoint_gives_the_same_bytes(
    trained_run: Path, spoken: Path, built: Path, tmp_path: Path, kws: Kws
) -> None:
    kws("quantize", trained_run / "checkpoint.pt", "--data", spoken, "--out", tmp_path / "again")
    for path in built.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_int8_is_as_accurate_as_float_on_unseen_speakers(built: Path, spoken: Path, tmp_path: Path, kws: Kws) -> None:
    result = kws("benchmark", built, "--data", spoken, "--out", tmp_path / "report")
    report = json.loads((tmp_path / "report" / "benchmark.json").read_text())
    assert report["accuracy"]["float"] > 0.7
    assert abs(report["accuracy"]["int8"] - report["accuracy"]["float"]) <= 0.03
    assert report["agreement"] >= 0.95
    assert report["sqnr_db"] > 15
    assert report["clips"] >= 30
    assert report["model_bytes"] == (built / "model.int8.tflite").stat().st_size
    assert 20_000 < report["arena_bytes"] < 200_000
    assert f"{report['accuracy']['int8']:.2%}" in result.stdout
    assert result.stdout.splitlines()[-1] == f"Wrote {tmp_path / 'report' / 'benchmark.json'}"


def test_benchmark_and_training_agree_on_the_float_accuracy(
    built: Path, trained_run: Path, spoken: Path, tmp_path: Path, kws: Kws
) -> None:
    kws("benchmark", built, "--data", spoken, "--out", tmp_path)
    report = json.loads((tmp_path / "benchmark.json").read_text())
    metrics = json.loads((trained_run / "metrics.json").read_text())
    assert report["clips"] == metrics["test"]["clips"]
    assert report["accuracy"]["float"] == pytest.approx(metrics["test"]["accuracy"], abs=1e-9)


def test_headers_give_a_complete_firmware_folder(built: Path, tmp_path: Path, kws: Kws) -> None:
    result = kws("headers", built / "model.int8.tflite", "--out", tmp_path / "firmware")
    assert result.stdout.splitlines()[-1] == f"Wrote {tmp_path / 'firmware'}"
    assert (tmp_path / "firmware" / "CMakeLists.txt").is_file()
    assert (tmp_path / "firmware" / "src" / "main.cc").is_file()
    assert list((tmp_path / "firmware" / "generated").glob("*.h"))


def test_inspect_finds_what_each_op_costs_and_loses(built: Path, spoken: Path, tmp_path: Path, kws: Kws) -> None:
    model, report = built / "model.int8.tflite", tmp_path / "inspection.json"
    result = kws("inspect", model, "--float", built / "model.onnx", "--data", spoken, "--out", report)
    assert result.stdout.splitlines()[-1] == f"Wrote {report}"
    found = json.loads(report.read_text())
    assert found["unmeasured_ops"] == 0
    assert 20e6 < found["instructions"]["cortex_m55"] < found["instructions"]["cortex_m4"] < 80e6
    assert found["compared_clips"] >= 10
    assert all(op["sqnr_db"] is None or op["sqnr_db"] > 5 for op in found["ops"])
    # The others are steps on the way to a tensor of the float model: rows side by side, places in a table.
    assert sum(op["sqnr_db"] is not None for op in found["ops"]) > 0.6 * len(found["ops"])
    assert found["ops"][-1]["sqnr_db"] > 15
    (tmp_path / "other.onnx").write_bytes((built / "model.int8.onnx").read_bytes())
    refused = kws("inspect", model, "--float", tmp_path / "other.onnx", "--data", spoken, check=False)
    assert refused.returncode == 1
    assert "other.onnx: is not the float model of" in refused.stderr


def test_a_wrong_scale_in_the_device_model_fails_the_proof(
    built: Path, trained_run: Path, spoken: Path, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(trained_run / "checkpoint.pt")
    folder = tmp_path / "build"
    shutil.copytree(built, folder)
    qdq = onnx.load(folder / "model.int8.onnx")
    scales = [initializer.name for initializer in qdq.graph.initializer if initializer.name.endswith("/weight/scale")]
    wrong = scales[len(scales) // 2]
    for initializer in qdq.graph.initializer:
        if initializer.name == wrong:
            value = onnx.numpy_helper.to_array(initializer) * np.float32(1.5)
            initializer.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float32), wrong))
    (folder / "model.int8.onnx").write_bytes(qdq.SerializeToString())
    dataset = load_dataset_for(checkpoint.labels, spoken, checkpoint.features)
    features = features_of_clips(dataset.evaluation_clips("validation").pcm, checkpoint.features)
    source = checkpoint_source(checkpoint, trained_run / "checkpoint.pt", features, features)
    with reference_process() as reference:
        prove(source, built, ModelFiles("int8"), reference)
    with reference_process() as reference, pytest.raises(KwsError, match="QDQ ONNX -> TFLM"):
        prove(source, folder, ModelFiles("int8"), reference)


def test_the_qdq_graph_and_the_device_answer_real_clips_alike_and_not_always_the_same(
    built: Path, spoken: Path
) -> None:
    manifest = json.loads((built / "manifest.json").read_text())
    config = from_dict(FeatureConfig, manifest["features"], "manifest.json")
    dataset = load_dataset_for(manifest["labels"], spoken, config)
    features = features_of_clips(dataset.evaluation_clips("testing").pcm, config)
    device = TflmRuntime(built / "model.int8.tflite")
    on_device, simulated = device(features), device.output.quantize(OnnxRuntime(built / "model.int8.onnx")(features))
    assert len(set(on_device.argmax(axis=1).tolist())) >= 4
    assert np.mean(np.abs(on_device.astype(int) - simulated) <= 1) >= 0.99


def test_labels_with_quotes_newlines_and_arabic_letters_reach_the_firmware(tmp_path: Path, kws: Kws) -> None:
    labels = sorted(['say "hi"', "line\nbreak", "نعم", "back\\slash ??"])
    data = write_tones(tmp_path / "data", labels, noise=False)
    kws("train", data, "--out", tmp_path / "run", "--epochs", "3")
    kws("quantize", tmp_path / "run" / "checkpoint.pt", "--data", data, "--out", tmp_path / "build")
    kws("headers", tmp_path / "build" / "model.int8.tflite", "--out", tmp_path / "firmware")
    kws("benchmark", tmp_path / "build", "--data", data)
    report = json.loads((tmp_path / "build" / "benchmark.json").read_text())
    assert report["labels"] == labels
    source = tmp_path / "print_labels.c"
    source.write_text(
        '#include <stdio.h>\n#include "labels.h"\n'
        "int main(void) {\n"
        "  for (int i = 0; i < kLabelCount; ++i) { fputs(kLabels[i], stdout); putchar(0); }\n"
        "  return 0;\n}\n"
    )
    generated = tmp_path / "firmware" / "generated"
    program = host_program([source, generated / "labels.cc"], [generated], tmp_path / "program")
    assert run_program(program).decode().split("\0")[:-1] == labels


def test_a_changed_model_is_caught_before_it_is_judged(built: Path, spoken: Path, tmp_path: Path, kws: Kws) -> None:
    shutil.copytree(built, tmp_path / "build")
    model = tmp_path / "build" / "model.int8.tflite"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    for arguments in (
        ["benchmark", tmp_path / "build", "--data", spoken],
        ["headers", model, "--out", tmp_path / "firmware"],
    ):
        result = kws(*arguments, check=False)
        assert result.returncode == 1
        assert "differs from what manifest.json" in result.stderr
    assert not (tmp_path / "firmware").exists()


def test_a_label_set_that_does_not_match_the_data_is_one_sentence(
    built: Path, spoken: Path, tmp_path: Path, kws: Kws
) -> None:
    shutil.copytree(spoken, tmp_path / "data", ignore=shutil.ignore_patterns("bed", "cat"))
    result = kws("benchmark", built, "--data", tmp_path / "data", "--out", tmp_path, check=False)
    assert result.returncode == 1
    assert "was trained for _silence_, _unknown_, yes" in result.stderr
    assert "Traceback" not in result.stderr
