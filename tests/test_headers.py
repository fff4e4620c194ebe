"""`kws headers` renders the firmware folder whole, the same each time, and refuses what does not fit."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
import tiny_tflite
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from export import headers
from export.firmware_model import op_types, read_firmware_model
from export.golden import make_golden
from export.headers import render_firmware, render_generated
from export.tflite_reader import OpFacts, TensorFacts, TfliteFacts
from kws.config import to_dict
from kws.detector import DetectorParams
from kws.errors import KwsError

LABELS = ["_silence_", "_unknown_", "yes"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_tflite.write_tiny_build(tmp_path / "build", LABELS)


def _generated(model: Path, detector: DetectorParams | None = None) -> dict[str, str]:
    firmware_model = read_firmware_model(model)
    golden = make_golden(firmware_model, 1 << 20)
    return render_generated(firmware_model, 4096, golden, detector or DetectorParams())


def _tensor(dtype: str) -> TensorFacts:
    return TensorFacts(shape=(1, 4), dtype=dtype, scale=None, zero_point=None, data=None, quantization=())


def test_an_op_with_nodes_of_two_types_has_no_one_type() -> None:
    tensors = (_tensor("INT8"), _tensor("INT32"))
    ops = [("ADD", 0, 0), ("ADD", 1, 1), ("MUL", 0, 0), ("MUL", 0, 0), ("CAST", 0, 1)]
    operators = tuple(OpFacts(name=name, inputs=(a, a), outputs=(b,), window=None) for name, a, b in ops)
    facts = TfliteFacts(operators=operators, tensors=tensors, input_index=0, output_index=0)
    assert op_types(facts) == {"ADD": None, "MUL": "INT8", "CAST": None}


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_is_the_skeleton_and_the_generated_files(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "firmware"
    written = render_firmware(model, out)
    contents = _contents(out)
    assert written == sorted(out / name for name in contents)
    template = _contents(Path(headers.__file__).parents[1] / "firmware_template")
    skeleton = {name: data for name, data in template.items() if not name.startswith("targets/")}
    assert skeleton.items() <= contents.items()
    assert {name for name in contents if name.startswith("generated/")} == contents.keys() - skeleton.keys()
    assert not list(tmp_path.glob(".firmware*"))


def test_the_same_model_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    render_firmware(model, tmp_path / "one")
    render_firmware(model, tmp_path / "two" / "below")
    assert _contents(tmp_path / "one") == _contents(tmp_path / "two" / "below")


def test_every_generated_file_names_its_source(model: Path) -> None:
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    for text in _generated(model).values():
        head = "\n".join(text.splitlines()[:3])
        assert "do not edit" in head
        assert "model.int8.tflite" in head
        assert digest in head
        assert "kws 0." in head


def _without_features(folder: Path) -> Path:
    data = tiny_tflite.tiny_model(3)
    manifest = tiny_tflite.tiny_manifest(data, LABELS)
    del manifest["features"]
    return tiny_tflite.write_build(folder, data, manifest)


def test_a_model_without_features_gets_what_runs_it_and_no_front_end(tmp_path: Path) -> None:
    out = tmp_path / "firmware"
    written = render_firmware(_without_features(tmp_path / "build"), out)
    names = sorted(str(path.relative_to(out)) for path in written)
    assert names == [
        "CMakeLists.txt",
        "README.md",
        "cmake/tflm.cmake",
        "cmake/tflm_checks.cmake",
        *("generated/golden.cc", "generated/golden.h"),
        *(f"generated/{name}" for name in ("labels.cc", "labels.h", "model_data.cc", "model_data.h", "model_params.h")),
        "generated/op_resolver.h",
        *("generated/posterior_tables.cc", "generated/posterior_tables.h"),
        *("src/inference.cc", "src/inference.h", "src/posteriors.c", "src/posteriors.h"),
    ]
    assert "Batch, height, width, channels" in (out / "generated/model_params.h").read_text()
    assert render_firmware(tmp_path / "build" / "model.int8.tflite", out) == sorted((out / "generated").iterdir())


def test_a_folder_with_a_front_end_takes_no_model_without_features(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "firmware"
    render_firmware(model, out)
    before = _contents(out)
    with pytest.raises(KwsError, match=r"has the front end of another model.*choose a new folder\.$"):
        render_firmware(_without_features(tmp_path / "other"), out)
    assert _contents(out) == before


def test_silence_and_unknown_are_found_or_minus_one(tmp_path: Path) -> None:
    with_both = tiny_tflite.write_tiny_build(tmp_path / "a", ["yes", "_unknown_", "_silence_"])
    without = tiny_tflite.write_tiny_build(tmp_path / "b", ["yes", "no"])
    text = _generated(with_both)["labels.h"]
    assert "kSilenceIndex = 2, kUnknownIndex = 1" in text
    assert "kSilenceIndex = -1, kUnknownIndex = -1" in _generated(without)["labels.h"]


def test_rendering_again_keeps_edits_and_renews_what_is_generated(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "firmware"
    render_firmware(model, out)
    (out / "src/main.cc").write_text("// mine\n")
    (out / "generated/labels.h").write_text("stale")
    (out / "src/frontend.h").unlink()
    written = render_firmware(model, out)
    assert (out / "src/main.cc").read_text() == "// mine\n"
    assert "kLabelYes" in (out / "generated/labels.h").read_text()
    assert out / "src/frontend.h" in written
    assert out / "src/main.cc" not in written


def test_a_folder_with_other_things_is_left_alone(model: Path, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text("mine")
    with pytest.raises(KwsError, match="no firmware folder"):
        render_firmware(model, tmp_path)
    assert not (tmp_path / "generated").exists()


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_an_out_that_cannot_be_written_is_a_sentence(model: Path, tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(KwsError, match=r"choose another output folder\.$"):
        render_firmware(model, tmp_path / out)


def test_a_file_in_the_place_of_generated_is_a_sentence(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "firmware"
    (out / "src").mkdir(parents=True)
    for name in ("CMakeLists.txt", "src/inference.cc", "generated"):
        (out / name).write_text("x")
    with pytest.raises(KwsError, match="cannot write the firmware"):
        render_firmware(model, out)


def test_a_missing_skeleton_is_a_sentence(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "_SKELETON_FOLDER", tmp_path / "absent")
    with pytest.raises(KwsError, match="install kws again"):
        render_firmware(model, tmp_path / "firmware")
    assert not (tmp_path / "firmware").exists()


def _set(manifest: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        manifest = manifest[key]
    manifest[path[-1]] = value


MANIFEST_CHANGES = {
    "input shape": (["input", "shape"], [1, 40, 6, 1], "which is not what manifest.json"),
    "input scale": (["input", "scale"], 0.09011, "which is not what manifest.json"),
    "scale no number": (["input", "scale"], "0.0901", "which is not what manifest.json"),
    "input no object": (["input"], [1, 2], "which is not what manifest.json"),
    "output zero point": (["output", "zero_point"], 4, "which is not what manifest.json"),
    "too few labels": (["labels"], LABELS[:2], "does not fit the 2 labels"),
    "no labels": (["labels"], [], "not a list of words"),
    "labels no words": (["labels"], [1, 2, 3], "not a list of words"),
    "a label twice": (["labels"], ["a", "a", "b"], "twice"),
    "a label with NUL": (["labels"], ["a", "b\0", "c"], "C string"),
    "a lone surrogate": (["labels"], ["a", "b\ud800", "c"], "C string"),
    "no features": (["features"], None, "FeatureConfig"),
    "more frames": (["features", "clip_samples"], 16_000, r"is not the \[1, 40, 98, 1\]"),
    "FFT of 500": (["features", "fft_size"], 500, "power of two"),
    "huge FFT": (["features", "fft_size"], 1 << 40, "power of two"),
    "window beyond the FFT": (["features", "window_samples"], 513, "window_samples"),
    "no hop": (["features", "hop_samples"], 0, "hop_samples"),
    "hop beyond the window": (["features", "hop_samples"], 481, "hop_samples"),
    "no mel bands": (["features", "mel_bands"], 0, "mel_bands"),
    "mel beyond Nyquist": (["features", "mel_high_hz"], 9000.0, "half the sample rate"),
    "no offset": (["features", "log_offset"], 0.0, "log_offset"),
    "offset zero as float32": (["features", "log_offset"], 1e-60, "log_offset"),
    "clip too short": (["features", "clip_samples"], 100, "frames"),
    "another file": (["files", "model.int8.tflite", "sha256"], "0" * 64, "differs"),
    "undescribed file": (["files"], {}, "does not describe"),
    "another schema": (["schema"], 2, "another version"),
}


@pytest.mark.parametrize("change", MANIFEST_CHANGES)
def test_a_manifest_that_does_not_fit_is_a_sentence(tmp_path: Path, change: str) -> None:
    path, value, message = MANIFEST_CHANGES[change]
    data = tiny_tflite.tiny_model(3)
    manifest = tiny_tflite.tiny_manifest(data, LABELS)
    _set(manifest, path, value)
    model = tiny_tflite.write_build(tmp_path / "build", data, manifest)
    with pytest.raises(KwsError, match=message) as caught:
        render_firmware(model, tmp_path / "firmware")
    assert str(caught.value).startswith(str(tmp_path))
    assert not (tmp_path / "firmware").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": schema.TensorType.FLOAT32}, "its input is FLOAT32, not INT8 or INT16"),
        ({"dtype": schema.TensorType.INT16}, "no int16 scale and zero point"),
        ({"quantized": False}, "no int8 scale"),
        ({"op": schema.BuiltinOperator.GELU}, "the op GELU"),
        ({"inputs": 2}, "damaged"),
    ],
)
def test_a_model_that_does_not_fit_is_a_sentence(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    data = tiny_tflite.tiny_model(3, **options)
    model = tiny_tflite.write_build(tmp_path / "build", data, tiny_tflite.tiny_manifest(data, LABELS))
    with pytest.raises(KwsError, match=message):
        render_firmware(model, tmp_path / "firmware")


@pytest.mark.parametrize(
    ("missing", "wrong"), [("manifest.json", "no such file"), ("model.int8.tflite", "cannot be read")]
)
def test_a_missing_file_is_a_sentence(model: Path, tmp_path: Path, missing: str, wrong: str) -> None:
    (model.parent / missing).unlink()
    with pytest.raises(KwsError, match=f"{missing}: {wrong}"):
        render_firmware(model, tmp_path / "firmware")


def test_other_feature_sizes_reach_the_firmware(tmp_path: Path) -> None:
    features = dataclasses.replace(tiny_tflite.FEATURES, hop_samples=320, clip_samples=16_000, mel_bands=32)
    model = tiny_tflite.write_tiny_build(tmp_path / "build", LABELS, features)
    text = _generated(model)["feature_params.h"]
    assert "kHopSamples = 320," in text
    assert "kMelBands = 32," in text
    assert "kFrames = 49," in text
    assert to_dict(read_firmware_model(model).features) == to_dict(features)
