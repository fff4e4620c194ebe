"""`kws verify`: a sound build passes every arrow, and each mistake, made once, is caught by the arrow it is in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny_tflite
import torch
from conftest import Kws
from networks import clips_for, graph_model
from onnx import helper, numpy_helper
from parity import with_wrong_weight_scale
from toolchains import require

from export.from_onnx import build_onnx
from export.front_end_parity import build_front_end
from export.headers import render_firmware, stale_files
from export.to_onnx import to_onnx
from export.verify import VerifyOptions, verify
from export.verify_inputs import synthetic_clips
from kws.artifact import read_json, write_json, write_manifest
from kws.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kws.config import FeatureConfig
from kws.detector import DetectorParams
from kws.errors import KwsError
from quantize.options import QuantizeOptions

CLIPS = 8
FILES = ("checkpoint.pt", "model.int8.onnx", "model.int8.tflite", "model.onnx", "model.prepared.onnx", "training.csv")
ARROWS = [
    "checkpoint -> manifest",
    "torch -> float ONNX",
    "float ONNX -> rewritten ONNX",
    "rewritten ONNX -> QDQ ONNX",
    "QDQ ONNX -> TFLM",
    "TFLite reference -> TFLM",
    "Python features -> C front end, float",
    "Python features -> C front end, fixed point",
]


@pytest.fixture
def build(built: Path, tmp_path: Path) -> Path:
    """A copy of the build, to be damaged."""
    return Path(shutil.copytree(built, tmp_path / "build"))


def describe_anew(build: Path, **changes: Any) -> None:
    """A manifest that fits the files as they are now, so that only an arrow can tell that they are wrong."""
    manifest = read_json(build / "manifest.json", "x")
    fields = {key: value for key, value in manifest.items() if key not in ("schema", "versions", "files", "sha256")}
    write_manifest(build, fields | changes, list(manifest["files"]))


def failures(build: Path, out: Path, **options: Any) -> set[str]:
    """The arrows that failed, after all of them were run."""
    with pytest.raises(KwsError, match="cannot be trusted, for these failed: ") as raised:
        verify(build, VerifyOptions(**{"clips": CLIPS, "front_end": False} | options), out)
    report = json.loads(out.read_text())
    arrows = {check["name"].partition(":")[0]: True for check in report["checks"]}
    for check in report["checks"]:
        arrows[check["name"].partition(":")[0]] &= check["passed"]
    expected = ARROWS if options.get("front_end") else ARROWS[:6]
    assert [arrow for arrow in arrows if arrow != "TFLite -> firmware"] == expected
    found = {arrow for arrow, passed in arrows.items() if not passed}
    assert all(arrow in str(raised.value) for arrow in found)
    assert report["passed"] is False
    return found


@pytest.mark.slow
def test_a_sound_build_and_its_firmware_pass_every_arrow(built: Path, spoken: Path, tmp_path: Path, kws: Kws) -> None:
    require("c++", "gcc g++")
    kws("headers", built / "model.int8.tflite", "--out", tmp_path / "firmware")
    report = tmp_path / "report.json"
    options = ["--data", spoken, "--clips", "20", "--firmware", tmp_path / "firmware", "--out", report]
    result = kws("verify", built, *options)
    lines = result.stdout.splitlines()
    assert lines[0] == f"{len(FILES)} files are what manifest.json says."
    assert lines[1].startswith("Made and verified with kws ")
    assert lines[2] == f"Running it on 20 clips of {spoken}."
    assert lines[-1] == f"Wrote {report}"
    arrows = list(dict.fromkeys(line.split(":")[0].removeprefix("ok").strip() for line in lines if line[:3] == "ok "))
    assert arrows == [*ARROWS, "TFLite -> firmware"]
    found = json.loads(report.read_text())
    assert (found["passed"], found["not_run"], found["inputs"]["count"]) == (True, [], 20)
    assert found["figures"]["float ONNX -> TFLM: logit SQNR in dB"] > 15


@pytest.mark.slow
def test_a_sound_build_passes_without_any_data(
    built: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    verify(built, VerifyOptions(clips=CLIPS, front_end=False))
    printed = capsys.readouterr().out
    assert f"Running it on {CLIPS} synthetic clips" in printed
    assert "not run Python features -> C front end: left out, as --without-front-end says." in printed
    assert "FAILED" not in printed
    with pytest.raises(KwsError, match="C front end, float, Python features -> C front end, fixed point; the lines"):
        verify(built, VerifyOptions(clips=CLIPS))
    assert "install gcc and g++, or give --without-front-end." in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_any_file_is_caught(build: Path, name: str) -> None:
    content = bytearray((build / name).read_bytes())
    content[len(content) // 2] ^= 1
    (build / name).write_bytes(content)
    with pytest.raises(KwsError, match=rf"build: {name} was changed; run kws quantize again"):
        verify(build, VerifyOptions(clips=CLIPS))


@pytest.mark.slow
def test_every_damaged_file_is_named(build: Path) -> None:
    for name in FILES[:2]:
        (build / name).write_bytes(b"x")
    (build / "model.onnx").unlink()
    (build / "model.int16.tflite").write_bytes(b"")
    wanted = "checkpoint.pt was changed, model.int8.onnx was changed, model.onnx is missing, model.int16.tflite is of"
    with pytest.raises(KwsError, match=wanted):
        verify(build, VerifyOptions(clips=CLIPS))


@pytest.mark.slow
def test_a_flipped_bit_anywhere_in_the_manifest_is_caught(build: Path) -> None:
    path = build / "manifest.json"
    content = path.read_bytes()
    values = json.loads(content)
    for position in range(0, len(content), len(content) // 40):
        flipped = bytearray(content)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        try:
            if json.loads(flipped) == values:  # A space or a line's end between values.
                continue
        except ValueError:
            pass
        with pytest.raises(KwsError, match=r"manifest\.json"):
            verify(build, VerifyOptions(clips=CLIPS))


def other_checkpoint(build: Path) -> Checkpoint:
    """That of the build, its classes answered in another order."""
    checkpoint = load_checkpoint(build / "checkpoint.pt")
    last = [
        name for name, tensor in checkpoint.weights.items() if tensor.ndim and len(tensor) == len(checkpoint.labels)
    ]
    for name in last:
        checkpoint.weights[name] = torch.roll(checkpoint.weights[name], 1, dims=0)
    assert last
    return checkpoint


@pytest.mark.slow
def test_another_checkpoint_is_caught_by_the_first_arrows(build: Path, tmp_path: Path) -> None:
    save_checkpoint(build / "checkpoint.pt", other_checkpoint(build))
    describe_anew(build, model={**read_json(build / "manifest.json", "x")["model"], "macs": 1})
    assert failures(build, tmp_path / "out.json") == set(ARROWS[:2])
    checks = json.loads((tmp_path / "out.json").read_text())["checks"]
    assert "fields that differ (model, source) is 2" in checks[0]["sentence"]


@pytest.mark.slow
def test_integer_models_of_another_checkpoint_are_caught_where_float_becomes_integer(
    build: Path, tmp_path: Path
) -> None:
    checkpoint = other_checkpoint(build)
    save_checkpoint(build / "checkpoint.pt", checkpoint)
    to_onnx(checkpoint.build(), (1, 1, 40, checkpoint.features.frames), build / "model.onnx")
    shutil.copyfile(build / "model.onnx", build / "model.prepared.onnx")
    describe_anew(build)
    assert failures(build, tmp_path / "out.json") == {"checkpoint -> manifest", "rewritten ONNX -> QDQ ONNX"}


def _wrong_device(build: Path) -> None:
    path = build / "model.int8.tflite"
    path.write_bytes(with_wrong_weight_scale(path.read_bytes(), 1.2))


def _wrong_rewrite(build: Path) -> None:
    model = onnx.load(build / "model.prepared.onnx")
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(1.01), weights.name))
    onnx.save(model, build / "model.prepared.onnx")


def _no_model(build: Path) -> None:
    (build / "model.int8.onnx").write_bytes(b"no ONNX")


MISTAKES: list[tuple[Callable[[Path], None], set[str]]] = [
    (_wrong_device, {"QDQ ONNX -> TFLM"}),
    (_wrong_rewrite, {"float ONNX -> rewritten ONNX"}),
    (_no_model, {"rewritten ONNX -> QDQ ONNX", "QDQ ONNX -> TFLM"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("mistake", "arrows"), MISTAKES, ids=[mistake.__name__.strip("_") for mistake, _ in MISTAKES])
def test_a_wrong_model_that_the_manifest_fits_is_caught_by_its_arrow_alone(
    build: Path, tmp_path: Path, mistake: Callable[[Path], None], arrows: set[str]
) -> None:
    mistake(build)
    describe_anew(build)
    assert failures(build, tmp_path / "out.json") == arrows


WRONG_FIRMWARE = {
    "window": ("generated/feature_tables.cc", "0.50654477f", "0.50754477f", {ARROWS[6], "TFLite -> firmware"}),
    "fixed window": ("generated/feature_tables.cc", " 33197,", " 43197,", {ARROWS[7], "TFLite -> firmware"}),
    "float code": ("src/features_float.c", "int32_t", "no_such_type", {ARROWS[6]}),
    "model": ("generated/model_data.cc", "0x", "0X", {"TFLite -> firmware"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG_FIRMWARE)
def test_a_changed_firmware_is_caught(built: Path, tmp_path: Path, name: str) -> None:
    require("c++", "gcc g++")
    path, right, wrong, arrows = WRONG_FIRMWARE[name]
    render_firmware(built / "model.int8.tflite", tmp_path / "firmware")
    text = (tmp_path / "firmware" / path).read_text()
    assert right in text
    (tmp_path / "firmware" / path).write_text(text.replace(right, wrong))
    found = failures(built, tmp_path / "out.json", firmware=tmp_path / "firmware", front_end=True)
    assert found == arrows


@pytest.mark.slow
def test_other_versions_are_said_and_do_not_fail(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    describe_anew(build)
    manifest = read_json(build / "manifest.json", "x")
    fields = {key: value for key, value in manifest.items() if key not in ("schema", "files", "sha256")}
    fields["versions"]["torch"] = "2.10.0\x1b[2J"
    write_manifest(build, fields, list(manifest["files"]))
    verify(build, VerifyOptions(clips=CLIPS, front_end=False))
    installed = torch.__version__.partition("+")[0]
    wanted = f"Made with torch 2.10.0\\x1b[2J, verified with torch {installed}"
    assert wanted in capsys.readouterr().out


@pytest.fixture(scope="module", params=["int8", "int16"])
def given_build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build of an ONNX model, with the calibration inputs beside it."""
    folder = tmp_path_factory.mktemp("given")
    weights = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], name="gemm", transB=1)]
    model = graph_model(nodes, {"w": weights}, (1, 6), (1, 4))
    onnx.save(model, folder / "model.onnx")
    np.save(folder / "inputs.npy", clips_for(model, 60))
    return build_onnx(
        folder / "model.onnx", folder / "inputs.npy", folder / "build", QuantizeOptions(activations=request.param)
    )


