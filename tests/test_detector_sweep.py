"""Thresholds: a sweep that gives the detector's own events, what they are held against, and how they are chosen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from streams import KEYWORDS, LABELS, judged_stream

from kws.detector import POSTERIOR_ONE, DetectorParams, Event, Posteriors, detect
from kws.detector_sweep import SmoothedStream, same_threshold, threshold_grid
from kws.spotting import NO_WORD, WINDOW_GRACE_MS, Word, WordTrack, causes
from kws.statistics import poisson_interval
from kws.thresholds import choose


def random_stream(seed: int, count: int = 400) -> tuple[np.ndarray, Posteriors]:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(len(LABELS), 0.3), count // 4).repeat(4, axis=0)
    step_ms = rng.integers(1, 250) if seed % 2 else rng.integers(1, 250, count)
    return np.cumsum(np.broadcast_to(step_ms, count)), np.rint(shares * POSTERIOR_ONE).astype(np.uint16)


def random_params(seed: int) -> DetectorParams:
    rng = np.random.default_rng([seed, 1])
    stride_ms = int(rng.integers(10, 200))
    results = int(rng.integers(1, 12))
    return DetectorParams(
        stride_ms=stride_ms,
        smoothing_ms=stride_ms * results,
        refractory_ms=int(rng.choice([0, 1, 300, 1000])),
        min_results=int(rng.integers(1, results + 1)),
        thresholds={"no": float(rng.uniform(0.1, 1))},
        background=() if seed % 5 == 0 else ("_silence_", "_unknown_"),
    )


@pytest.mark.parametrize("seed", range(60))
def test_a_sweep_gives_the_events_of_the_detector(seed: int) -> None:
    (times_ms, posteriors), params = random_stream(seed), random_params(seed)
    stream = SmoothedStream(times_ms, posteriors, params)
    for threshold in (1 / POSTERIOR_ONE, 0.3, 0.7, 0.999, 1.0):
        at = DetectorParams(**{**vars(params), "threshold": threshold})
        wanted = detect(times_ms.tolist(), posteriors, at, LABELS)
        assert stream.events(at.thresholds_q15(LABELS)) == wanted
    plain = DetectorParams(**{**vars(params), "threshold": 0.5, "thresholds": {}})
    assert stream.events(same_threshold(POSTERIOR_ONE // 2, LABELS, plain)) == detect(
        times_ms.tolist(), posteriors, plain, LABELS
    )


def test_the_random_streams_have_events_and_times_that_fill_the_detector() -> None:
    counts = [
        len(detect(random_stream(s)[0].tolist(), random_stream(s)[1], random_params(s), LABELS)) for s in range(60)
    ]
    assert min(counts) < 5 < max(counts)


def test_thresholds_rise_to_one_and_crowd_near_it() -> None:
    grid = threshold_grid()
    assert grid == sorted(set(grid))
    assert grid[0] < 0.05 * POSTERIOR_ONE
    assert grid[-1] == POSTERIOR_ONE
    assert sum(q15 > 0.99 * POSTERIOR_ONE for q15 in grid) > 30


def event(label: str, time_ms: int) -> Event:
    return Event(label=LABELS.index(label), time_ms=time_ms, score=POSTERIOR_ONE)


def track(*words: tuple[str, int, int]) -> WordTrack:
    return WordTrack([Word(label=w, start_ms=a, end_ms=b) for w, a, b in words], LABELS, KEYWORDS)


def test_an_event_from_word_start_until_a_second_after_its_end_is_a_hit() -> None:
    said = track(("yes", 5000, 5400))
    for time_ms, is_hit in ((4999, False), (5000, True), (5400 + WINDOW_GRACE_MS, True), (6401, False)):
        spotted = said.match([event("yes", time_ms)])
        assert (len(spotted.heard), len(spotted.missed), len(spotted.false_accepts)) == (is_hit, not is_hit, not is_hit)
    assert said.match([event("yes", 5250)]).latencies_ms() == [-150]
    assert said.match([event("yes", 5700)]).latencies_ms() == [300]


def test_everything_else_is_a_false_accept_with_what_was_said() -> None:
    said = track(("yes", 5000, 5400), ("cat", 9000, 9500), ("yes", 20_000, 20_400))
    events = [event("no", 5300), event("yes", 5600), event("yes", 6300), event("no", 9600), event("yes", 15_000)]
    spotted = said.match(events)
    assert [(word.start_ms, at.time_ms) for word, at in spotted.heard] == [(5000, 5600)]
    assert [word.start_ms for word in spotted.missed] == [20_000]
    assert [(at.time_ms, said) for at, said in spotted.false_accepts] == [
        (5300, "yes"),
        (6300, "yes"),
        (9600, "cat"),
        (15_000, NO_WORD),
    ]
    assert causes(spotted, LABELS) == [("no", "cat", 1), ("no", "yes", 1), ("yes", NO_WORD, 1), ("yes", "yes", 1)]
    assert spotted.false_reject_rate == 0.5


def test_of_two_words_the_later_is_what_was_said() -> None:
    spotted = track(("cat", 5000, 5400), ("dog", 5600, 6000)).match([event("no", 5500), event("no", 6100)])
    assert [said for _, said in spotted.false_accepts] == ["cat", "dog"]


def test_two_words_close_together_need_an_event_each() -> None:
    said = track(("yes", 5000, 5400), ("yes", 5900, 6300))
    one = said.match([event("yes", 6000)])
    assert [word.start_ms for word in one.missed] == [5900]
    two = said.match([event("yes", 5600), event("yes", 6600)])
    assert (len(two.heard), len(two.false_accepts)) == (2, 0)


def test_a_long_word_does_not_hide_behind_later_short_ones() -> None:
    said = track(("yes", 0, 9000), ("no", 3000, 3100), ("no", 5000, 5100))
    assert len(said.match([event("yes", 9500)]).heard) == 1


STREAM = [
    (0.99, 0.0, "yes"),
    (0.9, 0.0, "yes"),
    (0.8, 0.0, "cat"),
    (0.7, 0.0, "yes"),
    (0.6, 0.0, None),
    (0.55, 0.0, "yes"),
]


@pytest.mark.parametrize(
    ("per_hour", "lowest", "highest", "missed"),
    [(0.5, 0.8, 0.9, 2), (1, 0.6, 0.7, 1), (1.9, 0.6, 0.7, 1), (2, 0, 0.55, 0)],
)
@pytest.mark.parametrize("per_keyword", [False, True])
def test_a_threshold_keeps_to_the_false_accepts_and_misses_the_fewest(
    per_hour: float, lowest: float, highest: float, missed: int, per_keyword: bool
) -> None:
    heard = judged_stream(STREAM)
    chosen = choose(heard, per_hour, per_keyword=per_keyword)
    assert chosen is not None
    threshold = chosen.thresholds["yes"] if per_keyword else chosen.threshold
    assert lowest < threshold <= highest
    spotted = heard.run(chosen)
    assert len(spotted.false_accepts) <= per_hour
    assert len(spotted.missed) == missed


def test_hours_turn_a_rate_into_a_number() -> None:
    two = choose(judged_stream(STREAM, hours=2.0), 1.0, per_keyword=False)
    assert two is not None and two.threshold <= 0.55


@pytest.mark.parametrize("per_keyword", [False, True])
def test_a_rate_that_no_threshold_keeps_to_gives_none(per_keyword: bool) -> None:
    assert choose(judged_stream([(1.0, 0.0, None), (1.0, 0.0, "yes")]), 0.5, per_keyword=per_keyword) is None


def test_each_keyword_gets_the_threshold_that_its_own_false_accepts_ask_for() -> None:
    """One threshold for both would have to be above 0.8 and miss no's at 0.7."""
    bursts = [(0.95, 0.0, "yes"), (0.8, 0.0, None), (0.0, 0.7, "no"), (0.0, 0.65, "no"), (0.9, 0.0, "yes")]
    heard = judged_stream(bursts)
    one, each = (choose(heard, 0.5, per_keyword=per_keyword) for per_keyword in (False, True))
    assert one is not None and each is not None
    assert len(heard.run(one).missed) == 2
    spotted = heard.run(each)
    assert (len(spotted.missed), len(spotted.false_accepts)) == (0, 0)
    assert each.thresholds["no"] <= 0.65 < 0.8 < each.thresholds["yes"] <= 0.9


