"""A TFLite file from a stranger is read as what it is or refused in one sentence."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
import tiny_tflite
from qdq_graphs import block, built
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from export.flatbuffer import covered_bytes
from export.graph import Conv2D, DepthwiseConv2D, Padding
from export.lowering import lower
from export.tflite_reader import MAX_FILE_BYTES, parse_tflite, read_tflite_bytes
from export.to_tflite import to_tflite
from kws.errors import KwsError


def test_facts_are_those_of_the_model(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_tflite.tiny_model(3))
    facts = parse_tflite(read_tflite_bytes(path), str(path))
    assert facts.ops == ("FULLY_CONNECTED",)
    assert len(facts.tensors) == 4
    assert (facts.input.shape, facts.input.dtype) == ((1, 40, 5, 1), "INT8")
    assert (facts.output.shape, facts.output.dtype) == ((1, 3), "INT8")
    assert facts.input.scale == np.float32(tiny_tflite.INPUT_SCALE)
    assert facts.input.zero_point == tiny_tflite.INPUT_ZERO_POINT
    assert facts.output.zero_point == tiny_tflite.OUTPUT_ZERO_POINT


def test_tensors_and_windows_are_those_of_the_graph_that_was_written() -> None:
    graph = lower(built(block))
    data = to_tflite(graph)
    facts = parse_tflite(data, source="model")
    assert len(facts.operators) == len(graph.ops)
    for op, lowered in zip(facts.operators, graph.ops, strict=True):
        written = [facts.tensors[index] for index in op.inputs[: len(lowered.inputs)]]
        for tensor, source in zip(written, (graph.tensors[name] for name in lowered.inputs), strict=True):
            assert (tensor.shape, tensor.dtype) == (source.shape, source.dtype.upper())
            content = None if tensor.data is None else data[tensor.data[0] : sum(tensor.data)]
            assert content == (None if source.data is None else source.data.tobytes())
        if isinstance(lowered.attributes, Conv2D | DepthwiseConv2D):
            assert (op.window.stride, op.window.dilation) == (lowered.attributes.stride, lowered.attributes.dilation)
            assert op.window.same_padding == (lowered.attributes.padding is Padding.SAME)
        else:
            assert op.window is None
    assert {op.window.dilation for op in facts.operators if op.window} == {(1, 1), (1, 4)}
    assert {op.window.stride for op in facts.operators if op.window} == {(1, 1), (2, 1)}


def packed(model: schema.ModelT) -> bytes:
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_a_constant_of_the_wrong_size_is_refused() -> None:
    model = schema.ModelT.InitFromPackedBuf(tiny_tflite.tiny_model())
    model.buffers[1].data = model.buffers[1].data[:-1]
    with pytest.raises(KwsError, match="599 bytes for a constant of shape"):
        parse_tflite(packed(model), source="model")


def test_an_operator_without_an_output_is_refused() -> None:
    model = schema.ModelT.InitFromPackedBuf(tiny_tflite.tiny_model())
    model.subgraphs[0].operators[0].outputs = []
    with pytest.raises(KwsError, match="an operator without an output"):
        parse_tflite(packed(model), source="model")


def test_bytes_that_tables_share_count_once() -> None:
    assert covered_bytes([(30, 2), (0, 10), (5, 10), (0, 10), (6, 3)]) == 17
    assert covered_bytes([]) == 0


def test_an_op_code_beyond_127_keeps_its_name() -> None:
    facts = parse_tflite(tiny_tflite.tiny_model(op=schema.BuiltinOperator.GELU), source="model")
    assert facts.ops == ("GELU",)


def test_an_unquantized_input_has_no_scale() -> None:
    model = tiny_tflite.tiny_model(dtype=schema.TensorType.FLOAT32, quantized=False)
    facts = parse_tflite(model, source="model")
    assert (facts.input.dtype, facts.input.scale, facts.input.zero_point) == ("FLOAT32", None, None)


@pytest.mark.parametrize(
    "data",
    [b"", b"TFL3", b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04" + bytes(50), random.Random(0).randbytes(5000)],
    ids=["empty", "short", "png", "zip", "random"],
)
def test_a_file_of_another_kind_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(data)
    with pytest.raises(KwsError, match=r"model\.tflite: is no TFLite model"):
        parse_tflite(read_tflite_bytes(path), str(path))


def test_the_identifier_alone_is_not_enough() -> None:
    for seed in range(200):
        data = random.Random(seed).randbytes(64)
        with pytest.raises(KwsError, match="damaged"):
            parse_tflite(data[:4] + b"TFL3" + data[8:], source="model")


def test_a_model_cut_short_anywhere_is_refused() -> None:
    model = tiny_tflite.tiny_model(2)
    for length in range(len(model)):
        with pytest.raises(KwsError, match=r"damaged|no TFLite"):
            parse_tflite(model[:length], source="model")


def test_flipped_bytes_raise_nothing_but_a_sentence() -> None:
    model = tiny_tflite.tiny_model(2)
    refused = 0
    for seed in range(2000):
        dice = random.Random(seed)
        data = bytearray(model)
        for _ in range(dice.choice([1, 8, 64])):
            data[dice.randrange(8, len(data))] = dice.randrange(256)
        try:
            parse_tflite(bytes(data), source="model")
        except KwsError:
            refused += 1
    assert refused > 200


def test_a_table_before_the_start_of_the_file_is_refused() -> None:
    model = bytearray(tiny_tflite.tiny_model())
    (root,) = struct.unpack_from("<I", model, 0)
    struct.pack_into("<i", model, root, root + 4)
    with pytest.raises(KwsError, match="past the end"):
        parse_tflite(bytes(model), source="model")


def test_two_inputs_are_refused() -> None:
    with pytest.raises(KwsError, match="not one valid tensor in inputs"):
        parse_tflite(tiny_tflite.tiny_model(inputs=2), source="model")


def test_a_huge_file_is_refused() -> None:
    model = tiny_tflite.tiny_model()
    with pytest.raises(KwsError, match="too many"):
        parse_tflite(model + bytes(MAX_FILE_BYTES), source="model")


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="cannot be read"):
        read_tflite_bytes(tmp_path / "absent.tflite")


def test_a_file_that_asks_for_endless_work_is_refused() -> None:
    """Millions of entries of a vector may all point to the same table."""
    model = bytearray(tiny_tflite.tiny_model())
    (root,) = struct.unpack_from("<I", model, 0)
    (vtable_distance,) = struct.unpack_from("<i", model, root)
    (buffers_field,) = struct.unpack_from("<H", model, root - vtable_distance + 12)
    count = 1 << 20
    place = root + buffers_field
    struct.pack_into("<I", model, place, len(model) - place)
    with pytest.raises(KwsError, match=f"{count} buffers"):
        parse_tflite(bytes(model) + struct.pack("<I", count) + bytes(4 * count), source="model")
