"""Events of a detector held against the words that were spoken: hits, false rejects, false accepts and latency.

A word is heard by the first event of its label from its start until WINDOW_GRACE_MS after its end, for so long it may
stand in the window. Every other event is a false accept: one of another label (the word is then missed, too), a second
one for the same word, one with no word there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kws.detector import Event

WINDOW_GRACE_MS = 1000
NO_WORD = "noise"


@dataclass(frozen=True, kw_only=True)
class Word:
    """Something spoken, from `start_ms` to `end_ms`; of a label of the model or any other."""

    label: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, kw_only=True)
class Spotted:
    """`heard` are (word, event) pairs, `missed` the keywords nobody heard, `false_accepts` events with what was said
    at the time (NO_WORD if nothing)."""

    heard: list[tuple[Word, Event]]
    missed: list[Word]
    false_accepts: list[tuple[Event, str]]

    @property
    def words(self) -> int:
        return len(self.heard) + len(self.missed)

    @property
    def false_reject_rate(self) -> float:
        return len(self.missed) / self.words

    def latencies_ms(self) -> list[int]:
        """From the end of each word that was heard to its event; below zero where the event comes sooner."""
        return [event.time_ms - word.end_ms for word, event in self.heard]


class WordTrack:
    """What is said in a recording."""

    def __init__(self, words: Sequence[Word], labels: Sequence[str], keywords: Sequence[str]) -> None:
        """`labels` are the model's, `keywords` those of them that make events; all other words are other speech."""
        self._labels = list(labels)
        self._all = sorted(words, key=lambda word: (word.start_ms, word.end_ms))
        self.keywords = [word for word in self._all if word.label in keywords]
        self.others = [word for word in self._all if word.label not in keywords]
        self._of_label: dict[str, list[Word]] = defaultdict(list)
        for word in self.keywords:
            self._of_label[word.label].append(word)
        self._longest_ms = max((word.end_ms - word.start_ms for word in self._all), default=0)

    def match(self, events: Sequence[Event]) -> Spotted:
        """`events` in the order of their times."""
        heard: dict[int, tuple[Word, Event]] = {}
        false_accepts = []
        for event in events:
            label = self._labels[event.label]
            word = next((w for w in self._sounding(self._of_label[label], event.time_ms) if id(w) not in heard), None)
            if word is None:
                false_accepts.append((event, self._said_at(event.time_ms)))
            else:
                heard[id(word)] = (word, event)
        missed = [word for word in self.keywords if id(word) not in heard]
        return Spotted(heard=list(heard.values()), missed=missed, false_accepts=false_accepts)

    def _sounding(self, words: list[Word], time_ms: int) -> list[Word]:
        last = bisect_right(words, time_ms, key=lambda word: word.start_ms)
        first = bisect_right(words, time_ms - WINDOW_GRACE_MS - self._longest_ms - 1, key=lambda word: word.start_ms)
        return [word for word in words[first:last] if time_ms <= word.end_ms + WINDOW_GRACE_MS]

    def _said_at(self, time_ms: int) -> str:
        sounding = self._sounding(self._all, time_ms)
        return sounding[-1].label if sounding else NO_WORD


def causes(spotted: Spotted, labels: Sequence[str]) -> list[tuple[str, str, int]]:
    """(label of the event, what was said, how often) of all false accepts, the commonest first."""
    counts = Counter((labels[event.label], said) for event, said in spotted.false_accepts)
    return [(label, said, n) for (label, said), n in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))]


def percentile_ms(values: Sequence[int], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None
