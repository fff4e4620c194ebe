"""export.memory_layout, shared_memory, op_order and halved_maps: less memory, and every byte kept until it is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import onnx
import pytest
from memory_replay import spoilt_tensors
from networks import bcresnet_onnx, clips_for

from export.device_graph import device_graph
from export.graph import Activation, Add, Concatenation, Graph, Op, Slice, Tensor
from export.halved_maps import halve_busiest
from export.memory_layout import layout_bytes, memory_layout, most_in_use, packed_offsets
from export.memory_plan import Buffer, planned_bytes
from export.op_order import lower_peak, turn_joins
from export.shared_memory import Block, Span, memory_blocks, shares
from export.to_tflite import to_tflite
from quantize.affine import Affine
from quantize.calibration import calibrate
from quantize.qdq import quantize_model
from quantize.rewrites import rewrite
from quantize.rewrites.plan import Plan
from quantize.runtimes import TflmRuntime

PLANS = {
    "balance": Plan(multiplied_rows=5, mean_as_convolution=False, swish_tables=True),
    "ram": Plan(multiplied_rows=5, rows_together=1, mean_as_convolution=False),
    "speed": Plan(single_rows=20, swish_tables=True),
    "rows at once": Plan(single_rows=10, multiplied_rows=10, stripes=4),
}
AFFINE = Affine(0.1, 0)


@pytest.fixture(scope="module", params=[("bcresnet-1", 98), ("bcresnet-1.5", 49)], ids=lambda param: param[0])
def float_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return bcresnet_onnx(tmp_path_factory.mktemp("onnx"), *request.param)


def graph_of(float_model: onnx.ModelProto, plan: Plan) -> Graph:
    prepared = rewrite(float_model, plan)
    return device_graph(quantize_model(prepared, calibrate(prepared, clips_for(float_model, 4))), plan)


def in_use(graph: Graph, *, shared: bool = True) -> int:
    blocks = memory_blocks(graph, shares(graph) if shared else frozenset())
    assert blocks is not None
    return most_in_use(blocks)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_every_byte_is_kept_until_it_is_read(float_model: onnx.ModelProto, name: str) -> None:
    plain = graph_of(float_model, PLANS[name])
    packed = graph_of(float_model, replace(PLANS[name], packed_memory=True, halved_maps=3))
    for graph in (plain, packed):
        assert spoilt_tensors(graph, memory_layout(graph)) == []
    assert in_use(packed) < 0.9 * in_use(plain, shared=False)


def test_the_replay_sees_a_tensor_in_a_wrong_place(float_model: onnx.ModelProto) -> None:
    graph = graph_of(float_model, replace(PLANS["ram"], packed_memory=True, halved_maps=1))
    layout = memory_layout(graph)
    seen = [
        bool(spoilt_tensors(graph, {**layout, name: max(0, layout[name] + step)}))
        for name in layout
        for step in (-64, 64)
    ]
    assert np.mean(seen) > 0.8


@pytest.mark.slow
def test_order_and_halves_change_no_answer_and_lower_the_memory(float_model: onnx.ModelProto) -> None:
    plain = graph_of(float_model, PLANS["ram"])
    ordered = lower_peak(plain)
    halved = halve_busiest(ordered)
    turned = turn_joins(lower_peak(halved))
    clips = clips_for(float_model, 6, seed=1)
    expected = TflmRuntime(to_tflite(plain))(clips)
    assert len(np.unique(expected, axis=0)) == len(clips)
    for graph in (ordered, halved, turned):
        np.testing.assert_array_equal(TflmRuntime(to_tflite(graph))(clips), expected)
        np.testing.assert_array_equal(TflmRuntime(to_tflite(graph, packed=True))(clips), expected)
    assert Counter(ordered.ops) == Counter(plain.ops)
    assert Counter(turned.ops) == Counter(halved.ops)
    assert [op.output for op in turned.ops] != [op.output for op in halved.ops]
    added = Counter(op.kind for op in halved.ops) - Counter(op.kind for op in plain.ops)
    assert added == {"Slice": 2, "Conv2D": 1, "Concatenation": 1}
    assert in_use(halved) < 0.85 * in_use(plain)
    blocks = [memory_blocks(graph, shares(graph)) for graph in (halved, turned)]
    sizes = [layout_bytes(found, packed_offsets(found)) for found in blocks if found is not None]
    assert sizes[1] < sizes[0]


def test_a_network_without_wide_pointwise_maps_is_not_halved() -> None:
    graph = small_graph([Op(Slice(begin=(0, 0, 0, 0), size=(1, 2, 4, 4)), ("x",), "y")], {"y": (1, 2, 4, 4)})
    assert halve_busiest(graph) is graph


def small_graph(ops: list[Op], shapes: dict[str, tuple[int, ...]]) -> Graph:
    """From "x" (1, 4, 4, 4) to the output of the last op."""
    shapes = {"x": (1, 4, 4, 4), **shapes}
    tensors = {name: Tensor(name=name, shape=shape, affine=AFFINE) for name, shape in shapes.items()}
    return Graph(tensors=tensors, ops=tuple(ops), inputs=("x",), outputs=(ops[-1].output,))


SLICE = Slice(begin=(0, 1, 0, 0), size=(1, 2, 4, 4))
ADD = Add(activation=Activation.NONE)


def test_a_slice_of_rows_lies_in_its_source_and_one_of_columns_does_not() -> None:
    columns = Slice(begin=(0, 0, 1, 0), size=(1, 4, 2, 4))
    rows = small_graph([Op(SLICE, ("x",), "y")], {"y": (1, 2, 4, 4)})
    assert shares(rows) == {("y", 0)}
    assert memory_layout(rows) == {"x": 0, "y": 16}
    assert shares(small_graph([Op(columns, ("x",), "y")], {"y": (1, 4, 2, 4)})) == frozenset()


def test_a_sum_overwrites_an_input_that_nothing_reads_later() -> None:
    later = {"y": (1, 4, 4, 4), "z": (1, 4, 4, 4)}
    first, second = Op(ADD, ("x", "x2"), "y"), Op(ADD, ("y", "x2"), "z")
    graph = small_graph([Op(SLICE, ("x",), "x1"), first, second], {"x1": (1, 2, 4, 4), "x2": (1, 1, 4, 4), **later})
    constant = replace(graph.tensors["x2"], data=np.zeros((1, 1, 4, 4), np.int8))
    graph = replace(graph, tensors={**graph.tensors, "x2": constant})
    assert shares(graph) == {("x1", 0), ("y", 0), ("z", 0)}
    read_later = replace(graph, ops=(first, second, Op(ADD, ("x", "z"), "w")), outputs=("w",))
    read_later = replace(read_later, tensors={**graph.tensors, "w": replace(graph.tensors["z"], name="w")})
    assert ("y", 0) not in shares(read_later)
    assert spoilt_tensors(read_later, {"x": 0, "y": 0, "z": 64, "w": 128, "x1": 192}) == ["x"]


def test_what_reads_whole_vectors_begins_at_a_multiple_of_16_bytes() -> None:
    part = Slice(begin=(0, 1, 0, 0), size=(1, 2, 3, 4))
    shapes = {"x": (1, 4, 3, 4), "y": (1, 2, 3, 4), "z": (1, 2, 3, 4), "one": (1, 1, 1, 4)}
    graph = small_graph([Op(part, ("x",), "y"), Op(ADD, ("y", "one"), "z")], shapes)
    one = replace(graph.tensors["one"], data=np.zeros((1, 1, 1, 4), np.int8))
    graph = replace(graph, tensors={**graph.tensors, "one": one})
    assert ("y", 0) not in shares(graph), "its second row begins at byte 12"
    joined = Op(Concatenation(axis=1), ("y", "y2"), "z")
    by_pixel = small_graph(
        [Op(part, ("x",), "y"), Op(part, ("x",), "y2"), joined], {**shapes, "z": (1, 4, 3, 4), "y2": (1, 2, 3, 4)}
    )
    assert ("y", 0) in shares(by_pixel)


def buffers_as_blocks(buffers: list[Buffer]) -> list[Block]:
    return [
        Block(tensors={}, spans=(Span(start=0, stop=buffer.size_bytes, first=buffer.first, last=buffer.last),))
        for buffer in buffers
    ]


def random_buffers(seed: int) -> list[Buffer]:
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 30, 40)
    return [
        Buffer(size_bytes=int(16 * rng.integers(1, 200)), first=int(start), last=int(start + rng.integers(0, 6)))
        for start in starts
    ]


def overlaps(buffers: list[Buffer], offsets: list[int]) -> int:
    placed = list(zip(offsets, buffers, strict=True))
    return sum(
        a.first <= b.last and b.first <= a.last and at < to + b.size_bytes and to < at + a.size_bytes
        for (at, a), (to, b) in combinations(placed, 2)
    )


@pytest.mark.parametrize("seed", range(8))
def test_what_lives_at_the_same_time_never_overlaps_and_the_layout_is_no_larger_than_tflms(seed: int) -> None:
    buffers = random_buffers(seed)
    blocks = buffers_as_blocks(buffers)
    offsets = packed_offsets(blocks)
    assert overlaps(buffers, offsets) == 0
    assert overlaps(buffers, [max(0, offset - 16) for offset in offsets]) > 0, "the check would see an overlap"
    assert all(offset >= 0 and offset % 16 == 0 for offset in offsets)
    assert most_in_use(blocks) <= layout_bytes(blocks, offsets) <= planned_bytes(buffers)
    assert packed_offsets(blocks) == offsets


def test_some_layouts_are_smaller_than_tflms() -> None:
    gains = []
    for seed in range(8):
        blocks = buffers_as_blocks(random_buffers(seed))
        gains.append(planned_bytes(random_buffers(seed)) - layout_bytes(blocks, packed_offsets(blocks)))
    assert max(gains) > 0
