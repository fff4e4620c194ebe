"""Histograms of activations, gathered in one pass: their bins widen by powers of two as larger values come."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quantize.calibration.ranges import FloatArray, Range

BINS = 2048  # on each side of zero
SMALLEST_EXPONENT = -60

FloatArray64 = npt.NDArray[np.float64]


@dataclass(eq=False)
class Histogram:
    """`counts` and `sums` of the values in 2 * BINS bins of width 2^`exponent`, zero at the edge in the middle.

    Widths are powers of two so that histograms of different tensors add up exactly. `add` changes it.
    """

    exponent: int = SMALLEST_EXPONENT
    counts: FloatArray64 = field(default_factory=lambda: np.zeros(2 * BINS))
    sums: FloatArray64 = field(default_factory=lambda: np.zeros(2 * BINS))

    def add(self, array: FloatArray) -> None:
        """Count the finite values of `array`, of any shape."""
        values = array.reshape(-1).astype(np.float64)
        self._widen(_exponent_for(float(np.abs(values).max(initial=0.0))))
        bins = np.floor(np.ldexp(values, -self.exponent)).astype(np.int64) + BINS
        bins = np.minimum(bins, 2 * BINS - 1)
        self.counts += np.bincount(bins, minlength=2 * BINS)
        self.sums += np.bincount(bins, weights=values, minlength=2 * BINS)

    @staticmethod
    def of_all(parts: Iterable[Histogram]) -> Histogram:
        """One histogram of what all `parts` counted; they are widened to the widest bins among them."""
        whole = Histogram()
        for part in parts:
            whole._widen(part.exponent)
            part._widen(whole.exponent)
            whole.counts += part.counts
            whole.sums += part.sums
        return whole

    def points(self, span: Range) -> tuple[FloatArray64, FloatArray64]:
        """The mean value of each occupied bin, ascending and kept within `span`, and how many values it holds."""
        occupied = self.counts > 0
        means = self.sums[occupied] / self.counts[occupied]
        return np.clip(means, span.low, span.high), self.counts[occupied]

    def without_spike_at_zero(self) -> Histogram:
        """The same with no more values in the bin that holds zero than in the larger one of its neighbours."""
        around = self.counts[[BINS - 1, BINS + 1]].max()
        kept = min(1.0, around / self.counts[BINS]) if self.counts[BINS] else 0.0
        counts, sums = self.counts.copy(), self.sums.copy()
        counts[BINS] *= kept
        sums[BINS] *= kept
        return Histogram(self.exponent, counts, sums)

    def _widen(self, exponent: int) -> None:
        steps = exponent - self.exponent
        if steps > 0:
            self.counts, self.sums = _merged(self.counts, steps), _merged(self.sums, steps)
            self.exponent = exponent


def counted(
    clips: Iterator[dict[str, FloatArray]], histograms: Mapping[str, Histogram]
) -> Iterator[dict[str, FloatArray]]:
    """The same `clips`, whose tensors are added to their `histograms` in passing."""
    for clip in clips:
        for name, histogram in histograms.items():
            histogram.add(clip[name])
        yield clip


def _exponent_for(peak: float) -> int:
    """The narrowest bins, as a power of two, that hold values up to `peak` on either side."""
    return max(SMALLEST_EXPONENT, math.frexp(peak / BINS)[1]) if peak > 0 else SMALLEST_EXPONENT


def _merged(bins: FloatArray64, steps: int) -> FloatArray64:
    """`bins` with 2^`steps` neighbours on the same side of zero made one."""
    wide = np.zeros_like(bins)
    per_side = min(2**steps, BINS)
    kept = BINS // per_side
    wide[BINS - kept : BINS + kept] = bins.reshape(-1, per_side).sum(axis=1)
    return wide
