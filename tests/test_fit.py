"""quantize.fit: each channel of a stacked row takes the range of what it is stacked upon, and the function stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from networks import Array, bcresnet_onnx, clips_for, graph_model, run
from onnx import helper, numpy_helper

from quantize.calibration import ChannelRange, activations, min_max
from quantize.compare import max_abs_difference
from quantize.fit import HEADROOM, fit_stacked_rows, fitted_tensors
from quantize.rewrites import rewrite


def assert_same_function(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    clips = clips_for(before, seed=5)
    expected = run(before, clips)
    assert max_abs_difference(expected, run(after, clips)) <= 1e-4 * float(np.abs(expected).max())


def stacks(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The concatenations that end with a row computed by a convolution on its own."""
    makers = {node.output[0]: node.op_type for node in model.graph.node}
    return [node for node in model.graph.node if node.op_type == "Concat" and makers[node.input[-1]] == "Conv"]


def test_every_stacked_row_of_bcresnet_spans_what_its_neighbours_span(tmp_path: Path) -> None:
    before = rewrite(bcresnet_onnx(tmp_path, "bcresnet-1", 17))
    clips = clips_for(before)
    after = fit_stacked_rows(before, clips)
    assert_same_function(before, after)
    ranges = min_max(activations(after, clips))
    rows = {node.input[-1] for node in stacks(after)}
    fitted = [row for row in rows if len([node for node in stacks(after) if row in node.input]) == 5]
    assert len(fitted) == 8
    for row in fitted:
        neighbours = [ranges[name].whole for node in stacks(after) if row in node.input for name in node.input[:-1]]
        assert_spans(ranges[row], 0.0, max(neighbour.high for neighbour in neighbours))


def assert_spans(row: ChannelRange, low: float, high: float) -> None:
    """Each channel, in the middle of low..high and with HEADROOM on both sides together."""
    middle, half = (low + high) / 2, (high - low) / (2 * HEADROOM)
    np.testing.assert_allclose(row.low, middle - half, atol=1e-4 * (high - low))
    np.testing.assert_allclose(row.high, middle + half, atol=1e-4 * (high - low))


def stack_model(extra: list[onnx.NodeProto], output: str) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights: dict[str, Array] = {
        "w1": rng.normal(size=(2, 2, 3, 1)),
        "w2": rng.normal(size=(2, 1, 4, 1)),
        "b2": rng.normal(size=2),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["row"]),
        helper.make_node("Concat", ["row", "x"], ["stack"], axis=2),
        helper.make_node("Conv", ["stack", "w2", "b2"], ["sum"], group=2),
        *extra,
        helper.make_node("Relu", [output], ["y"]),
    ]
    return rewrite(graph_model(nodes, weights, (1, 2, 3, 5), (1, 2, 1, 5)))


def test_a_row_on_top_without_bias_is_fitted_too() -> None:
    before = stack_model([], "sum")
    clips = clips_for(before)
    after = fit_stacked_rows(before, clips)
    assert_same_function(before, after)
    ranges = min_max(activations(after, clips))
    assert_spans(ranges["row"], ranges["x"].whole.low, ranges["x"].whole.high)


def test_a_channel_that_stands_still_is_not_blown_up() -> None:
    before = stack_model([], "sum")
    for tensor in before.graph.initializer:
        if tensor.dims[:2] == [2, 2]:
            weights = np.array(numpy_helper.to_array(tensor))
            weights[1] = 0.0
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    clips = clips_for(before)
    after = fit_stacked_rows(before, clips)
    assert_same_function(before, after)
    row = min_max(activations(after, clips))["row"]
    assert row.low.reshape(-1)[1] == row.high.reshape(-1)[1]
    assert all(np.isfinite(numpy_helper.to_array(tensor)).all() for tensor in after.graph.initializer)


def test_what_is_fitted_is_named_with_the_stacks_that_hold_it() -> None:
    assert fitted_tensors(stack_model([], "sum")) == {"row", "stack"}
    assert fitted_tensors(stack_model([helper.make_node("Add", ["sum", "row"], ["total"])], "total")) == set()


def test_a_row_that_is_read_elsewhere_stays() -> None:
    before = stack_model([helper.make_node("Add", ["sum", "row"], ["total"])], "total")
    clips = clips_for(before)
    ranges = [min_max(activations(model, clips))["row"].whole for model in (before, fit_stacked_rows(before, clips))]
    assert ranges[0] == ranges[1]
