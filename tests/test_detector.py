"""Keyword events: what the detector lets through, and that the C one gives the same."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_tflite
from toolchains import host_program, run_program

from export.headers import render_firmware
from kws.config import FeatureConfig
from kws.detector import (
    NEVER,
    POSTERIOR_ONE,
    Detector,
    DetectorParams,
    Event,
    Posteriors,
    detect,
    posteriors_of_logits,
    posteriors_of_probabilities,
    read_detector,
    write_detector,
)
from kws.errors import KwsError

LABELS = ["_silence_", "_unknown_", "yes", "no"]
# Wraps in the middle of what follows.
NEAR_WRAP_MS = 2**32 - 2500


def rows(*shares: tuple[float, ...]) -> Posteriors:
    return posteriors_of_probabilities(np.array(shares))


def times(count: int, start: int = 1000, stride: int = 100) -> list[int]:
    return [(start + stride * index) % 2**32 for index in range(count)]


YES, NO, QUIET = (0.05, 0.05, 0.85, 0.05), (0.05, 0.05, 0.05, 0.85), (0.97, 0.01, 0.01, 0.01)


def test_a_keyword_is_told_once_while_its_window_passes() -> None:
    stream = rows(QUIET, QUIET, *[YES] * 6, *[QUIET] * 8)
    events = detect(times(len(stream)), stream, DetectorParams(), LABELS)
    assert [(event.label, event.time_ms) for event in events] == [(2, 1400)]


def test_one_result_alone_makes_no_event() -> None:
    assert detect(times(3), rows(QUIET, YES, QUIET), DetectorParams(), LABELS) == []
    assert detect(times(1), rows(YES), DetectorParams(), LABELS) == []


def test_the_average_is_over_the_smoothing_time() -> None:
    stream = rows(YES, YES, NO, NO, NO)
    for smoothing_ms, wanted in ((100, [2]), (200, [2]), (500, [2])):
        params = DetectorParams(smoothing_ms=smoothing_ms, min_results=1, refractory_ms=10_000)
        assert [event.label for event in detect(times(5), stream, params, LABELS)] == wanted
    alternating = rows(YES, NO, YES, NO, YES, NO)
    assert detect(times(6), alternating, DetectorParams(smoothing_ms=400), LABELS) == []


def test_background_wins_without_an_event() -> None:
    params = DetectorParams(threshold=0.1, min_results=1)
    assert detect(times(2), rows((0.5, 0.1, 0.3, 0.1), (0.2, 0.5, 0.2, 0.1)), params, LABELS) == []
    loud = DetectorParams(threshold=0.1, min_results=1, background=())
    assert [event.label for event in detect(times(1), rows((0.5, 0.1, 0.3, 0.1)), loud, LABELS)] == [0]


def test_each_keyword_has_its_own_threshold() -> None:
    params = DetectorParams(threshold=0.6, thresholds={"yes": 0.9}, min_results=1, refractory_ms=0)
    assert [event.label for event in detect(times(2), rows(YES, NO), params, LABELS)] == []
    assert [event.label for event in detect(times(4), rows(YES, NO, NO, NO), params, LABELS)] == [3]
    assert params.thresholds_q15(LABELS) == [NEVER, NEVER, round(0.9 * 32768), round(0.6 * 32768)]


def test_a_threshold_is_reached_by_its_very_value() -> None:
    params = DetectorParams(threshold=0.5, min_results=1, refractory_ms=0)
    exact = np.array([[0, 0, 16384, 16384], [0, 0, 16384, 16383], [0, 0, 16383, 0]], np.uint16)
    told = [Detector(params, LABELS).push(1000, row) is not None for row in exact]
    assert told == [True, True, False]


def test_nothing_is_told_within_the_refractory_time() -> None:
    params = DetectorParams(refractory_ms=700, min_results=1)
    events = detect(times(16), rows(*[YES] * 16), params, LABELS)
    assert [event.time_ms for event in events] == [1000, 1700, 2400]


def test_time_wraps_without_a_trace() -> None:
    stream = rows(*[YES] * 16, *[QUIET] * 4, *[NO] * 16)
    plain = detect(times(36), stream, DetectorParams(), LABELS)
    wrapped = detect(times(36, NEAR_WRAP_MS), stream, DetectorParams(), LABELS)
    assert [(event.time_ms + NEAR_WRAP_MS - 1000) % 2**32 for event in plain] == [event.time_ms for event in wrapped]
    assert len(plain) > 3


def test_a_pause_forgets_old_results() -> None:
    detector = Detector(DetectorParams(), LABELS)
    assert detector.push(0, rows(YES)[0]) is None
    assert detector.push(5000, rows(YES)[0]) is None
    assert detector.push(5100, rows(YES)[0]) == Event(label=2, time_ms=5100, score=round(0.85 * POSTERIOR_ONE))


@pytest.mark.parametrize(("dtype", "scale"), [(np.int8, 0.068), (np.int8, 1e-3), (np.int8, 3.0), (np.int16, 0.0005)])
def test_integer_posteriors_are_a_softmax(dtype: Any, scale: float) -> None:
    limits = np.iinfo(dtype)
    logits = np.random.default_rng(0).integers(limits.min, limits.max + 1, (500, 12)).astype(dtype)
    ours = posteriors_of_logits(logits, scale).astype(float) / POSTERIOR_ONE
    powers = np.exp(scale * (logits - logits.max(axis=1, keepdims=True).astype(float)))
    assert np.abs(ours - powers / powers.sum(axis=1, keepdims=True)).max() < 12 / POSTERIOR_ONE


@pytest.fixture(scope="module", params=["int8", "int16"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    write = tiny_tflite.write_tiny_build if request.param == "int8" else tiny_tflite.write_tiny_int16_build
    firmware = folder / "out"
    render_firmware(write(folder / "build", LABELS), firmware, PARAMS)
    sources = [
        Path(__file__).with_name("detector_events.c"),
        *(firmware / "src" / name for name in ("detector.c", "posteriors.c")),
        *(firmware / "generated" / name for name in ("detector_params.cc", "posterior_tables.cc")),
    ]
    return request.param, host_program(sources, [firmware / "src", firmware / "generated"], folder / "program")


PARAMS = DetectorParams(smoothing_ms=450, refractory_ms=600, min_results=3, threshold=0.4, thresholds={"no": 0.55})


def c_events(program: Path, times_ms: list[int], stream: Posteriors, params: DetectorParams | None) -> list[Event]:
    head = [0, 0, 0] if params is None else [params.smoothing_ms, params.refractory_ms, params.min_results]
    thresholds = [0] * len(LABELS) if params is None else params.thresholds_q15(LABELS)
    data = struct.pack(f"<IIi{len(LABELS)}H", *head, *thresholds)
    data += b"".join(
        struct.pack(f"<I{len(LABELS)}H", time_ms, *row.tolist()) for time_ms, row in zip(times_ms, stream, strict=True)
    )
    lines = run_program(program, stdin=data).decode().splitlines()
    return [Event(label=int(a), time_ms=int(b), score=int(c)) for a, b, c in map(str.split, lines)]


def random_stream(seed: int) -> tuple[list[int], Posteriors]:
    """Words that come and go, clocks that jitter, jump back, stop and wrap."""
    rng = np.random.default_rng(seed)
    count = 600
    favourite = np.repeat(rng.integers(0, len(LABELS), count // 6), 6)
    logits = rng.normal(0, 1, (count, len(LABELS)))
    logits[np.arange(count), favourite] += rng.uniform(0, 4, count)
    powers = np.exp(logits)
    steps = rng.choice([100, 100, 100, 99, 101, 0, 350, 2000, -40], count)
    times_ms = (NEAR_WRAP_MS + np.cumsum(steps)) % 2**32
    return times_ms.tolist(), posteriors_of_probabilities(powers / powers.sum(axis=1, keepdims=True))


def test_c_and_python_give_the_same_events_on_random_streams(program: tuple[str, Path]) -> None:
    rng = np.random.default_rng(1)
    told = 0
    for seed in range(12):
        times_ms, stream = random_stream(seed)
        params = DetectorParams(
            smoothing_ms=PARAMS.smoothing_ms - 50 * int(rng.integers(0, 8)),
            stride_ms=PARAMS.stride_ms if seed else 150,
            refractory_ms=int(rng.integers(0, 1500)),
            min_results=1,
            threshold=float(rng.uniform(0.2, 0.8)),
            background=("_silence_",) if seed % 2 else (),
        )
        # The capacity is rendered; so much must fit in both.
        same_capacity = DetectorParams(smoothing_ms=PARAMS.smoothing_ms).capacity
        wanted = _with_capacity(params, same_capacity, times_ms, stream)
        assert c_events(program[1], times_ms, stream, params) == wanted
        told += len(wanted)
    assert told > 100


def _with_capacity(params: DetectorParams, capacity: int, times_ms: list[int], stream: Posteriors) -> list[Event]:
    detector = Detector(params, LABELS, capacity=capacity)
    events = (detector.push(time_ms, row) for time_ms, row in zip(times_ms, stream, strict=True))
    return [event for event in events if event is not None]


def test_ties_and_exact_thresholds_are_decided_alike(program: tuple[str, Path]) -> None:
    """Few values, so that sums tie and meet their thresholds often."""
    rng = np.random.default_rng(5)
    stream = (rng.integers(0, 4, (2000, len(LABELS))) * 8192).astype(np.uint16)
    times_ms = times(len(stream))
    params = DetectorParams(smoothing_ms=200, refractory_ms=0, min_results=1, threshold=0.5, background=())
    wanted = _with_capacity(params, DetectorParams(smoothing_ms=PARAMS.smoothing_ms).capacity, times_ms, stream)
    assert c_events(program[1], times_ms, stream, params) == wanted
    assert any(event.score == POSTERIOR_ONE // 2 for event in wanted)


def test_rendered_parameters_are_those_of_python(program: tuple[str, Path]) -> None:
    times_ms, stream = random_stream(99)
    wanted = detect(times_ms, stream, PARAMS, LABELS)
    assert c_events(program[1], times_ms, stream, None) == wanted
    assert len(wanted) > 10


def test_c_and_python_give_the_same_posteriors(program: tuple[str, Path]) -> None:
    kind, tool = program
    scale = np.float32(tiny_tflite.OUTPUT_SCALE / (1 if kind == "int8" else 256))
    limits = np.iinfo(kind)
    logits = np.random.default_rng(0).integers(limits.min, limits.max + 1, (2000, len(LABELS))).astype(kind)
    logits[0], logits[1] = limits.min, [limits.min, limits.max, limits.min, limits.max]
    printed = np.frombuffer(run_program(tool, "posteriors", stdin=logits.tobytes()), np.uint16)
    np.testing.assert_array_equal(printed.reshape(logits.shape), posteriors_of_logits(logits, float(scale)))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_detector(tmp_path / "detector.json", PARAMS)
    assert read_detector(tmp_path / "detector.json") == PARAMS
    (tmp_path / "short.json").write_text('{"threshold": 0.9}')
    assert read_detector(tmp_path / "short.json") == DetectorParams(threshold=0.9)


BAD_PARAMS = {
    "no JSON": ("{", "cannot be read as JSON"),
    "a list": ("[]", "holds no JSON object"),
    "unknown entry": ({"treshold": 0.5}, "a detector has no 'treshold'"),
    "threshold of 0": ({"threshold": 0}, "threshold is 0; give a number above 0"),
    "NaN": ('{"threshold": NaN}', "threshold is nan"),
    "text": ({"refractory_ms": "1"}, "refractory_ms is '1'; give whole milliseconds"),
    "true": ({"min_results": True}, "min_results is True"),
    "negative": ({"smoothing_ms": -1}, "smoothing_ms is -1"),
    "a label's threshold": ({"thresholds": {"yes": 2}}, "thresholds is"),
    "background": ({"background": "x"}, "background is 'x'"),
    "too many results": ({"stride_ms": 10, "smoothing_ms": 1000}, "holds 100 results"),
    "too few results": ({"min_results": 4}, "it must hold min_results"),
}


@pytest.mark.parametrize("name", BAD_PARAMS)
def test_a_detector_that_does_not_fit_is_a_sentence(tmp_path: Path, name: str) -> None:
    values, message = BAD_PARAMS[name]
    path = tmp_path / "detector.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    with pytest.raises(KwsError) as error:
        read_detector(path)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


def test_a_threshold_of_no_label_is_a_sentence(tmp_path: Path) -> None:
    model = tiny_tflite.write_tiny_build(tmp_path / "build", LABELS)
    with pytest.raises(KwsError, match="threshold for 'maybe', which is no label of the model"):
        render_firmware(model, tmp_path / "out", DetectorParams(thresholds={"maybe": 0.5}))
    assert not (tmp_path / "out").exists()


def test_the_stride_is_whole_frames() -> None:
    assert DetectorParams(stride_ms=100).stride_frames(FeatureConfig()) == 10
    assert DetectorParams(stride_ms=100).stride_frames(FeatureConfig(hop_samples=320)) == 5
    assert DetectorParams(stride_ms=5).stride_frames(FeatureConfig()) == 1