def test_keywords_that_hide_each_others_false_accepts_are_raised_together() -> None:
    """While a weak yes makes an event, the detector rests and the false no behind it makes none. Another false yes asks
    for a threshold above that; the false no then shows."""
    bursts = [(0.6, 0.0, "yes"), (0.0, 0.8, None), (0.7, 0.0, None), (0.95, 0.0, "yes"), (0.0, 0.52, "no")]
    params = DetectorParams(refractory_ms=2500)
    heard = judged_stream(bursts, quiet=[20, 0, 20, 20, 20], params=params)
    alone = replace(params, thresholds={"yes": 0.85, "no": 0.51})
    assert len(heard.run(alone).false_accepts) == 1
    chosen = choose(heard, 0.5, per_keyword=True)
    assert chosen is not None and chosen.thresholds["no"] > 0.8
    assert heard.run(chosen).false_accepts == []


def test_intervals_are_those_of_the_tables() -> None:
    """Garwood's for 0, 1, 10 and 100 events (Ulm 1990, by chi-square), Wilson's for 1 in 10 and 50 in 100."""
    known = {0: (0.0, 3.6889), 1: (0.0253, 5.5716), 10: (4.7954, 18.3904), 100: (81.3640, 121.6272)}
    for count, bounds in known.items():
        assert poisson_interval(count) == pytest.approx(bounds, abs=1e-3)
    low, high = poisson_interval(5000)
    assert math.isclose(low, 5000 - 1.96 * math.sqrt(5000), rel_tol=0.01) and low < 5000 < high
