from __future__ import annotations

import itertools

import numpy as np

from quantize.rounding import round_for_output


def expected_error(rounded: np.ndarray, weights: np.ndarray, scales: np.ndarray, moments: np.ndarray) -> np.ndarray:
    error = scales[:, None] * rounded - weights
    return np.einsum("ck,ckl,cl->c", error, moments, error)


def random_layer(channels: int, taps: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, scales, and the moments of inputs that have much in common."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(channels, taps))
    inputs = rng.normal(size=(channels, 500, 1)) + 0.3 * rng.normal(size=(channels, 500, taps))
    return weights, np.abs(weights).max(axis=1) / 7, np.matmul(inputs.transpose(0, 2, 1), inputs) / 500


def test_inputs_without_relation_leave_each_weight_at_its_nearest_step() -> None:
    weights, scales, _ = random_layer(4, 9, seed=0)
    moments = np.broadcast_to(np.diag(np.arange(1.0, 10.0)), (4, 9, 9))
    np.testing.assert_array_equal(round_for_output(weights, scales, moments), np.rint(weights / scales[:, None]))


def test_equal_inputs_are_rounded_for_their_sum() -> None:
    rounded = round_for_output(np.array([[0.4, 0.4, 0.4]]), np.ones(1), np.ones((1, 3, 3)))
    assert rounded.sum() == 1  # 1.2, where the nearest steps are all 0
    assert rounded.dtype == np.int8


def test_error_is_near_the_least_of_all_roundings_up_or_down() -> None:
    weights, scales, moments = random_layer(5, 6, seed=1)
    floors = np.floor(weights / scales[:, None])
    choices = [floors + np.array(up) for up in itertools.product((0, 1), repeat=6)]
    least = np.min([expected_error(choice, weights, scales, moments) for choice in choices], axis=0)
    nearest = expected_error(np.rint(weights / scales[:, None]), weights, scales, moments)
    found = expected_error(round_for_output(weights, scales, moments), weights, scales, moments)
    assert (found <= nearest * 1.01).all()
    assert found.sum() < 0.5 * nearest.sum()
    assert found.sum() < 2 * least.sum()


def test_weights_of_inputs_that_are_always_zero_are_rounded_to_the_nearest() -> None:
    weights, scales, moments = random_layer(3, 5, seed=2)
    moments[:, 2] = moments[:, :, 2] = 0.0
    moments[1] = 0.0
    rounded = round_for_output(weights, scales, moments)
    nearest = np.rint(weights / scales[:, None])
    np.testing.assert_array_equal(rounded[:, 2], nearest[:, 2])
    np.testing.assert_array_equal(rounded[1], nearest[1])


def test_int8_is_never_left() -> None:
    weights = np.array([[1.27, 1.269, -1.27]])
    rounded = round_for_output(weights, np.array([0.01]), np.ones((1, 3, 3)) * 9)
    assert np.abs(rounded.astype(int)).max() <= 127
    beyond = round_for_output(np.array([[3.0, -3.0]]), np.array([0.01]), np.eye(2)[None])
    np.testing.assert_array_equal(beyond, [[127, -127]])
