"""Fits the coefficients of the cost model to the measured ops: `python -m export.cost_fit` writes them anew.

Least squares on the relative error, one fit for each kernel and core. Only single ops are fitted; whole models
are left to judge the result.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.cost_kernels import CORES, Kernel, kernel_of, limits_of
from export.cost_model import COEFFICIENTS
from export.op_shape import OpShape, Pair, Shape
from kws.artifact import write_json

OP_COSTS = COEFFICIENTS.with_name("op_costs.csv")
SIGNIFICANT_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """`instructions` counted by core for one call of `op`."""

    op: OpShape
    instructions: Mapping[str, int]


def read_measurements(path: Path = OP_COSTS) -> list[Measurement]:
    with path.open(newline="", encoding="utf-8") as stream:
        return [
            Measurement(op=op_of_row(row), instructions={core: int(row[core]) for core in CORES})
            for row in csv.DictReader(stream)
        ]


def fit(measurements: Sequence[Measurement]) -> dict[str, dict[str, Any]]:
    """By core and kernel: coefficients, the range of each limit, the count of measurements and the worst error."""
    return {core: _fit_core(measurements, core) for core in CORES}


def _fit_core(measurements: Sequence[Measurement], core: str) -> dict[str, Any]:
    members: dict[str, list[tuple[Kernel, Measurement]]] = {}
    for measurement in measurements:
        kernel = kernel_of(measurement.op, core)
        assert kernel is not None, f"{measurement.op.kind} has no formula"
        members.setdefault(kernel.name, []).append((kernel, measurement))
    return {name: _fit_kernel(found, core) for name, found in members.items()}


def _fit_kernel(members: Sequence[tuple[Kernel, Measurement]], core: str) -> dict[str, Any]:
    rows = [kernel.quantities(measurement.op) for kernel, measurement in members]
    measured = np.array([measurement.instructions[core] for _, measurement in members], np.float64)
    relative = np.array([list(row.values()) for row in rows]) / measured[:, np.newaxis]
    solution = np.linalg.lstsq(relative, np.ones(len(members)), rcond=None)[0]
    errors = relative @ solution - 1
    return {
        "coefficients": {name: _rounded(value) for name, value in zip(rows[0], solution, strict=True)},
        "ranges": _ranges([measurement.op for _, measurement in members]),
        "measurements": len(members),
        "worst_error": round(float(np.abs(errors).max()), 4),
    }


def _ranges(ops: Sequence[OpShape]) -> dict[str, list[int]]:
    limits = [limits_of(op) for op in ops]
    return {name: [min(row[name] for row in limits), max(row[name] for row in limits)] for name in limits[0]}


def _rounded(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def op_of_row(row: Mapping[str, str]) -> OpShape:
    """The op of a line of op_costs.csv; `n_inputs` is empty for one `input`."""
    inputs = [_shape(row["input"])] * int(row["n_inputs"] or 1)
    if row["input2"]:
        inputs.append(_shape(row["input2"]))
    return OpShape(
        kind=row["op"],
        inputs=tuple(inputs),
        output=_shape(row["output"]),
        kernel=_pair(row["kernel"]),
        stride=_pair(row["stride"]),
        dilation=_pair(row["dilation"]),
        same_padding=row["padding"] == "SAME",
        groups=int(row.get("groups") or 1),
        dtype=row.get("dtype") or "int8",
    )


def _shape(text: str) -> Shape:
    return tuple(int(size) for size in text.split("x"))


def _pair(text: str) -> Pair:
    height, width = text.split("x") if text else ("1", "1")
    return int(height), int(width)


if __name__ == "__main__":
    write_json(COEFFICIENTS, fit(read_measurements()))
    print(f"Wrote {COEFFICIENTS}")
