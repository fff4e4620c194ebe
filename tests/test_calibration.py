"""quantize.calibration: ranges that hold what was seen, shared where the device shares, cut where a ReLU hides."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from networks import graph_model, relu_model, run
from onnx import helper

from kws.errors import KwsError
from quantize.calibration import (
    ChannelRange,
    Range,
    calibrate,
    cut_below_relu,
    min_max,
    shared_ranges,
    shared_scale_groups,
)

F32 = np.float32


def affine_relu_sum(extra: list[onnx.NodeProto] | None = None) -> onnx.ModelProto:
    """y = relu(2 x + concat(x0, x1) * 3) with a broken-up x, so that the sum's operands have ranges of their own."""
    nodes = [
        helper.make_node("Slice", ["x", "zero", "one", "axis"], ["left"]),
        helper.make_node("Slice", ["x", "one", "two", "axis"], ["right"]),
        helper.make_node("Mul", ["left", "three"], ["a0"]),
        helper.make_node("Mul", ["right", "three"], ["a1"]),
        helper.make_node("Concat", ["a0", "a1"], ["a"], axis=1),
        helper.make_node("Mul", ["x", "half"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["r"]),
        *(extra or []),
        helper.make_node("Mul", ["r", "half"], ["y"]),
    ]
    weights = {
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
        "axis": np.array([1]),
        "three": np.array([3.0]),
        "half": np.array([-0.5]),
    }
    return graph_model(nodes, weights, (1, 2), (1, 2))


CLIPS = np.array([[-4.0, 2.0], [1.0, -1.0], [0.5, 1.5]], dtype=F32)


def test_ranges_are_the_smallest_and_largest_values_over_all_clips() -> None:
    ranges = calibrate(relu_model(), CLIPS)
    assert ranges == {"x": Range(-4.0, 2.0), "y": Range(0.0, 2.0)}


def test_min_max_joins_clips() -> None:
    clips = [{"t": np.array([[1.0, 2.0]], F32)}, {"t": np.array([[-3.0, 1.0]], F32)}]
    assert min_max(iter(clips))["t"].whole == Range(-3.0, 2.0)


def test_ops_that_move_values_tie_their_tensors_to_one_range() -> None:
    model = affine_relu_sum()
    assert sorted(sorted(group) for group in shared_scale_groups(model)) == [["a", "a0", "a1"], ["left", "right", "x"]]
    separate = {"a": (0, 1), "a0": (-2, 0), "a1": (0, 5), "x": (-1, 1), "left": (0, 0), "right": (0, 3)}
    shared = shared_ranges(model, {name: Range(*span) for name, span in separate.items()})
    assert shared["a"] == shared["a0"] == shared["a1"] == Range(-2, 5)
    assert shared["x"] == shared["left"] == shared["right"] == Range(-1, 3)


def test_operand_of_a_sum_with_relu_is_cut_below_minus_the_other_operands_maximum() -> None:
    ranges = calibrate(affine_relu_sum(), CLIPS)
    # b = -x / 2 reaches 2 in channel 0, so a = 3 x (from -12) needs nothing below -2. b starts at -1 and keeps
    # that.
    assert ranges["a"] == ranges["a0"] == ranges["a1"] == Range(-2.0, 6.0)
    assert ranges["b"] == Range(-1.0, 2.0)


def test_cut_looks_at_each_channel() -> None:
    model = graph_model(
        [
            helper.make_node("Mul", ["x", "c"], ["a"]),
            helper.make_node("Mul", ["x", "d"], ["b"]),
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Relu", ["sum"], ["y"]),
        ],
        {"c": np.array([[5.0, 0.5]]), "d": np.array([[1.0, 9.0]])},
        (1, 2),
        (1, 2),
    )
    # a reaches down to -5 in channel 0, where b stops at 1, and only to -0.5 in channel 1, where b reaches 9.
    ranges = calibrate(model, np.array([[1.0, 1.0], [-1.0, -1.0]], dtype=F32))
    assert ranges["a"] == Range(-1.0, 5.0)


def test_operand_whose_parts_were_averaged_is_not_cut() -> None:
    def model(pool: str) -> onnx.ModelProto:
        return graph_model(
            [
                helper.make_node("Mul", ["x", "c"], ["wide"]),
                helper.make_node(pool, ["wide"], ["a"], kernel_shape=[1, 2]),
                helper.make_node("Mul", ["x", "d"], ["b0"]),
                helper.make_node("ReduceMean", ["b0", "axis"], ["b"]),
                helper.make_node("Add", ["a", "b"], ["sum"]),
                helper.make_node("Relu", ["sum"], ["y"]),
            ],
            {"c": np.array([9.0]), "d": np.array([0.1]), "axis": np.array([3])},
            (1, 1, 1, 4),
            (1, 1, 1, 3),
        )

    clips = np.random.default_rng(0).normal(size=(9, 1, 1, 4)).astype(F32)
    averaged, largest = (calibrate(model(pool), clips)["wide"].low for pool in ("AveragePool", "MaxPool"))
    assert averaged == float(9 * clips.min())
    assert largest > -1.0


def test_cut_changes_nothing_in_float() -> None:
    rng = np.random.default_rng(0)
    model, clips = affine_relu_sum(), rng.normal(size=(200, 2)).astype(F32)
    ranges = calibrate(model, clips)
    a, b = np.clip(clips * 3, ranges["a"].low, None), np.clip(clips * -0.5, ranges["b"].low, None)
    assert (a != clips * 3).mean() > 0.2
    np.testing.assert_allclose(np.maximum(a + b, 0) * -0.5, run(model, clips), atol=1e-6)


def test_operand_that_is_read_elsewhere_too_is_not_cut() -> None:
    model = affine_relu_sum([helper.make_node("Mul", ["a1", "half"], ["elsewhere"])])
    seen = {name: ChannelRange(np.array([[-12.0]], F32), np.array([[6.0]], F32)) for name in ("a0", "a1", "a")}
    seen["b"] = ChannelRange(np.array([[-20.0]], F32), np.array([[2.0]], F32))
    ranges = cut_below_relu(model, {name: channels.whole for name, channels in seen.items()}, seen)
    assert ranges["a"] == Range(-12.0, 6.0)
    assert ranges["b"] == Range(-6.0, 2.0)


def test_sum_without_relu_is_not_cut() -> None:
    model = graph_model([helper.make_node("Add", ["x", "x"], ["y"])], {}, (1, 2), (1, 2))
    assert calibrate(model, CLIPS)["x"] == Range(-4.0, 2.0)


def test_unusable_calibration_sets_are_refused() -> None:
    poisoned = CLIPS.copy()
    poisoned[1, 0] = np.nan
    for clips, reason in (
        (CLIPS[:0], "at least one clip"),
        (np.zeros((3, 5), F32), r"has shape \(3, 5\)"),
        (poisoned, "clip 1 makes NaN or infinity in tensor 'x'"),
    ):
        with pytest.raises(KwsError, match=reason):
            calibrate(relu_model(), clips)


def test_weights_that_are_not_finite_are_refused() -> None:
    model = graph_model([helper.make_node("Mul", ["x", "w"], ["y"])], {"w": np.array([np.inf])}, (1, 2), (1, 2))
    with pytest.raises(KwsError, match="weights 'w' hold NaN or infinity"):
        calibrate(model, CLIPS)


def test_activation_that_overflows_is_refused() -> None:
    model = graph_model([helper.make_node("Mul", ["x", "w"], ["y"])], {"w": np.array([3e38])}, (1, 2), (1, 2))
    with pytest.raises(KwsError, match="infinity in tensor 'y'"):
        calibrate(model, CLIPS)
