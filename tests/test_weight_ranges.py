from __future__ import annotations

import numpy as np
import onnx
import pytest
from networks import clips_for, graph_model
from onnx import helper, numpy_helper

from kws.errors import KwsError
from quantize.affine import Affine, symmetric_scales
from quantize.calibration import calibrate
from quantize.options import WEIGHT_RANGES
from quantize.qdq import quantize_model
from quantize.weight_ranges import WEIGHT_RANGE_METHODS, mse_scales


def squared_error(weights: np.ndarray, scales: np.ndarray, axis: int = 0) -> np.ndarray:
    affine = Affine(scales, 0, axis)
    error = np.square(weights - affine.dequantize(affine.quantize(weights)))
    return error.sum(axis=tuple(other for other in range(weights.ndim) if other != axis))


def test_the_command_line_offers_the_methods_there_are() -> None:
    assert set(WEIGHT_RANGES) == set(WEIGHT_RANGE_METHODS)


def test_mse_clips_the_one_large_weight_of_a_channel_and_leaves_even_ones() -> None:
    rng = np.random.default_rng(0)
    many, even = rng.normal(0.0, 0.2, 20_000), rng.uniform(-1.0, 1.0, 20_000)
    many[0], even[0] = 1.5, 1.0
    weights = np.stack([many, even]).astype(np.float32)
    scales = mse_scales(weights, 0)
    assert scales[0] < 0.95 * 1.5 / 127
    assert scales[1] == pytest.approx(1 / 127, rel=0.011)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_mse_is_never_worse_than_the_largest_weight(axis: int) -> None:
    weights = np.random.default_rng(1).normal(size=(6, 9)).astype(np.float32)
    best, widest = mse_scales(weights, axis), symmetric_scales(weights, axis)
    errors, before = squared_error(weights, best, axis % 2), squared_error(weights, widest, axis % 2)
    assert (errors <= before).all()
    assert errors.sum() < 0.95 * before.sum()


def test_a_channel_of_zeros_has_the_scale_of_its_layer() -> None:
    weights = np.array([[0.0, 0.0], [1.27, 0.4]], dtype=np.float32)
    assert mse_scales(weights, 0)[0] == symmetric_scales(weights, 0)[0]


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(KwsError, match="NaN or infinity"):
        mse_scales(np.array([[np.nan]], dtype=np.float32), 0)


def test_the_scales_reach_the_quantized_model() -> None:
    weights = np.random.default_rng(2).normal(size=(3, 2, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    model = graph_model([node], {"w": weights}, (1, 2, 5, 5), (1, 3, 3, 3))
    ranges = calibrate(model, clips_for(model))

    def scales(method: str) -> np.ndarray:
        qdq: onnx.ModelProto = quantize_model(model, ranges, weight_ranges=method)
        return next(numpy_helper.to_array(t) for t in qdq.graph.initializer if t.name == "y/weight/scale")

    np.testing.assert_array_equal(scales("min-max"), symmetric_scales(weights, 0))
    np.testing.assert_array_equal(scales("mse"), mse_scales(weights, 0))
