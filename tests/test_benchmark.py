from __future__ import annotations

import json

import numpy as np
import pytest

from kws.benchmark import Benchmark, compare, print_tables

INSTRUCTIONS = {"cortex_m4": 48_111_703, "cortex_m55": 31_430_028, "unmeasured_ops": 0}
LABELS = ["_silence_", "[red]yes[/red]", "line\nbreak"]


def benchmark(noise: float) -> Benchmark:
    float_logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]]
    int8_logits = float_logits.copy()
    int8_logits[3] = [0, 0, 1]
    int8_logits += np.float32(noise)
    return compare(
        {"float": float_logits, "int8": int8_logits},
        np.array([0, 1, 2, 1]),
        labels=LABELS,
        clip_names=["a", "b", "c", "d"],
        model_bytes=1000,
        arena_bytes=2000,
        estimated_instructions=INSTRUCTIONS,
    )


def test_figures_of_float_and_int8_stand_side_by_side() -> None:
    result = benchmark(noise=0.1)
    assert result.accuracy == {"float": 1.0, "int8": 0.75}
    assert result.agreement == 0.75
    assert result.sqnr_db == pytest.approx(10 * np.log10(4 / (2 * (1.1**2 * 0 + 0.9**2) + 10 * 0.01)), abs=1.0)
    assert result.confusion["int8"] == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert result.disagreements == [{"clip": "d", "label": LABELS[1], "float": LABELS[1], "int8": LABELS[2]}]


def test_json_holds_the_promised_keys_and_no_infinity() -> None:
    logits = np.eye(3, dtype=np.float32)
    same = compare(
        {"float": logits, "int8": logits},
        np.arange(3),
        labels=LABELS,
        clip_names=["a", "b", "c"],
        model_bytes=1,
        arena_bytes=1,
        estimated_instructions=INSTRUCTIONS,
    )
    values = json.loads(json.dumps(same.as_json(), allow_nan=False))
    assert values["sqnr_db"] is None
    assert {"accuracy", "agreement", "sqnr_db", "clips", "model_bytes", "arena_bytes"} <= set(values)
    assert values["estimated_instructions"] == INSTRUCTIONS


def test_confusions_are_listed_with_both_counts(capsys: pytest.CaptureFixture[str]) -> None:
    print_tables(benchmark(noise=0.0))
    rows = [line for line in capsys.readouterr().out.splitlines() if "yes" in line and "break" in line]
    assert len(rows) == 1
    assert rows[0].replace("│", " ").split() == ["[red]yes[/red]", "line\\nbreak", "0", "1"]


def test_labels_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_tables(benchmark(noise=0.0))
    printed = capsys.readouterr().out
    assert "[red]yes[/red]" in printed
    assert "line\\nbreak" in printed
    assert "75.00%" in printed
    assert "48,111,703" in printed
