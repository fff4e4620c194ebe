"""How sure figures from a limited number of clips are, and how far a network's scores can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
CALIBRATION_BINS = 10
SCORE_BINS = 20

Interval = tuple[float, float]
Scores = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_BISECTIONS = 200
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def wilson_interval(hits: int, clips: int) -> Interval:
    """The score interval of Wilson (1927) for a share of `hits` among `clips`, at CONFIDENCE. Raises ValueError for
    no clips."""
    if clips == 0:
        raise ValueError("an interval of no clips")
    share, z_squared = hits / clips, _Z * _Z
    centre = (share + z_squared / (2 * clips)) / (1 + z_squared / clips)
    half = _Z * math.sqrt(share * (1 - share) / clips + z_squared / (4 * clips * clips)) / (1 + z_squared / clips)
    # At either end the formula gives the end itself, but for rounding.
    return (0.0 if hits == 0 else centre - half, 1.0 if hits == clips else centre + half)


def poisson_interval(count: int) -> Interval:
    """The mean that `count` events stand for, exactly (Garwood 1936): beyond either end, as many events or as few have
    a probability below (1 - CONFIDENCE) / 2."""
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if count == 0 else _root(lambda mean: _poisson_cdf(count - 1, mean) - (1 - tail), count)
    return low, _root(lambda mean: _poisson_cdf(count, mean) - tail, count)


def _poisson_cdf(count: int, mean: float) -> float:
    if mean == 0:
        return 1.0
    return math.fsum(math.exp(i * math.log(mean) - mean - math.lgamma(i + 1)) for i in range(count + 1))


def _root(falling: Callable[[float], float], count: int) -> float:
    """Where `falling` crosses zero, between 0 and far beyond `count`."""
    low, high = 0.0, 10.0 + 2 * count + 10 * math.sqrt(count)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def mcnemar_p_value(first_only: int, second_only: int) -> float:
    """Of McNemar's test, exact and two-sided: how likely clips that only one of two gets right are shared out at least
    as unevenly as `first_only` to `second_only`, if both are equally good."""
    discordant = first_only + second_only
    tail = sum(math.comb(discordant, count) for count in range(min(first_only, second_only) + 1))
    return min(1.0, 2 * tail / (1 << discordant))


def paired_difference_interval(both: int, first_only: int, second_only: int, neither: int) -> Interval:
    """Of the share that the first gets right minus that of the second, on the same clips, at CONFIDENCE.

    Method 10 of Newcombe (Statistics in Medicine 17, 1998, pp. 2635-2650): Wilson's intervals of the two shares, put
    together by their correlation. Unlike Wald's it has a width where both always agree. Raises ValueError for no clips.
    """
    clips = both + first_only + second_only + neither
    first_right, second_right = both + first_only, both + second_only
    first, second = first_right / clips, second_right / clips
    first_low, first_high = wilson_interval(first_right, clips)
    second_low, second_high = wilson_interval(second_right, clips)
    correlation = _corrected_phi(both, first_only, second_only, neither)

    def combined(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))

    difference = (first_only - second_only) / clips
    below = combined(first - first_low, second_high - second)
    above = combined(first_high - first, second - second_low)
    return max(-1.0, difference - below), min(1.0, difference + above)


def _corrected_phi(both: int, first_only: int, second_only: int, neither: int) -> float:
    """The correlation of two kinds of right and wrong, a positive one with Newcombe's continuity correction."""
    clips = both + first_only + second_only + neither
    product = (both + first_only) * (second_only + neither) * (both + second_only) * (first_only + neither)
    if product == 0:
        return 0.0
    covariance = float(both * neither - first_only * second_only)
    return (max(covariance - clips / 2, 0.0) if covariance > 0 else covariance) / math.sqrt(product)


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Of float against the device on the same clips: how many only one of them gets right, the `p_value` of
    `mcnemar_p_value`, and `drop`, the accuracy of float minus that of the device, with `paired_difference_interval`."""

    float_only_right: int
    device_only_right: int
    p_value: float
    drop: float
    drop_interval: Interval

    @staticmethod
    def of(float_right: Flags, device_right: Flags) -> PairedTest:
        """Bool (n,) each. Raises ValueError for no clips."""
        first_only = int((float_right & ~device_right).sum())
        second_only = int((device_right & ~float_right).sum())
        both = int((float_right & device_right).sum())
        neither = len(float_right) - both - first_only - second_only
        return PairedTest(
            float_only_right=first_only,
            device_only_right=second_only,
            p_value=mcnemar_p_value(first_only, second_only),
            drop=(first_only - second_only) / len(float_right),
            drop_interval=paired_difference_interval(both, first_only, second_only, neither),
        )


def softmax(logits: npt.ArrayLike) -> Scores:
    """float64 (n, classes): posteriors, each row of which sums to 1."""
    values = np.asarray(logits, np.float64)
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    posteriors: Scores = powers / powers.sum(axis=1, keepdims=True)
    return posteriors


def calibration(scores: Scores, right: Flags) -> dict[str, Any]:
    """How well `scores` (n,) in 0..1, the posteriors of the answers, foretell the share of them that is `right`.

    "ece" is the expected calibration error of Guo et al. 2017 (arXiv:1706.04599), the mean distance of score and share
    over the clips, by "bins" of equal width; "confidence" and "accuracy" of an empty one are None.
    """
    places = _bin_of(scores, CALIBRATION_BINS)
    bins: list[dict[str, float | None]] = []
    error = 0.0
    for index in range(CALIBRATION_BINS):
        inside = places == index
        clips = int(inside.sum())
        confidence = float(scores[inside].mean()) if clips else None
        share = float(right[inside].mean()) if clips else None
        if confidence is not None and share is not None:
            error += abs(share - confidence) * clips / len(scores)
        low, high = index / CALIBRATION_BINS, (index + 1) / CALIBRATION_BINS
        bins.append({"low": low, "high": high, "clips": clips, "confidence": confidence, "accuracy": share})
    return {"ece": error, "bins": bins}


def score_histogram(scores: Scores, right: Flags) -> dict[str, list[int]]:
    """Clips by their score in 0..1, in SCORE_BINS bins of equal width: those answered "right" and "wrong"."""
    places = _bin_of(scores, SCORE_BINS)
    chosen = {"right": right, "wrong": ~right}
    return {name: np.bincount(places[flags], minlength=SCORE_BINS).tolist() for name, flags in chosen.items()}


def _bin_of(scores: Scores, bins: int) -> npt.NDArray[np.int64]:
    """A score on an edge belongs to the bin above, 1 to the last."""
    return np.minimum((scores * bins).astype(np.int64), bins - 1)
