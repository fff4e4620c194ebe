"""Rounding and clipping: exactly what onnxruntime does, and safe at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from qdq_graphs import QdqBuilder

from kws.errors import KwsError
from quantize.affine import Affine, StepType, affine_from_range, quantize_bias, symmetric_scales
from quantize.runtimes import OnnxRuntime


@pytest.mark.parametrize(
    "affine", [Affine(0.25, -3), Affine(0.0517, -3), Affine(1 / 3, -3), Affine(1e-3, dtype="int16")]
)
def test_quantize_equals_onnxruntime_also_at_ties_and_beyond_the_range(affine: Affine) -> None:
    builder = QdqBuilder(activations=affine.dtype)
    model = builder.model(builder.input((1, 4096), affine))
    ties = np.arange(-700, 700).astype(np.float32) / 2 * affine.scale
    values = np.concatenate([ties, np.random.default_rng(0).normal(0, 30, 4096 - ties.size)]).astype(np.float32)
    values[-2:] = np.inf, -np.inf
    expected = OnnxRuntime(model.SerializeToString())(values[np.newaxis])[0]
    np.testing.assert_array_equal(affine.dequantize(affine.quantize(values)), expected)


def test_ties_round_to_even() -> None:
    np.testing.assert_array_equal(Affine(1.0).quantize([0.5, 1.5, 2.5, -0.5, -1.5]), [0, 2, 2, 0, -2])


def test_channels_are_quantized_along_their_axis() -> None:
    affine = Affine([0.5, 2.0], axis=1)
    np.testing.assert_array_equal(affine.quantize([[1.0, 1.0], [4.0, 4.0]]), [[2, 0], [8, 2]])
    np.testing.assert_array_equal(affine.dequantize(np.array([[2, 1]], np.int8)), [[1.0, 2.0]])


def test_affines_are_equal_when_scale_zero_point_axis_and_type_are() -> None:
    assert Affine(0.1, 3) == Affine(np.float32(0.1), 3)
    assert hash(Affine(0.1, 3)) == hash(Affine(np.float32(0.1), 3))
    assert len({Affine(0.1, 3), Affine(0.1, 4), Affine(0.2, 3), Affine([0.1], 3, axis=0)}) == 4
    assert Affine(0.1) != Affine(0.1, dtype="int16")


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize(("low", "high"), [(-1.3, 2.7), (0.4, 3.0), (-5.0, -2.0), (0.0, 0.0), (7.0, 7.0), (-1e-30, 0)])
def test_a_range_keeps_zero_exact_and_its_ends_within_half_a_step(low: float, high: float, dtype: StepType) -> None:
    affine = affine_from_range(low, high, dtype)
    assert affine.dtype == affine.quantize(low).dtype.name == dtype
    assert affine.dequantize(affine.quantize(0.0)) == 0.0
    for value in (low, high):
        assert abs(affine.dequantize(affine.quantize(value)) - value) <= 0.5001 * affine.scale


def test_int16_spans_the_farther_end_both_ways_and_takes_no_zero_point() -> None:
    affine = affine_from_range(-1.0, 4.0, "int16")
    assert (affine.zero_point, float(affine.scale)) == (0, pytest.approx(4.0 / 32767))
    np.testing.assert_array_equal(affine.quantize([-9.0, 4.0, 9.0]), [-32768, 32767, 32767])
    with pytest.raises(KwsError, match="int16 tensor is 3"):
        Affine(0.1, 3, dtype="int16")


@pytest.mark.parametrize(("low", "high"), [(float("nan"), 1.0), (0.0, float("inf")), (2.0, 1.0)])
def test_a_range_that_is_none_is_refused(low: float, high: float) -> None:
    with pytest.raises(KwsError, match="no finite range"):
        affine_from_range(low, high)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 1e-42])
def test_a_scale_that_kernels_cannot_divide_by_is_refused(scale: float) -> None:
    with pytest.raises(KwsError, match="not finite and positive"):
        Affine(scale)


def test_a_zero_point_outside_int8_is_refused() -> None:
    with pytest.raises(KwsError, match="outside int8"):
        Affine(1.0, 128)


def test_a_scale_per_channel_needs_an_axis() -> None:
    with pytest.raises(KwsError, match="axis None"):
        Affine([0.1, 0.2])


def test_nan_is_not_quantized() -> None:
    with pytest.raises(KwsError, match="NaN"):
        Affine(1.0).quantize([0.0, float("nan")])


def test_weights_use_the_whole_symmetric_range_and_a_dead_channel_the_usual_resolution() -> None:
    weights = np.array([[1.0, -2.54], [0.5, 0.25], [0.0, 0.0]], np.float32)
    scales = symmetric_scales(weights, axis=0)
    np.testing.assert_allclose(scales, [0.02, 0.5 / 127, 0.02], rtol=1e-6)
    np.testing.assert_array_equal(Affine(scales, axis=0).quantize(weights)[:, :1].ravel(), [50, 127, 0])
    assert Affine(scales, axis=0).quantize(weights).min() == -127
    np.testing.assert_allclose(symmetric_scales(np.zeros((2, 3), np.float32), axis=1), np.full(3, 1 / 127))


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(KwsError, match="NaN"):
        symmetric_scales(np.array([[1.0, np.nan]], np.float32), axis=0)


def test_a_bias_is_quantized_in_steps_of_the_product_of_scales() -> None:
    bias = quantize_bias(np.array([1.0, -3.0], np.float32), 0.5, np.array([0.01, 0.25], np.float32))
    np.testing.assert_array_equal(bias, [200, -24])
    assert bias.dtype == np.int32


@pytest.mark.parametrize("weight_scale", [1e-9, 1e-44])
def test_a_bias_that_does_not_fit_int32_is_refused(weight_scale: float) -> None:
    with pytest.raises(KwsError, match="channel 1 does not fit int32"):
        quantize_bias(np.array([0.1, 3.0], np.float32), 1.0, np.array([0.01, weight_scale], np.float32))
