"""What `kws inspect` says of a model is what the model is."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_tflite
from networks import bcresnet_onnx, clips_for
from qdq_graphs import block, built
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from export.cost_kernels import CORES
from export.inspection import inspect_model, write_inspection
from export.inspection_tables import print_inspection
from export.layer_error import layer_names, layer_sqnr_db
from export.lowering import lower
from export.tflite_reader import parse_tflite
from export.to_tflite import to_tflite
from kws.errors import KwsError
from quantize.calibration import Range, calibrate
from quantize.qdq import quantize_model
from quantize.rewrites import rewrite


@pytest.fixture
def block_model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(to_tflite(lower(built(block))))
    return path


def test_each_op_is_described_as_it_was_lowered(block_model: Path) -> None:
    graph = lower(built(block))
    found = inspect_model(block_model)
    assert len(found.ops) == len(graph.ops)
    for op, lowered in zip(found.ops, graph.ops, strict=True):
        output = graph.tensors[lowered.output]
        weights = [graph.tensors[name] for name in lowered.inputs if graph.tensors[name].dtype == "int8"]
        assert op.output_shape == output.shape
        assert (op.scale, op.zero_point) == (float(output.affine.scale), output.affine.zero_point)
        assert op.weight_bytes == sum(tensor.size_bytes for tensor in weights if tensor.data is not None)
    by_name = {op.op: op for op in found.ops}
    assert [op.macs for op in found.ops if op.op == "CONV_2D"] == [10 * 13 * 8 * 25, 13 * 8 * 8, 5 * 8]
    assert by_name["ADD"].slow == "broadcast"
    assert by_name["LOGISTIC"].slow == "reference loop"
    assert by_name["MUL"].slow == ""
    assert sum(op.share for op in found.ops) == pytest.approx(1.0)
    assert found.instructions["cortex_m4"] == sum(op.instructions["cortex_m4"] for op in found.ops)


def test_the_bytes_of_the_file_are_all_accounted_for(block_model: Path) -> None:
    model = schema.ModelT.InitFromPackedBuf(block_model.read_bytes())
    used = [model.subgraphs[0].tensors[index] for op in model.subgraphs[0].operators for index in op.inputs]
    constants = {tensor.buffer: tensor for tensor in used if model.buffers[tensor.buffer].data is not None}
    sizes = inspect_model(block_model).bytes
    assert sizes.file == block_model.stat().st_size
    assert sizes.file == sizes.weights + sizes.biases + sizes.quantization + sizes.structure
    weights = [tensor for tensor in constants.values() if tensor.type == schema.TensorType.INT8]
    assert sizes.weights == sum(model.buffers[t.buffer].data.size for t in weights)
    # Six convolutions of 8 channels and the last one, of 5 classes; 4 bytes each.
    assert sizes.biases == 4 * (6 * 8 + 5)
    assert sizes.quantization > 12 * len(constants)


def test_an_op_without_an_estimate_is_counted_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.cost_model._coefficients", lambda: {core: {} for core in CORES})
    (tmp_path / "dense.tflite").write_bytes(tiny_tflite.tiny_model(3))
    found = inspect_model(tmp_path / "dense.tflite")
    assert (found.ops[0].op, found.ops[0].instructions, found.unmeasured_ops) == ("FULLY_CONNECTED", None, 1)
    assert found.macs == 40 * 5 * 3
    print_inspection(found)
    printed = capsys.readouterr().out
    assert "?" in printed
    assert "never measured" in printed


def test_json_holds_the_same_figures_as_the_tables(
    block_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = inspect_model(block_model)
    write_inspection(found, tmp_path / "out.json")
    values = json.loads((tmp_path / "out.json").read_text())
    print_inspection(found)
    printed = capsys.readouterr().out
    assert len(values["ops"]) == len(found.ops)
    for figure in (values["instructions"]["cortex_m4"], values["macs"], values["arena_bytes"], values["bytes"]["file"]):
        assert f"{figure:,}" in printed
    assert values["arena_32_bit_bytes"] < values["arena_bytes"]


def test_a_damaged_model_raises_nothing_but_a_sentence(
    block_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TFLM's part, which has a test of its own, is left out: it takes a process for each model."""
    monkeypatch.setattr("export.inspection.measure_arena_bytes", lambda *_: 1 << 16)
    model, refused = block_model.read_bytes(), 0
    for seed in range(1000):
        dice = random.Random(seed)
        data = bytearray(model)
        for _ in range(dice.choice([1, 8, 32])):
            data[dice.randrange(8, len(data))] = dice.randrange(256)
        (tmp_path / "damaged.tflite").write_bytes(data)
        try:
            inspect_model(tmp_path / "damaged.tflite")
        except KwsError:
            refused += 1
    assert 100 < refused < 1000


