"""Bounds on the figures of a benchmark, past which it fails: for CI."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

DROP = "mcnemar.drop"

Side = Literal["below", "above"]

_DEVICES = ("int8", "int16")
_CORES = ("cortex_m4", "cortex_m55")
_OF_EACH_FORM = ("accuracy", "macro_f1", "agreements", "sqnrs_db")
KEYS = (
    *(f"{figure}.{form}" for figure in _OF_EACH_FORM for form in ("torch", "float", "qdq", "tflite", *_DEVICES)),
    *("agreement", "sqnr_db", "clips"),
    *(f"calibration.{form}.ece" for form in ("float", *_DEVICES)),
    *("mcnemar.float_only_right", "mcnemar.device_only_right", "mcnemar.p_value", DROP),
    *("model_bytes", "arena_bytes", *(f"arena.{core}" for core in _CORES), "macs", "params"),
    *(f"estimated_instructions.{core}" for core in (*_CORES, "unmeasured_ops")),
)
"""What a gate can watch: the numbers in benchmark.json that are not in a list, by their path in it."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The figure `key` of a report, one of KEYS, may not be `side` (below or above) the bound."""

    key: str
    side: Side
    bound: float

    def is_failed_by(self, value: float) -> bool:
        return value < self.bound if self.side == "below" else value > self.bound


def parse_gate(text: str, side: Side) -> Gate:
    """Of KEY=VALUE; raises ValueError, which says what is wrong, for anything else."""
    key, equals, bound = text.partition("=")
    key = key.strip()
    if not equals:
        raise ValueError(f"{text!r} is no KEY=VALUE such as accuracy.int8=0.95")
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, 3) or [name for name in KEYS if key and name.startswith(key)][:3]
        hint = f"near it are {', '.join(near)}" if near else "take a figure of benchmark.json such as accuracy.int8"
        raise ValueError(f"there is no figure {key!r}; {hint}")
    try:
        value = float(bound)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{bound!r} in {text!r} is no number")
    return Gate(key=key, side=side, bound=value)


def absent_keys(gates: Sequence[Gate], forms: Sequence[str], unknown: Sequence[str] = ()) -> list[str]:
    """The keys of `gates` that a report of these `forms` does not have, or whose figure is `unknown`."""
    named = {"torch", "float", "qdq", "tflite", *_DEVICES}
    missing = named - set(forms)
    return [gate.key for gate in gates if missing & set(gate.key.split(".")) or gate.key in unknown]


def failures(gates: Sequence[Gate], report: Mapping[str, Any]) -> list[str]:
    """What `report`, as in benchmark.json, fails, in words; an SQNR of null is one without any noise."""
    found = []
    for gate in gates:
        value: Any = report
        for part in gate.key.split("."):
            value = value[part]
        if gate.is_failed_by(math.inf if value is None else value):
            found.append(f"{gate.key} is {_figure(value)}, {gate.side} {_figure(gate.bound)}")
    return found


def _figure(value: float | None) -> str:
    if value is None:
        return "infinite"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.6g}"
