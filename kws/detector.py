"""Posteriors, one row an inference -> keyword events: smoothed, held against thresholds, debounced.

`firmware_template/src/detector.c` does the same in C. Both count in integers, so that they give equal events:
posteriors are in steps of 1/32768, times in milliseconds modulo 2**32, as a microcontroller's clock has them.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.artifact import read_json, write_json
from kws.config import SILENCE_LABEL, UNKNOWN_LABEL, FeatureConfig
from kws.errors import KwsError

POSTERIOR_ONE = 1 << 15
# The threshold of a label that never makes an event.
NEVER = 0xFFFF
MAX_RESULTS = 64
MAX_MS = 60_000
_TIME_MASK = 0xFFFFFFFF
_EXP_ENTRIES = 256

Posteriors = npt.NDArray[np.uint16]
Logits = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, kw_only=True)
class DetectorParams:
    """When posteriors become an event.

    An inference every `stride_ms`; posteriors averaged over the last `smoothing_ms`, of which there must be at least
    `min_results`; the likeliest label makes an event if its average reaches its threshold, unless one came within the
    last `refractory_ms`. Labels in `background` take part but never make one.
    """

    stride_ms: int = 100
    smoothing_ms: int = 300
    refractory_ms: int = 1000
    min_results: int = 2
    threshold: float = 0.7
    thresholds: Mapping[str, float] = field(default_factory=dict)
    background: tuple[str, ...] = (SILENCE_LABEL, UNKNOWN_LABEL)

    def __post_init__(self) -> None:
        """Raises KwsError, naming the entry, if one is out of its range."""
        for name, (wanted, is_right) in _RULES.items():
            if not is_right(getattr(self, name)):
                raise KwsError(f"The detector's {name} is {getattr(self, name)!r}; give {wanted}.")
        if not self.min_results <= self.capacity - 1 <= MAX_RESULTS:
            raise KwsError(
                f"The detector's smoothing_ms {self.smoothing_ms} holds {self.capacity - 1} results of stride_ms "
                f"{self.stride_ms}; it must hold min_results ({self.min_results}) to {MAX_RESULTS}."
            )

    @property
    def capacity(self) -> int:
        """Results that smoothing may have to hold; times are rounded to milliseconds, hence one to spare."""
        return -(-self.smoothing_ms // self.stride_ms) + 1

    def stride_frames(self, features: FeatureConfig) -> int:
        """The stride in whole feature frames, at least one."""
        return max(1, round(self.stride_ms * features.sample_rate_hz / 1000 / features.hop_samples))

    def thresholds_q15(self, labels: Sequence[str]) -> list[int]:
        """One threshold a label, in steps of 1/32768. Raises KwsError for a threshold of a label that is not there."""
        if missing := sorted(set(self.thresholds) - set(labels)):
            raise KwsError(
                f"The detector has a threshold for {missing[0]!r}, which is no label of the model "
                f"({', '.join(labels)}); remove it."
            )
        return [
            NEVER if label in self.background else round(self.thresholds.get(label, self.threshold) * POSTERIOR_ONE)
            for label in labels
        ]


def read_detector(path: Path) -> DetectorParams:
    """Read what `write_detector` wrote or a person did; what is left out has its default.

    Raises KwsError, naming `path` and the entry, if the file cannot be read or an entry is out of its range.
    """
    values = read_json(path, 'give a detector as JSON, such as {"threshold": 0.8}')
    known = {entry.name for entry in dataclasses.fields(DetectorParams)}
    if unknown := sorted(set(values) - known):
        raise KwsError(f"{path}: a detector has no {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    if isinstance(values.get("background"), list):
        values["background"] = tuple(values["background"])
    try:
        return DetectorParams(**values)
    except KwsError as error:
        raise KwsError(f"{path}: {error}") from error


def write_detector(path: Path, params: DetectorParams) -> None:
    write_json(path, dataclasses.asdict(params))


@dataclass(frozen=True, kw_only=True)
class Event:
    """A keyword at `time_ms` (of the inference that decided); `score` is its smoothed posterior in 1/32768."""

    label: int
    time_ms: int
    score: int


class Detector:
    """The state of one stream."""

    def __init__(self, params: DetectorParams, labels: Sequence[str], capacity: int | None = None) -> None:
        """`capacity` is for a firmware that was rendered for other parameters.

        Raises KwsError for a threshold of a label that is not there.
        """
        self._params = params
        self._thresholds = params.thresholds_q15(labels)
        self._results: deque[tuple[int, list[int]]] = deque(maxlen=capacity or params.capacity)
        self._last_event_ms: int | None = None

    def push(self, time_ms: int, posteriors: Posteriors) -> Event | None:
        """The posteriors (labels,) of the inference at `time_ms`, which may wrap at 2**32."""
        params = self._params
        if self._last_event_ms is not None and _elapsed(time_ms, self._last_event_ms) >= params.refractory_ms:
            self._last_event_ms = None
        while self._results and _elapsed(time_ms, self._results[0][0]) >= params.smoothing_ms:
            self._results.popleft()
        self._results.append((time_ms & _TIME_MASK, [int(value) for value in posteriors]))
        sums = [sum(column) for column in zip(*(row for _, row in self._results), strict=True)]
        best, count = sums.index(max(sums)), len(self._results)
        is_event = (
            count >= params.min_results
            and self._last_event_ms is None
            and self._thresholds[best] <= POSTERIOR_ONE
            and sums[best] >= self._thresholds[best] * count
        )
        if not is_event:
            return None
        self._last_event_ms = time_ms & _TIME_MASK
        return Event(label=best, time_ms=time_ms & _TIME_MASK, score=sums[best] // count)


def detect(
    times_ms: Iterable[int], posteriors: Posteriors, params: DetectorParams, labels: Sequence[str]
) -> list[Event]:
    """All events of a stream: `posteriors` (inferences, labels) in 1/32768, each with its time."""
    detector = Detector(params, labels)
    events = (detector.push(time_ms, row) for time_ms, row in zip(times_ms, posteriors, strict=True))
    return [event for event in events if event is not None]


def exp_tables(scale: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """exp(-scale * i) and exp(-scale * 256 * i), i in 0..255, in 1/32768: exp(-scale * d) for every 16-bit d."""
    steps = np.arange(_EXP_ENTRIES) * float(np.float32(scale))
    fine, coarse = (np.rint(POSTERIOR_ONE * np.exp(-exponents)) for exponents in (steps, steps * _EXP_ENTRIES))
    return fine.astype(np.int64), coarse.astype(np.int64)


def posteriors_of_logits(logits: Logits, scale: float) -> Posteriors:
    """int8 or int16 logits (n, labels) of step `scale` -> softmax in 1/32768, as the firmware computes it."""
    fine, coarse = exp_tables(scale)
    below = logits.max(axis=-1, keepdims=True).astype(np.int64) - logits
    powers = (fine[below % _EXP_ENTRIES] * coarse[below // _EXP_ENTRIES] + POSTERIOR_ONE // 2) // POSTERIOR_ONE
    total = powers.sum(axis=-1, keepdims=True)
    posteriors: Posteriors = ((powers * POSTERIOR_ONE + total // 2) // total).astype(np.uint16)
    return posteriors


def posteriors_of_probabilities(probabilities: npt.NDArray[np.floating[Any]]) -> Posteriors:
    """Probabilities (n, labels) in 0..1, such as a float model's, in 1/32768."""
    steps = np.rint(probabilities.astype(np.float64) * POSTERIOR_ONE)
    return np.clip(steps, 0, POSTERIOR_ONE).astype(np.uint16)


def _elapsed(now_ms: int, then_ms: int) -> int:
    return (now_ms - then_ms) & _TIME_MASK


def _is_ms(lowest: int) -> Any:
    return lambda value: _is_integer(value) and lowest <= value <= MAX_MS


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_threshold(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and 0 < value <= 1


def _are_thresholds(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_is_threshold(entry) for entry in value.values())


def _are_labels(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(label, str) for label in value)


_RULES: dict[str, tuple[str, Any]] = {
    "stride_ms": (f"whole milliseconds from 1 to {MAX_MS}", _is_ms(1)),
    "smoothing_ms": (f"whole milliseconds from 1 to {MAX_MS}", _is_ms(1)),
    "refractory_ms": (f"whole milliseconds from 0 to {MAX_MS}", _is_ms(0)),
    "min_results": ("a whole number from 1", lambda value: _is_integer(value) and value >= 1),
    "threshold": ("a number above 0, up to 1", _is_threshold),
    "thresholds": ("an object of label: number above 0, up to 1", _are_thresholds),
    "background": ("a list of labels", _are_labels),
}
