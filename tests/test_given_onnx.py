"""`kws quantize MODEL.onnx`: networks of others, with the proofs of our own; what does not fit is one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import Kws
from keyword_networks import DsCnn, GatedNet, MatchboxNet, TcResNet
from networks import clips_for, graph_model, randomise, run
from onnx import helper
from toolchains import ARM, HOST, Toolchain, compile_object
from torch import nn

from export.build import ModelFiles
from export.from_onnx import build_onnx
from export.headers import render_firmware
from export.inspection import inspect_model
from export.lowering import lower
from export.to_onnx import to_onnx
from export.to_tflite import to_tflite
from kws.config import ModelConfig
from kws.errors import KwsError
from kws.metrics import sqnr_db
from kws.model import BCResNet
from quantize.calibration import calibrate
from quantize.compare import check_device, max_abs_difference, require
from quantize.device_rounding import round_as_device
from quantize.given_model import read_onnx
from quantize.input_layout import InputLayout
from quantize.options import QuantizeOptions
from quantize.pipeline import prepare
from quantize.qdq import quantize_model
from quantize.rewrites import rewrite
from quantize.runtimes import OnnxRuntime, TflmRuntime

BANDS, FRAMES = 20, 41
Network = tuple[Callable[[], nn.Module], tuple[int, ...], list[int]]
# The network, the shape of its input, and the shape that the .tflite has.
NETWORKS: dict[str, Network] = {
    "DS-CNN": (DsCnn, (1, BANDS, FRAMES), [1, BANDS, FRAMES, 1]),
    "MatchboxNet": (MatchboxNet, (BANDS, FRAMES), [1, 1, FRAMES, BANDS]),
    "TC-ResNet": (TcResNet, (1, BANDS, FRAMES), [1, 1, FRAMES, BANDS]),
    "TC-ResNet with hard-swish": (
        lambda: TcResNet(activation=nn.Hardswish()),
        (1, BANDS, FRAMES),
        [1, 1, FRAMES, BANDS],
    ),
    "gates": (GatedNet, (BANDS, FRAMES), [1, 1, FRAMES, BANDS]),
}
EXPORTERS = {"dynamo": 18, "dynamo 21": 21, "torchscript": 13}


def export(name: str, exporter: str, path: Path) -> onnx.ModelProto:
    """With the project's own exporter, torch's newer one, or the older one: batch size symbolic, norms not folded."""
    make, shape, _ = NETWORKS[name]
    network, example = make().eval(), torch.zeros(1, *shape)
    network(example)
    randomise(network, seed=3)
    if exporter == "dynamo":
        return to_onnx(network, example.shape, path)
    options: dict[str, Any] = {"dynamo": True, "external_data": False}
    if exporter == "torchscript":
        axes = {"input": {0: "batch"}, "output": {0: "batch"}}
        options = {"dynamo": False, "dynamic_axes": axes, "do_constant_folding": False, "training": _AS_IT_IS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (example,), str(path), input_names=["input"], output_names=["output"],
            opset_version=EXPORTERS[exporter], verbose=False, **options,
        )  # fmt: skip
    return onnx.load(path)


_AS_IT_IS = torch.onnx.TrainingMode.PRESERVE


def inputs(shape: tuple[int, ...], count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_of_a_network_is_on_the_device_what_the_qdq_graph_says(
    name: str, exporter: str, tmp_path: Path
) -> None:
    shape = NETWORKS[name][1]
    clips, unseen = inputs(shape, 40), inputs(shape, 12, seed=1)
    exported = export(name, exporter, tmp_path / "model.onnx")
    given = read_onnx(tmp_path / "model.onnx")
    if exporter == "torchscript":
        assert "BatchNormalization" in {node.op_type for node in exported.graph.node}
    rewritten = rewrite(given.model)
    float_logits = run(given.as_given, unseen)
    assert max_abs_difference(float_logits, run(rewritten, unseen)) <= 1e-4
    qdq = quantize_model(rewritten, calibrate(rewritten, clips))
    assert TflmRuntime(to_tflite(lower(qdq))).input_shape == tuple(NETWORKS[name][2])
    simulated = run(round_as_device(qdq), unseen)
    assert sqnr_db(float_logits, simulated) > 15.0
    for output, steps in node_differences(qdq, unseen).items():
        # A tie that float32 decides otherwise is carried on.
        assert steps.max() <= 2, output
        assert np.count_nonzero(steps) <= max(3, steps.size // 1000), output


@pytest.mark.parametrize("name", ["DS-CNN", "TC-ResNet with hard-swish", "gates"])
def test_a_network_in_int16_answers_as_the_qdq_graph_and_almost_as_float(name: str, tmp_path: Path) -> None:
    shape = NETWORKS[name][1]
    unseen = inputs(shape, 12, seed=1)
    export(name, "dynamo", tmp_path / "model.onnx")
    given = read_onnx(tmp_path / "model.onnx")
    prepared = prepare(given.model, inputs(shape, 40), QuantizeOptions(activations="int16"))
    qdq = quantize_model(prepared, calibrate(prepared, inputs(shape, 40)), "int16")
    device = TflmRuntime(to_tflite(lower(qdq)))
    answers = device(InputLayout.of(qdq)(unseen))
    assert answers.dtype == np.int16
    require(check_device(device.output.quantize(run(round_as_device(qdq), unseen)), answers))
    assert sqnr_db(run(given.as_given, unseen), device.output.dequantize(answers)) > 30.0


def node_differences(qdq: onnx.ModelProto, clips: np.ndarray) -> dict[str, np.ndarray]:
    """For each activation that stands in ONNX's order: how many int8 steps TFLM is off, if the model ends there."""
    differences = {}
    images = InputLayout.of(qdq)(clips)
    for node in qdq.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] in {tensor.name for tensor in qdq.graph.initializer}:
            continue
        try:
            cut = up_to(qdq, node.output[0])
            device = TflmRuntime(to_tflite(lower(cut)))
        except KwsError as error:
            assert "flattened image" in str(error)
            continue
        simulated = device.output.quantize(run(round_as_device(cut), clips))
        answers = device(images)
        differences[node.output[0]] = np.abs(np.moveaxis(simulated, 1, -1).astype(int) - answers)
    assert len(differences) >= 9
    return differences


