"""quantize.calibration's histograms and range methods, on distributions whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from networks import graph_model
from onnx import helper

from quantize.affine import affine_from_range
from quantize.calibration import Range, calibrate
from quantize.calibration.histograms import BINS, Histogram
from quantize.calibration.methods import PERCENT_KEPT, RANGE_METHODS, SHRINKS, choose_range, mse_range
from quantize.options import RANGES

F32 = np.float32


def histogram_of(*arrays: np.ndarray) -> Histogram:
    histogram = Histogram()
    for array in arrays:
        histogram.add(array.astype(F32))
    return histogram


def found(method: str, values: np.ndarray) -> Range:
    return choose_range(method, histogram_of(values), Range(float(values.min()), float(values.max())))


def int8_error(values: np.ndarray, span: Range) -> float:
    affine = affine_from_range(span.low, span.high)
    return float(np.square(values - affine.dequantize(affine.quantize(values))).mean())


GAUSSIAN = np.random.default_rng(0).normal(size=100_000).astype(F32)
OUTLIER = np.append(np.random.default_rng(2).normal(size=1_000_000).astype(F32), F32(12.0))
UNIFORM = np.random.default_rng(1).uniform(-2.0, 3.0, 100_000).astype(F32)


def test_the_command_line_offers_the_methods_there_are() -> None:
    assert set(RANGES) == set(RANGE_METHODS)


@pytest.mark.parametrize("method", ["percentile", "entropy", "mse"])
def test_a_lone_outlier_is_cut(method: str) -> None:
    span = found(method, OUTLIER)
    assert 2.0 < span.high < 7.0
    assert -5.0 < span.low < -2.0


def test_min_max_keeps_a_lone_outlier() -> None:
    assert found("min-max", OUTLIER) == Range(float(OUTLIER.min()), 12.0)


@pytest.mark.parametrize("method", sorted(RANGE_METHODS))
def test_a_uniform_distribution_is_not_cut(method: str) -> None:
    span = found(method, UNIFORM)
    assert span.low == pytest.approx(-2.0, abs=0.01)
    assert span.high == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize("method", sorted(RANGE_METHODS))
def test_values_of_one_sign_keep_zero_as_their_other_bound(method: str) -> None:
    span = found(method, np.maximum(GAUSSIAN, 0))
    assert span.low == 0.0
    assert 2.0 < span.high <= float(GAUSSIAN.max())


@pytest.mark.parametrize("method", sorted(RANGE_METHODS))
@pytest.mark.parametrize("sign", [1, -1])
def test_values_that_are_far_from_zero_get_a_range_with_zero(method: str, sign: int) -> None:
    span = found(method, sign * (5 + GAUSSIAN / 10))
    near, far = sorted((span.low, span.high), key=abs)
    assert near == 0.0
    assert 5.2 < sign * far < 5.5


@pytest.mark.parametrize("method", sorted(RANGE_METHODS))
def test_a_tensor_that_is_always_zero_keeps_its_range(method: str) -> None:
    assert found(method, np.zeros(10, F32)) == Range(0.0, 0.0)


def test_percentile_leaves_out_its_share_at_either_end() -> None:
    values = np.linspace(-1.0, 1.0, 1_000_001)
    span = found("percentile", values)
    outside = 2 * (1 - PERCENT_KEPT / 100)
    assert span.high == pytest.approx(1 - outside, abs=2 / BINS)
    assert span.low == pytest.approx(-1 + outside, abs=2 / BINS)


def test_mse_is_the_range_of_least_error() -> None:
    span = found("mse", OUTLIER)
    least = int8_error(OUTLIER, span)
    for low, high in ((1.15, 1.0), (0.85, 1.0), (1.0, 1.15), (1.0, 0.85)):
        assert least <= int8_error(OUTLIER, Range(span.low * low, span.high * high))


@pytest.mark.parametrize("seed", range(5))
def test_mse_finds_the_least_of_its_candidates_though_error_goes_up_and_down(seed: int) -> None:
    values = np.random.default_rng(seed).exponential(size=12).astype(F32)
    values = np.append(np.repeat(values, 1000), F32(1.5 * values.max()))
    candidates = [Range(0.0, float(values.max()) * shrink) for shrink in SHRINKS]
    least = min(int8_error(values, candidate) for candidate in candidates)
    assert int8_error(values, found("mse", values)) == pytest.approx(least, rel=1e-3)


def test_mse_looks_only_at_what_a_relu_does_not_hide() -> None:
    span = mse_range(histogram_of(GAUSSIAN), Range(-0.5, float(GAUSSIAN.max())))
    assert -0.5 <= span.low <= -0.4


def test_a_spike_at_zero_does_not_drive_entropy() -> None:
    spiked = np.concatenate([np.zeros(900_000, F32), np.abs(GAUSSIAN)])
    assert found("entropy", spiked).high == pytest.approx(found("entropy", np.abs(GAUSSIAN)).high, rel=0.1)


def test_bins_widen_without_losing_a_value() -> None:
    small, large = GAUSSIAN * F32(1e-3), GAUSSIAN * F32(50.0)
    together, apart = histogram_of(np.concatenate([small, large])), histogram_of(small, large)
    np.testing.assert_array_equal(apart.counts, together.counts)
    np.testing.assert_allclose(apart.sums, together.sums, rtol=1e-9, atol=1e-6)
    assert apart.counts.sum() == len(small) + len(large)
    peak = float(np.abs(large).max())
    assert 2.0**apart.exponent * BINS / 2 <= peak <= 2.0**apart.exponent * BINS


def test_histograms_of_unlike_width_add_up() -> None:
    parts = [GAUSSIAN * F32(1e-3), GAUSSIAN * F32(50.0)]
    whole = Histogram.of_all(histogram_of(part) for part in parts)
    np.testing.assert_array_equal(whole.counts, histogram_of(*parts).counts)


def test_tensors_that_share_a_scale_are_searched_together() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "large"], ["a"]),
        helper.make_node("Mul", ["x", "small"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["y"], axis=1),
    ]
    model = graph_model(nodes, {"large": np.array([4.0]), "small": np.array([0.1])}, (1, 500), (1, 1000))
    clips = GAUSSIAN[:50_000].reshape(100, 500)
    ranges = calibrate(model, clips, "percentile")
    assert ranges["a"] == ranges["b"] == ranges["y"]
    assert ranges["y"].high == pytest.approx(4 * np.quantile(GAUSSIAN[:50_000], 0.9998), rel=0.02)
    assert ranges["x"].high == pytest.approx(np.quantile(GAUSSIAN[:50_000], 0.9999), rel=0.02)