FRAMES = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BC-ResNet with random weights, quantized well and with one range far too wide."""
    path = tmp_path_factory.mktemp("layers")
    rewritten = rewrite(bcresnet_onnx(path, "bcresnet-1", FRAMES))
    (path / "prepared.onnx").write_bytes(rewritten.SerializeToString())
    ranges = calibrate(rewritten, clips_for(rewritten, count=12))
    for name, used in {"good": ranges, "bad": ranges | {spoiled(rewritten): Range(-900.0, 900.0)}}.items():
        graph = lower(quantize_model(rewritten, used))
        (path / f"{name}.tflite").write_bytes(to_tflite(graph))
        (path / "layers.json").write_text(json.dumps(layer_names(graph)))
    return path


def spoiled(rewritten: onnx.ModelProto) -> str:
    """The output of a convolution over all channels, in the middle of the network."""
    convolutions = [node for node in rewritten.graph.node if node.op_type == "Conv"]
    dense = [node for node in convolutions if not any(a.name == "group" and a.i > 1 for a in node.attribute)]
    return str(dense[8].output[0])


def sqnr_of(folder: Path, name: str) -> tuple[list[str], list[float]]:
    """Op names and how much each loses against its worst input (dB)."""
    model = (folder / f"{name}.tflite").read_bytes()
    facts = parse_tflite(model, name)
    clips = np.random.default_rng(9).normal(size=(4, 1, 40, FRAMES)).astype(np.float32)
    layers = json.loads((folder / "layers.json").read_text())
    found = layer_sqnr_db(folder / "prepared.onnx", layers, model, facts, clips)
    assert found.keys() >= {op.outputs[0] for op in facts.operators}
    losses = [
        min(found[index] for index in op.inputs if found.get(index) is not None) - found[op.outputs[0]]
        for op in facts.operators
    ]
    return [op.name for op in facts.operators], losses


def test_no_layer_of_a_sound_model_loses_much_and_a_spoiled_one_is_found(folder: Path) -> None:
    _, sound = sqnr_of(folder, "good")
    assert max(sound) < 15
    names, losses = sqnr_of(folder, "bad")
    worst = int(np.argmax(losses))
    assert names[worst] == "CONV_2D"
    assert losses[worst] > sound[worst] + 15


def test_models_that_do_not_belong_together_are_refused(folder: Path, tmp_path: Path) -> None:
    model = (folder / "good.tflite").read_bytes()
    facts = parse_tflite(model, "good")
    clips = np.zeros((1, 1, 40, FRAMES), np.float32)
    layers = json.loads((folder / "layers.json").read_text())
    with pytest.raises(KwsError, match="is not the float form of"):
        layer_sqnr_db(folder / "prepared.onnx", layers[1:], model, facts, clips)
    other = rewrite(bcresnet_onnx(tmp_path, "bcresnet-2", FRAMES))
    (tmp_path / "prepared.onnx").write_bytes(other.SerializeToString())
    with pytest.raises(KwsError, match="is not the float form of"):
        layer_sqnr_db(tmp_path / "prepared.onnx", layers, model, facts, clips)


def test_a_stack_of_unlike_tensors_is_as_good_as_its_worst_part(folder: Path) -> None:
    model = (folder / "good.tflite").read_bytes()
    facts = parse_tflite(model, "good")
    clips = np.random.default_rng(9).normal(size=(4, 1, 40, FRAMES)).astype(np.float32)
    layers = json.loads((folder / "layers.json").read_text())
    found = layer_sqnr_db(folder / "prepared.onnx", layers, model, facts, clips)
    stacks = [op for op in facts.operators if op.name == "CONCATENATION"]
    assert len(stacks) > 20
    for stack in stacks:
        parts = [found[index] for index in stack.inputs if found.get(index) is not None]
        assert found[stack.outputs[0]] == min(parts)