def up_to(model: onnx.ModelProto, output: str) -> onnx.ModelProto:
    """`model` with `output` for its output, and nothing behind it."""
    needed, nodes = {output}, []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    kept = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    value = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes[::-1], "cut", model.graph.input, [value], kept)
    cut = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return onnx.shape_inference.infer_shapes(cut)


def test_a_bcresnet_trained_with_hard_swish_runs_it_as_one_op(tmp_path: Path) -> None:
    config = ModelConfig(name="bcresnet-1", classes=4, activation="hardswish")
    model = to_onnx(randomise(BCResNet(config), seed=3), (1, 1, 40, 24), tmp_path / "model.onnx")
    rewritten, clips = rewrite(model), inputs((1, 40, 24), 20)
    kinds = [node.op_type for node in rewritten.graph.node]
    assert kinds.count("HardSwish") == 12
    assert not {"Mul", "Sigmoid"} & set(kinds)
    qdq = quantize_model(rewritten, calibrate(rewritten, clips))
    device = TflmRuntime(to_tflite(lower(qdq)))
    steps = np.abs(device(clips).astype(int) - device.output.quantize(run(round_as_device(qdq), clips)))
    # Ties that float32 decides otherwise are carried on through twelve blocks.
    assert np.mean(steps == 0) > 0.8
    assert steps.max() <= 2


