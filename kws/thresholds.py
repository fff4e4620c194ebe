"""Thresholds for a wanted rate of false accepts, chosen on one recording: one for all labels, or one for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kws.detector import NEVER, POSTERIOR_ONE, DetectorParams
from kws.detector_sweep import SmoothedStream, same_threshold, threshold_grid
from kws.spotting import Spotted, WordTrack


@dataclass(frozen=True, kw_only=True)
class DetPoint:
    """What one threshold for all labels gives (a point of the detection error trade-off, DET)."""

    threshold_q15: int
    spotted: Spotted

    @property
    def threshold(self) -> float:
        return self.threshold_q15 / POSTERIOR_ONE


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """A model on a recording: `points` are its DET curve, one for each of `threshold_grid`."""

    stream: SmoothedStream
    track: WordTrack
    labels: Sequence[str]
    params: DetectorParams
    hours: float
    points: Sequence[DetPoint]

    def run(self, params: DetectorParams) -> Spotted:
        """At the thresholds of `params`, whose times must be those of the stream."""
        return self.track.match(self.stream.events(params.thresholds_q15(self.labels)))

    @property
    def keywords(self) -> list[str]:
        return [label for label in self.labels if label not in self.params.background]


def sweep(stream: SmoothedStream, track: WordTrack, labels: Sequence[str], params: DetectorParams) -> list[DetPoint]:
    return [
        DetPoint(threshold_q15=q15, spotted=track.match(stream.events(same_threshold(q15, labels, params))))
        for q15 in threshold_grid()
    ]


def choose(tuning: Judged, false_accepts_per_hour: float, *, per_keyword: bool) -> DetectorParams | None:
    """The thresholds that miss the fewest words on `tuning` at no more false accepts an hour; None if there are none.

    One for all keywords, or, with `per_keyword`, one for each: they fit `tuning` better, and other recordings worse
    unless `tuning` is long.
    """
    allowed = false_accepts_per_hour * tuning.hours
    point = best_point(tuning.points, allowed)
    if point is None:
        return None
    common = replace(tuning.params, threshold=point.threshold, thresholds={})
    if not per_keyword:
        return common
    found = keyword_thresholds(tuning, allowed)
    return None if found is None else replace(common, thresholds=found)


def best_point(points: Sequence[DetPoint], allowed: float) -> DetPoint | None:
    """The point with the fewest misses among those of at most `allowed` false accepts, None if there is none.

    Of equals it is the one in the middle, which is farthest from a false accept here and a miss there.
    """
    fitting = [point for point in points if len(point.spotted.false_accepts) <= allowed]
    fewest = min((len(point.spotted.missed) for point in fitting), default=0)
    equals = [point for point in fitting if len(point.spotted.missed) == fewest]
    return equals[len(equals) // 2] if equals else None


def keyword_thresholds(tuning: Judged, allowed: float) -> dict[str, float] | None:
    """A threshold for each keyword; all together miss the fewest words at no more than `allowed` false accepts.

    The false accepts are shared out among the keywords by dynamic programming over what each gets for its share.
    Keywords do not act alone (after an event the detector rests), so the result is run, and raised until it keeps
    to `allowed`.
    """
    choices = {keyword: _choices(tuning, keyword, int(allowed)) for keyword in tuning.keywords}
    chosen = _share_out(choices, int(allowed))
    grid = [point.threshold_q15 for point in tuning.points]
    while chosen is not None:
        thresholds = [chosen.get(label, NEVER) for label in tuning.labels]
        if len(tuning.track.match(tuning.stream.events(thresholds)).false_accepts) <= allowed:
            return {label: q15 / POSTERIOR_ONE for label, q15 in chosen.items()}
        if all(q15 == grid[-1] for q15 in chosen.values()):
            return None
        chosen = {label: grid[min(grid.index(q15) + 1, len(grid) - 1)] for label, q15 in chosen.items()}
    return None


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """What a keyword gets for its threshold."""

    threshold_q15: int
    misses: int
    false_accepts: int


def _choices(tuning: Judged, keyword: str, most: int) -> list[_Choice | None]:
    """The best for 0 to `most` false accepts of `keyword`, of equals the middle one; None where none keeps to it."""
    found = [
        _Choice(
            threshold_q15=point.threshold_q15,
            misses=sum(word.label == keyword for word in point.spotted.missed),
            false_accepts=sum(tuning.labels[event.label] == keyword for event, _ in point.spotted.false_accepts),
        )
        for point in tuning.points
    ]
    return [_best([one for one in found if one.false_accepts <= budget]) for budget in range(most + 1)]


def _best(choices: Sequence[_Choice]) -> _Choice | None:
    fewest = min((one.misses for one in choices), default=0)
    equals = [one for one in choices if one.misses == fewest]
    return equals[len(equals) // 2] if equals else None


def _share_out(choices: Mapping[str, list[_Choice | None]], most: int) -> dict[str, int] | None:
    """The thresholds with the fewest misses for `most` false accepts altogether."""
    best: list[tuple[int, dict[str, int]] | None] = [(0, {})] * (most + 1)
    for keyword, of_budget in choices.items():
        extended: list[tuple[int, dict[str, int]] | None] = []
        for total in range(most + 1):
            ways = [
                (before[0] + choice.misses, before[1] | {keyword: choice.threshold_q15})
                for mine in range(total + 1)
                if (choice := of_budget[mine]) is not None and (before := best[total - mine]) is not None
            ]
            extended.append(min(ways, key=lambda way: way[0], default=None))
        best = extended
    found = best[most]
    return None if found is None else found[1]
