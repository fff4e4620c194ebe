"""The events of one stream at many thresholds: smoothed once, and then exactly what `kws.detector.Detector` gives."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kws.detector import NEVER, POSTERIOR_ONE, DetectorParams, Event, Posteriors


class SmoothedStream:
    """Posteriors (inferences, labels) in 1/32768 of a stream whose `times_ms` rise and do not wrap."""

    def __init__(self, times_ms: npt.NDArray[np.int64], posteriors: Posteriors, params: DetectorParams) -> None:
        self._params = params
        self._times_ms = times_ms
        here = np.arange(len(times_ms))
        first = np.searchsorted(times_ms, times_ms - params.smoothing_ms, side="right")
        first = np.maximum(first, here + 1 - params.capacity)
        totals = np.zeros((len(times_ms) + 1, posteriors.shape[1]), np.int64)
        np.cumsum(posteriors, axis=0, dtype=np.int64, out=totals[1:])
        sums = totals[1:] - totals[first]
        self._labels = sums.argmax(axis=1)
        self._sums, self._counts = sums[here, self._labels], here + 1 - first

    def events(self, thresholds_q15: Sequence[int]) -> list[Event]:
        """`thresholds_q15` has one threshold a label, as `DetectorParams.thresholds_q15` gives them."""
        thresholds = np.array(thresholds_q15, np.int64)[self._labels]
        passes = (self._counts >= self._params.min_results) & (thresholds <= POSTERIOR_ONE)
        rows = np.flatnonzero(passes & (self._sums >= thresholds * self._counts))
        times: list[int] = self._times_ms[rows].tolist()
        events, at = [], 0
        while at < len(rows):
            row = int(rows[at])
            score = int(self._sums[row] // self._counts[row])
            events.append(Event(label=int(self._labels[row]), time_ms=times[at], score=score))
            at = max(at + 1, bisect_left(times, times[at] + self._params.refractory_ms))
        return events


def threshold_grid() -> list[int]:
    """Thresholds in 1/32768, rising up to one: evenly spread as logits, since good posteriors crowd near one."""
    shares = 1 / (1 + np.exp(-np.arange(-3.0, 10.4, 0.1)))
    return sorted({*np.rint(shares * POSTERIOR_ONE).astype(int).tolist(), POSTERIOR_ONE})


def same_threshold(threshold_q15: int, labels: Sequence[str], params: DetectorParams) -> list[int]:
    """That threshold for every label that makes events."""
    return [NEVER if label in params.background else threshold_q15 for label in labels]
