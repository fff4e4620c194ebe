from __future__ import annotations

from typing import Any

import pytest
from made_benchmarks import benchmark

from kws import cli
from kws.gates import KEYS, Gate, absent_keys, failures, parse_gate


def numbers(values: dict[str, Any], above: str = "") -> set[str]:
    """The paths of all numbers that are in no list, and of what may be one."""
    found = set()
    for name, value in values.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{above}{name}.")
        elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            found.add(above + name)
    return found


def test_a_gate_can_watch_every_number_of_a_report_and_nothing_else() -> None:
    reports = [benchmark(device=device).as_json() for device in ("int8", "int16")]
    assert set(KEYS) == (numbers(reports[0]) | numbers(reports[1])) - {"schema"}


@pytest.mark.parametrize(
    ("text", "side", "failed"),
    [
        ("accuracy.int8=0.875", "below", False),
        ("accuracy.int8=0.876", "below", True),
        ("arena.cortex_m4=1600", "above", False),
        ("arena.cortex_m4=1599", "above", True),
        ("mcnemar.drop=0.125", "above", False),
        ("mcnemar.drop=0.12", "above", True),
    ],
)
def test_a_figure_on_the_bound_passes_and_one_past_it_fails(text: str, side: Any, failed: bool) -> None:
    assert bool(failures([parse_gate(text, side)], benchmark().as_json())) is failed


def test_failures_are_told_with_figure_and_bound() -> None:
    gates = [
        Gate(key="accuracy.int8", side="below", bound=0.95),
        Gate(key="estimated_instructions.cortex_m4", side="above", bound=40e6),
        Gate(key="sqnr_db", side="above", bound=20),
    ]
    assert failures(gates, benchmark().as_json()) == [
        "accuracy.int8 is 0.875, below 0.95",
        "estimated_instructions.cortex_m4 is 48,111,703, above 40,000,000",
    ]


def test_an_sqnr_without_any_noise_is_above_every_bound() -> None:
    report = benchmark(wrong=0).as_json()
    assert report["sqnr_db"] is None
    assert failures([Gate(key="sqnr_db", side="below", bound=30)], report) == []
    assert failures([Gate(key="sqnr_db", side="above", bound=30)], report) == ["sqnr_db is infinite, above 30"]


def test_what_a_report_will_not_have_is_known_before_it_is_made() -> None:
    gates = [parse_gate(f"{key}=1", "below") for key in KEYS]
    for device in ("int8", "int16"):
        report = benchmark(device=device)
        absent = absent_keys(gates, report.forms)
        assert set(absent) == set(KEYS) - numbers(report.as_json())
    assert "macs" in absent_keys(gates, report.forms, unknown=["macs"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accuracy.int8", "no KEY=VALUE"),
        ("accuracy.int8=much", "'much' in 'accuracy.int8=much' is no number"),
        ("accuracy.int8=nan", "is no number"),
        ("acuracy.int8=0.9", "near it are accuracy.int8"),
        ("accuracy=0.9", "near it are accuracy."),
        ("zzz=1", "take a figure of benchmark.json such as accuracy.int8"),
        ("=1", "take a figure of benchmark.json"),
    ],
)
def test_a_gate_that_is_none_is_wrong_usage_and_told_at_once(
    text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--fail-below", "--fail-above"):
        with pytest.raises(SystemExit) as exited:
            cli.main(["benchmark", "BUILD", "--data", "DATA", option, text])
        assert exited.value.code == 2
        assert said in capsys.readouterr().err
