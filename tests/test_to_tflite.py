"""The flatbuffer: valid, small, the same each time."""

from __future__ import annotations

import dataclasses

import flatbuffers
import numpy as np
import pytest
from qdq_graphs import INPUT, QdqBuilder, block, built, features_for
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from export.labels_hash import labels_sha256
from export.lowering import lower
from export.tflite_reader import parse_tflite
from export.to_tflite import FILE_IDENTIFIER, to_tflite
from kws import __version__
from quantize.runtimes import TflmRuntime


def opened(data: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromPackedBuf(data)


def test_the_same_model_gives_the_same_bytes() -> None:
    assert to_tflite(lower(built(block))) == to_tflite(lower(built(block)))
    assert to_tflite(lower(built(block))) != to_tflite(lower(built(block, seed=5)))


def test_the_file_says_what_it_is() -> None:
    data = to_tflite(lower(built(block)))
    model = opened(data)
    assert data[4:8] == FILE_IDENTIFIER
    assert (model.version, model.description) == (3, f"kws {__version__}".encode())
    subgraph = model.subgraphs[0]
    tensors = subgraph.tensors
    assert tensors[subgraph.inputs[0]].shape.tolist() == [1, 20, 13, 1]
    assert tensors[subgraph.outputs[0]].shape.tolist() == [1, 5]
    assert all(tensor.name is None for tensor in tensors)


@pytest.mark.parametrize("packed", [False, True])
def test_labels_leave_their_hash_and_change_nothing_else(packed: bool) -> None:
    graph, labels = lower(built(block)), ["yes", "no", "نعم", "a b", "\ud800"]
    plain, labelled = to_tflite(graph, packed=packed), to_tflite(graph, packed=packed, labels=labels)
    assert parse_tflite(labelled, "model").labels_sha256 == labels_sha256(labels)
    assert parse_tflite(plain, "model").labels_sha256 is None
    assert parse_tflite(labelled, "model").offsets == parse_tflite(plain, "model").offsets
    assert len({labels_sha256(order) for order in (labels, labels[::-1], [*labels[:3], "a", "b"])}) == 3
    assert 0 < len(labelled) - len(plain) <= 160
    features = features_for(built(block), clips=3)
    assert np.array_equal(TflmRuntime(labelled)(features), TflmRuntime(plain)(features))


def test_no_op_moves_or_converts_data_behind_the_models_back() -> None:
    codes = {code.builtinCode for code in opened(to_tflite(lower(built(block)))).operatorCodes}
    unwanted = ("TRANSPOSE", "QUANTIZE", "DEQUANTIZE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND")
    assert not codes & {getattr(schema.BuiltinOperator, name) for name in unwanted}


def test_constants_are_stored_whole_and_aligned_behind_the_empty_buffer() -> None:
    graph = lower(built(block))
    data = to_tflite(graph)
    model = schema.Model.GetRootAs(data)
    assert model.Buffers(0).DataLength() == 0
    starts = [model.Buffers(i)._tab.Vector(model.Buffers(i)._tab.Offset(4)) for i in range(1, model.BuffersLength())]
    assert all(start % 16 == 0 for start in starts)
    stored = {buffer.data.tobytes() for buffer in opened(data).buffers if buffer.data is not None}
    assert {tensor.data.tobytes() for tensor in graph.tensors.values() if tensor.data is not None} <= stored


def test_equal_constants_are_stored_once() -> None:
    def twins(b: QdqBuilder) -> str:
        x = b.input((1, 4, 9, 7), INPUT)
        first = b.conv(x, weights, INPUT)
        return b.op("Mul", [first, first], INPUT)

    weights = np.arange(-80, 80, dtype=np.int8).reshape(4, 4, 5, 2)
    graph = lower(built(twins))
    (name,) = [name for name in graph.tensors if name.endswith("/weights")]
    copy = dataclasses.replace(graph.tensors[name], name="copy")
    op = graph.ops[0]
    again = dataclasses.replace(op, inputs=(op.inputs[0], "copy", op.inputs[2]))
    doubled = dataclasses.replace(graph, tensors={**graph.tensors, "copy": copy}, ops=(again, *graph.ops[1:]))
    assert len(to_tflite(doubled)) == len(to_tflite(graph))


def test_sharing_what_is_equal_beats_the_object_api() -> None:
    data = to_tflite(lower(built(block)))
    builder = flatbuffers.Builder()
    builder.Finish(opened(data).Pack(builder))
    assert len(data) < 0.9 * len(builder.Output())


def test_int16_activations_have_int8_weights_int64_biases_and_ops_of_the_versions_that_know_them() -> None:
    model = opened(to_tflite(lower(built(block, activations="int16"))))
    (subgraph,) = model.subgraphs
    codes = [schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D]
    for op in subgraph.operators:
        kind = model.operatorCodes[op.opcodeIndex].builtinCode
        types = [subgraph.tensors[index].type for index in (*op.inputs, *op.outputs)]
        if kind in codes:
            kinds = schema.TensorType
            assert types == [kinds.INT16, kinds.INT8, kinds.INT64, kinds.INT16]
        if kind == schema.BuiltinOperator.ADD:
            assert op.builtinOptions.potScaleInt16 is False
    versions = {code.builtinCode: code.version for code in model.operatorCodes}
    kinds = schema.BuiltinOperator
    assert [versions[kind] for kind in (*codes, kinds.ADD, kinds.MUL, kinds.LOGISTIC)] == [4, 5, 3, 4, 3]


@pytest.mark.parametrize("seed", range(3))
def test_a_rewritten_graph_is_emitted_as_well_as_a_lowered_one(seed: int) -> None:
    """Tensors in another order give another file, but the same answers."""
    model = built(block, seed)
    graph = lower(model)
    shuffled = dataclasses.replace(graph, tensors=dict(sorted(graph.tensors.items(), reverse=True)))
    features = features_for(model)
    np.testing.assert_array_equal(TflmRuntime(to_tflite(graph))(features), TflmRuntime(to_tflite(shuffled))(features))
