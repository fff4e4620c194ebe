"""Streams of posteriors that the tests make up, and what is said in them."""

from __future__ import annotations

import numpy as np

from kws.detector import POSTERIOR_ONE, DetectorParams
from kws.detector_sweep import SmoothedStream
from kws.spotting import Word, WordTrack
from kws.thresholds import Judged, sweep

LABELS = ["_silence_", "_unknown_", "yes", "no"]
KEYWORDS = ["yes", "no"]
DEFAULT = DetectorParams()


def judged_stream(
    bursts: list[tuple[float, float, str | None]],
    hours: float = 1.0,
    labels: list[str] = LABELS,
    quiet: list[int] | None = None,
    params: DetectorParams = DEFAULT,
) -> Judged:
    """A second for each (posterior of the first keyword, of the second, what is said), and before it so many tenths of
    a second of other speech: two seconds if `quiet` does not say."""
    rows, words = [], []
    for (first, second, said), tenths in zip(bursts, quiet or [20] * len(bursts), strict=True):
        rows += [(0.0, 1.0, 0.0, 0.0)] * tenths
        if said is not None:
            words.append(Word(label=said, start_ms=100 * len(rows), end_ms=100 * len(rows) + 1000))
        rows += [(0.0, 1 - first - second, first, second)] * 10
    times_ms = np.arange(1, len(rows) + 1) * 100
    posteriors = np.rint(np.array(rows) * POSTERIOR_ONE).astype(np.uint16)
    stream, track = SmoothedStream(times_ms, posteriors, params), WordTrack(words, labels, labels[2:])
    points = sweep(stream, track, labels, params)
    return Judged(stream=stream, track=track, labels=labels, params=params, hours=hours, points=points)