def tf2onnx_like() -> onnx.ModelProto:
    """What a converter from TensorFlow leaves: NHWC outside, NCHW inside, SAME padding, MatMul and Add."""
    rng = np.random.default_rng(2)
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w1"], ["c"], auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "b", "s"], ["n"]),
        helper.make_node("Clip", ["n", "zero", "six"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], auto_pad="SAME_UPPER", kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Transpose", ["p"], ["u"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["u", "flat"], ["f"]),
        helper.make_node("MatMul", ["f", "w2"], ["m"]),
        helper.make_node("Add", ["m", "b2"], ["a"]),
        helper.make_node("Softmax", ["a"], ["y"], axis=-1),
    ]
    weights = {
        "w1": rng.normal(size=(6, 2, 4, 3)),
        "s": rng.uniform(0.5, 2, 6),
        "b": rng.normal(size=6),
        "zero": np.float32(0),
        "six": np.float32(6),
        "flat": np.array([-1, 90]),
        "w2": rng.normal(size=(90, 4)),
        "b2": rng.normal(size=4),
    }
    return graph_model(nodes, weights, ("batch", 12, 17, 2), ("batch", 4), opset=13)


@pytest.mark.slow
def test_a_model_in_the_manner_of_tf2onnx_is_built_with_its_labels(tmp_path: Path, capfd: Any) -> None:
    model = tf2onnx_like()
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    np.save(tmp_path / "x.npy", inputs((12, 17, 2), 50).astype(np.float64))
    (tmp_path / "labels.txt").write_text("yes\nنعم\nno no\n_unknown_\n", encoding="utf-8")
    out = build_onnx(
        tmp_path / "model.onnx",
        tmp_path / "x.npy",
        tmp_path / "build",
        QuantizeOptions(calibration_clips=30),
        labels_path=tmp_path / "labels.txt",
    )
    said = capfd.readouterr().err
    assert "its final softmax is left off" in said
    assert "its batch size is fixed to 1" in said
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["labels"] == ["yes", "نعم", "no no", "_unknown_"]
    assert manifest["input"]["shape"] == [1, 12, 17, 2]
    assert manifest["calibration"] == {"clips": 30}
    assert manifest["options"]["calibration_clips"] == 30
    assert "features" not in manifest
    assert manifest["checks"][0]["name"].startswith("given ONNX -> float ONNX")
    clip = inputs((12, 17, 2), 1, seed=5)
    logits = OnnxRuntime(out / "model.int8.onnx")(clip)
    probabilities = run(model, clip)
    assert np.abs(np.exp(logits) / np.exp(logits).sum() - probabilities).max() < 0.1


CONVERSION = """
import sys
from pathlib import Path
from torch import nn
from export.from_checkpoint import build_checkpoint
from export.to_onnx import to_onnx
from kws.cli import main
folder = Path(sys.argv[1])
to_onnx(nn.Linear(2, 2), (1, 2), folder / "linear.onnx")
paths = [str(folder / name) for name in ("gates.onnx", "x.npy", "build")]
code = main(["quantize", paths[0], "--calibration", paths[1], "--out", paths[2], "--activations", "int16"])
print(code, "tensorflow" in sys.modules)
"""


