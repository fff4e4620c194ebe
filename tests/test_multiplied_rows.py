"""export.multiplied_rows: one depthwise convolution for many rows gives the very same int8 values."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from networks import bcresnet_onnx, clips_for
from qdq_graphs import block, built

from export.graph import DepthwiseConv2D, Graph
from export.lowering import lower
from export.multiplied_rows import multiply_rows
from export.to_tflite import to_tflite
from quantize.calibration import calibrate
from quantize.qdq import quantize_model
from quantize.rewrites import rewrite
from quantize.rewrites.plan import Plan
from quantize.runtimes import TflmRuntime

FRAMES = 13


@pytest.fixture(scope="module")
def float_model(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return bcresnet_onnx(tmp_path_factory.mktemp("onnx"), "bcresnet-1", FRAMES)


def row_by_row(float_model: onnx.ModelProto, rows: int) -> Graph:
    """int8, images of at most `rows` rows made by a convolution a row."""
    prepared = rewrite(float_model, Plan(single_rows=rows, multiplied_rows=rows))
    return lower(quantize_model(prepared, calibrate(prepared, clips_for(float_model, 20))))


def answers(graph: Graph, features: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    return TflmRuntime(to_tflite(graph))(features)


def kinds(graph: Graph) -> Counter[str]:
    return Counter(op.kind for op in graph.ops)


@pytest.mark.parametrize(
    ("rows", "multiple", "images"),
    [(5, 4, 8), (5, 1, 8), (10, 4, 10), (20, 4, 12)],
    ids=["4 + 1 rows", "5 rows", "8 + 2 rows", "20 rows"],
)
def test_all_rows_at_once_answer_bit_for_bit_as_row_by_row(
    float_model: onnx.ModelProto, rows: int, multiple: int, images: int
) -> None:
    before = row_by_row(float_model, rows)
    after = multiply_rows(before, rows, multiple)
    clips = clips_for(float_model, 40, seed=1)
    expected = answers(before, clips)
    assert len(np.unique(expected, axis=0)) == len(clips)
    np.testing.assert_array_equal(answers(after, clips), expected)
    multipliers = [op.attributes.depth_multiplier for op in after.ops if isinstance(op.attributes, DepthwiseConv2D)]
    assert sum(multiplier > 1 for multiplier in multipliers) == kinds(after)["Transpose"] == images
    assert {multiplier % multiple for multiplier in multipliers if multiplier > 1} == {0}
    assert len(after.ops) < len(before.ops)
    assert {op.output for op in after.ops} & {op.output for op in before.ops} >= {before.outputs[0]}


def test_a_wrong_weight_or_scale_of_one_row_would_be_seen(float_model: onnx.ModelProto) -> None:
    graph = multiply_rows(row_by_row(float_model, 5), 5)
    clips = clips_for(float_model, 40, seed=1)
    expected = answers(graph, clips)
    name = next(name for name in graph.tensors if name.endswith("/many/weights"))
    weights = graph.tensors[name]
    assert weights.data is not None
    turned = replace(weights, data=np.roll(weights.data, 1, axis=3))
    assert not np.array_equal(answers(replace(graph, tensors={**graph.tensors, name: turned}), clips), expected)
    scale = np.roll(weights.affine.scale, 1)
    scaled = replace(weights, affine=replace(weights.affine, scale=scale))
    assert not np.array_equal(answers(replace(graph, tensors={**graph.tensors, name: scaled}), clips), expected)


def test_images_of_more_rows_and_other_graphs_stay_as_they_are(float_model: onnx.ModelProto) -> None:
    graph = row_by_row(float_model, 5)
    assert multiply_rows(graph, 4) is graph
    other = lower(built(block))
    assert multiply_rows(other, 40) is other


def test_a_row_that_is_read_twice_stays_as_it_is(float_model: onnx.ModelProto) -> None:
    graph = row_by_row(float_model, 5)
    maker = {op.output: op for op in graph.ops}
    ops = list(graph.ops)
    for index, op in enumerate(ops):
        # Each stack of four rows ends in the common row; here its first row stands in that place, too.
        if op.kind == "Concatenation" and len(op.inputs) == 2 and maker[op.inputs[0]].kind == "Slice":
            source = maker[op.inputs[0]]
            if graph.tensors[source.output].shape[1] == 3:
                again = replace(source, output=f"{source.output}/again")
                begin, size = source.attributes.begin, (1, 1, *source.attributes.size[2:])
                again = replace(again, attributes=replace(source.attributes, begin=begin, size=size))
                ops[index : index + 1] = [again, replace(op, inputs=(op.inputs[0], again.output))]
                break
    tensor = replace(graph.tensors[op.inputs[1]], name=again.output)
    twice = replace(graph, ops=tuple(ops), tensors={**graph.tensors, again.output: tensor})
    images = sum(isinstance(op.attributes, DepthwiseConv2D) for op in multiply_rows(graph, 5).ops)
    assert sum(isinstance(op.attributes, DepthwiseConv2D) for op in multiply_rows(twice, 5).ops) == images + 5 - 2
    clips = clips_for(float_model, 10, seed=1)
    np.testing.assert_array_equal(answers(multiply_rows(twice, 5), clips), answers(twice, clips))