def test_a_build_of_an_onnx_model_has_neither_checkpoint_nor_front_end(
    given_build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify(given_build, VerifyOptions(clips=CLIPS))
    printed = capsys.readouterr().out
    assert f"Running it on {CLIPS} inputs of noise; --inputs NPY takes real ones." in printed
    assert "there is no checkpoint and no front end" in printed
    verify(given_build, VerifyOptions(clips=CLIPS, inputs=given_build.parent / "inputs.npy"))
    assert f"Running it on {CLIPS} inputs of {given_build.parent}" in capsys.readouterr().out
    with pytest.raises(KwsError, match="give --inputs, not --data"):
        verify(given_build, VerifyOptions(clips=CLIPS, data=given_build))


@pytest.mark.slow
def test_a_build_of_a_checkpoint_takes_sound(built: Path, tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="give --data, not --inputs"):
        verify(built, VerifyOptions(clips=CLIPS, inputs=tmp_path / "x.npy"))


def test_firmware_is_fresh_until_its_model_is_another(tmp_path: Path) -> None:
    model = tiny_tflite.write_tiny_build(tmp_path / "build", ["a", "b", "c"])
    render_firmware(model, tmp_path / "firmware", DetectorParams(threshold=0.5, stride_ms=200))
    assert stale_files(model, tmp_path / "firmware") == []
    generated = tmp_path / "firmware/generated"
    (generated / "labels.cc").unlink()
    (generated / "golden.cc").write_text((generated / "golden.cc").read_text() + "\n")
    assert stale_files(model, tmp_path / "firmware") == ["golden.cc", "labels.cc"]
    other = tiny_tflite.write_tiny_build(tmp_path / "other", ["a", "b", "c", "d"])
    stale = stale_files(other, tmp_path / "firmware")
    assert {"model_data.cc", "detector_params.cc", "labels.cc", "model_params.h"} <= set(stale)
    with pytest.raises(KwsError, match="is no firmware folder"):
        stale_files(model, tmp_path / "build")


@pytest.mark.parametrize("frames", [1, 5])
def test_synthetic_clips_are_the_same_each_time_and_differ_from_each_other(frames: int) -> None:
    config = FeatureConfig(clip_samples=480 + 160 * (frames - 1))
    clips = synthetic_clips(20, config)
    np.testing.assert_array_equal(clips, synthetic_clips(20, config))
    assert clips.shape == (20, config.clip_samples)
    assert len(np.unique(clips, axis=0)) == 20
    assert np.ptp(np.log(np.abs(clips.astype(float)).max(axis=1) + 1)) > 2


def test_a_front_end_that_does_not_compile_is_one_sentence(tmp_path: Path) -> None:
    require("c++", "gcc g++")
    render_firmware(tiny_tflite.write_tiny_build(tmp_path / "build", ["a", "b", "c"]), tmp_path / "firmware")
    (tmp_path / "firmware/src/frontend.c").write_text("int main(void) { return }\n")
    with pytest.raises(KwsError, match=r"frontend\.c: cannot be compiled \(.*error.*\); render the firmware anew\."):
        build_front_end(tmp_path / "firmware", tmp_path / "out", fixed_point=False)


def test_a_folder_that_is_no_build_is_one_sentence(tmp_path: Path, kws: Kws) -> None:
    result = kws("verify", tmp_path / "absent", check=False)
    assert result.returncode == 1
    assert "absent/manifest.json: no such file" in result.stderr
    write_json(tmp_path / "manifest.json", {"schema": 1, "options": {"activations": "int8"}, "files": 3})
    result = kws("verify", tmp_path, check=False)
    assert result.returncode == 1
    assert "does not describe model.onnx" in result.stderr
    assert "Traceback" not in result.stderr