@pytest.fixture(scope="module")
def int16_conversion(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder with gates.onnx, x.npy, y.npy and build/, and what its conversion to int16 said in one process."""
    folder = tmp_path_factory.mktemp("int16")
    export("gates", "dynamo", folder / "gates.onnx")
    np.save(folder / "x.npy", inputs((BANDS, FRAMES), 40))
    np.save(folder / "y.npy", OnnxRuntime(folder / "gates.onnx")(inputs((BANDS, FRAMES), 40)).argmax(axis=1))
    command = [sys.executable, "-c", CONVERSION, str(folder)]
    return folder, subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.mark.slow
def test_converting_and_proving_imports_no_tensorflow(
    int16_conversion: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    assert int16_conversion[1].stdout.splitlines()[-1] == "0 False"
    assert "TFLite reference -> TFLM" in int16_conversion[1].stderr


@pytest.mark.slow
def test_the_whole_path_in_int16(
    int16_conversion: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, kws: Kws
) -> None:
    folder = int16_conversion[0]
    build = folder / "build"
    assert {path.name for path in build.iterdir()} == {"manifest.json", *ModelFiles("int16").all}
    manifest = json.loads((build / "manifest.json").read_text())
    assert manifest["options"]["activations"] == manifest["input"]["dtype"] == manifest["output"]["dtype"] == "int16"
    assert all(check["passed"] for check in manifest["checks"])
    found = inspect_model(build / "model.int16.tflite")
    assert found.macs > 10_000
    assert found.bytes.weights > 1000
    tests = ("--inputs", folder / "x.npy", "--targets", folder / "y.npy")
    printed = kws("benchmark", build, *tests, "--out", tmp_path).stdout
    report = json.loads((tmp_path / "benchmark.json").read_text())
    assert report["accuracy"]["float"] == 1.0
    assert report["accuracy"]["int16"] == report["agreement"] >= 0.95
    assert report["sqnr_db"] > 30
    assert report["estimated_instructions"]["cortex_m4"] > found.macs
    assert "int16 recall" in printed
    kws("headers", build / "model.int16.tflite", "--out", tmp_path / "firmware")
    assert "typedef int16_t KwsInteger;" in (tmp_path / "firmware/generated/model_params.h").read_text()


@pytest.mark.slow
def test_the_whole_path_of_a_one_dimensional_network(tmp_path: Path, kws: Kws) -> None:
    export("MatchboxNet", "torchscript", tmp_path / "matchbox.onnx")
    np.save(tmp_path / "x.npy", inputs((BANDS, FRAMES), 40))
    float_logits = OnnxRuntime(tmp_path / "matchbox.onnx")(inputs((BANDS, FRAMES), 40))
    np.save(tmp_path / "y.npy", float_logits.argmax(axis=1))
    build = tmp_path / "build"
    kws("quantize", tmp_path / "matchbox.onnx", "--calibration", tmp_path / "x.npy", "--out", build)
    assert {path.name for path in build.iterdir()} == {"manifest.json", *ModelFiles("int8").all}
    manifest = json.loads((build / "manifest.json").read_text())
    assert manifest["labels"] == [f"class_{index}" for index in range(6)]
    assert all(check["passed"] for check in manifest["checks"])
    assert len({check["name"].partition(":")[0] for check in manifest["checks"]}) == 4
    kws("benchmark", build, "--inputs", tmp_path / "x.npy", "--targets", tmp_path / "y.npy", "--out", tmp_path)
    report = json.loads((tmp_path / "benchmark.json").read_text())
    assert report["clips"] == 40
    assert report["accuracy"]["float"] == 1.0
    assert report["accuracy"]["int8"] > 0.8
    kws("headers", build / "model.int8.tflite", "--out", tmp_path / "firmware")
    assert "kLabelClass5 = 5" in (tmp_path / "firmware" / "generated" / "labels.h").read_text()
    refused = kws("benchmark", build, "--data", tmp_path, check=False)
    assert refused.returncode == 1
    assert "has no features; give --inputs and --targets." in refused.stderr


@pytest.mark.parametrize("toolchain", [HOST, ARM], ids=["host", "cortex-m4"])
def test_firmware_without_a_front_end_compiles(tmp_path: Path, toolchain: Toolchain) -> None:
    model = graph_model(
        [helper.make_node("Gemm", ["x", "w"], ["y"])],
        {"w": np.random.default_rng(0).normal(size=(8, 3))},
        (1, 8),
        (1, 3),
    )
    qdq = quantize_model(model, calibrate(model, clips_for(model)))
    tflite = to_tflite(lower(qdq))
    device = TflmRuntime(tflite)
    sides = {
        side: {"shape": list(shape), "scale": float(affine.scale), "zero_point": affine.zero_point}
        for side, shape, affine in (
            ("input", device.input_shape, device.input),
            ("output", device.output_shape, device.output),
        )
    }
    from tiny_tflite import tiny_manifest, write_build

    manifest = {**tiny_manifest(tflite, ["a", "b", "c"]), **sides}
    del manifest["features"]
    out = tmp_path / "firmware"
    render_firmware(write_build(tmp_path / "build", tflite, manifest), out)
    sources = sorted(path for path in out.rglob("*.c*") if path.suffix in (".c", ".cc"))
    generated = ["golden.cc", "labels.cc", "model_data.cc", "posterior_tables.cc"]
    assert [source.name for source in sources] == [*generated, "inference.cc", "posteriors.c"]
    for source in sources:
        compile_object(toolchain, source, [out / "src", out / "generated"], tmp_path)
