"""Samples -> keyword events, as they come: from a file, or live from a microphone."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kws.audio import Pcm
from kws.config import FeatureConfig
from kws.detector import POSTERIOR_ONE, Detector, DetectorParams, Event, Posteriors
from kws.stream import PosteriorsOf, WindowStream
from kws.terminal import visible


@dataclass(frozen=True, kw_only=True)
class Heard:
    """The inferences that some samples completed: their times in ms (n,), posteriors (n, labels) in 1/32768, events."""

    times_ms: npt.NDArray[np.int64]
    posteriors: Posteriors
    events: list[Event]


class Listener:
    """The state of one stream: the same windows, posteriors and events as the firmware has them."""

    def __init__(
        self, labels: Sequence[str], features: FeatureConfig, params: DetectorParams, posteriors_of: PosteriorsOf
    ) -> None:
        """Raises KwsError for a threshold of a label that is not there."""
        self._classes = len(labels)
        self._detector = Detector(params, labels)
        self._windows = WindowStream(features, params.stride_frames(features))
        self._posteriors_of = posteriors_of

    def push(self, pcm: Pcm) -> Heard:
        """int16 samples (n,), any number of them."""
        times_ms, windows = self._windows.push(pcm)
        if not len(windows):
            return Heard(times_ms=times_ms, posteriors=np.zeros((0, self._classes), np.uint16), events=[])
        posteriors = self._posteriors_of(windows)
        found = (self._detector.push(t, row) for t, row in zip(times_ms.tolist(), posteriors, strict=True))
        return Heard(times_ms=times_ms, posteriors=posteriors, events=[event for event in found if event is not None])


class EventPrinter:
    """Events on standard output, a line each: for people, or as JSON."""

    def __init__(self, labels: Sequence[str], *, as_json: bool) -> None:
        self._labels, self._as_json = labels, as_json
        # A progress bar takes sys.stdout over to draw around it, which only a terminal needs.
        self._stream = None if sys.stdout.isatty() else sys.stdout

    def __call__(self, events: Sequence[Event]) -> None:
        for event in events:
            print(self._line(event), file=self._stream, flush=True)

    def _line(self, event: Event) -> str:
        label, score = self._labels[event.label], event.score / POSTERIOR_ONE
        if self._as_json:
            return json.dumps({"time_ms": event.time_ms, "label": label, "score": round(score, 4)})
        return f"{event.time_ms / 1000:9.2f} s  {visible(label)}  {score:.2f}"
