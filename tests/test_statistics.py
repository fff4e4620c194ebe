from __future__ import annotations

import math

import numpy as np
import pytest

from kws.statistics import (
    PairedTest,
    calibration,
    mcnemar_p_value,
    paired_difference_interval,
    score_histogram,
    softmax,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("hits", "clips", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_equals_the_published_ones(hits: int, clips: int, low: float, high: float) -> None:
    """Method 3 in table I of Newcombe, Statistics in Medicine 17, 1998, pp. 857-872."""
    assert wilson_interval(hits, clips) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_is_the_same_for_mistakes_and_stays_within_0_and_1() -> None:
    low, high = wilson_interval(0, 7)
    assert wilson_interval(7, 7) == pytest.approx((1 - high, 1 - low))
    assert low == 0.0
    assert wilson_interval(7, 7)[1] == 1.0
    with pytest.raises(ValueError, match="no clips"):
        wilson_interval(0, 0)


@pytest.mark.parametrize(
    ("first", "second", "p_value"),
    # One coin: 1 and 7 of 8 are 2 * (1 + 8) / 256; 0 of 5 are 2 / 32; equal shares cannot be more even.
    [(1, 7, 18 / 256), (7, 1, 18 / 256), (5, 0, 2 / 32), (4, 4, 1.0), (0, 0, 1.0), (1, 0, 1.0)],
)
def test_mcnemar_counts_the_throws_of_a_coin(first: int, second: int, p_value: float) -> None:
    assert mcnemar_p_value(first, second) == pytest.approx(p_value, rel=1e-12)


def test_mcnemar_takes_more_clips_than_a_float_has_powers_of_two() -> None:
    z = 100 / math.sqrt(6100)
    assert mcnemar_p_value(3000, 3100) == pytest.approx(math.erfc((z - 1 / math.sqrt(6100)) / math.sqrt(2)), rel=0.01)
    assert mcnemar_p_value(0, 3000) == 0.0


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17, 1998, pp. 2635-2650, method 10.
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((20, 12, 2, 16), 0.0562, 0.3292),
        # Airway reactivity, in Fagerland, Lydersen and Laake, Statistics in Medicine 33, 2014, pp. 2850-2875.
        ((1, 1, 7, 12), -0.5069, -0.0256),
    ],
)
def test_interval_of_a_paired_difference_equals_the_published_ones(
    table: tuple[int, int, int, int], low: float, high: float
) -> None:
    assert paired_difference_interval(*table) == pytest.approx((low, high), abs=5e-5)


def test_interval_of_a_paired_difference_turns_with_the_sides_and_has_a_width_without_any_difference() -> None:
    low, high = paired_difference_interval(80, 9, 4, 7)
    assert paired_difference_interval(80, 4, 9, 7) == pytest.approx((-high, -low))
    assert paired_difference_interval(100, 0, 0, 0) == pytest.approx((-0.037, 0.037), abs=5e-4)
    assert paired_difference_interval(0, 10, 0, 0)[1] == 1.0


def test_paired_test_counts_who_alone_is_right() -> None:
    float_right = np.array([True, True, True, False, False, True])
    device_right = np.array([True, False, False, True, False, True])
    found = PairedTest.of(float_right, device_right)
    assert (found.float_only_right, found.device_only_right) == (2, 1)
    assert found.drop == pytest.approx(1 / 6)
    assert found.p_value == 1.0
    assert found.drop_interval == paired_difference_interval(2, 2, 1, 1)


def test_softmax_takes_logits_that_exp_does_not() -> None:
    assert softmax(np.array([[0.0, math.log(3)], [1000.0, 1000.0]])) == pytest.approx(
        np.array([[0.25, 0.75], [0.5, 0.5]])
    )


def test_calibration_error_is_the_mean_distance_of_score_and_share() -> None:
    scores = np.array([0.95, 0.85, 0.9, 0.9, 0.42, 1.0])
    right = np.array([True, False, True, False, True, True])
    found = calibration(scores, right)
    # 0.9 to 1: four clips with mean 0.9375, of which three are right; alone in its bin 0.85 is wrong and 0.42 right.
    assert found["ece"] == pytest.approx((4 * (0.9375 - 0.75) + 0.85 + 0.58) / 6)
    assert [one["clips"] for one in found["bins"]] == [0, 0, 0, 0, 1, 0, 0, 0, 1, 4]
    assert found["bins"][9] == {
        "low": 0.9,
        "high": 1.0,
        "clips": 4,
        "confidence": pytest.approx(0.9375),
        "accuracy": 0.75,
    }
    assert found["bins"][0]["confidence"] is found["bins"][0]["accuracy"] is None


def test_histogram_tells_right_from_wrong_and_holds_every_clip() -> None:
    found = score_histogram(np.array([1.0, 0.97, 0.5, 0.0]), np.array([True, True, False, False]))
    assert found["right"][19] == 2
    assert (found["wrong"][10], found["wrong"][0]) == (1, 1)
    assert sum(found["right"]) + sum(found["wrong"]) == 4
    assert len(found["right"]) == len(found["wrong"]) == 20
