"""The cost model is what its fit to single measured ops gives, and it predicts whole models that it never saw."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from export.cost_fit import fit, op_of_row, read_measurements
from export.cost_kernels import CORES, OpShape
from export.cost_model import COEFFICIENTS, estimate

DATA = Path(__file__).parent / "data"


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(newline="") as stream:
        return list(csv.DictReader(stream))


TOTALS = {row["model"]: row for row in rows("measured_totals.csv")}
OPS_OF_MODELS = rows("measured_models.csv")


def predicted(lines: list[dict[str, str]], core: str) -> int:
    """Without ops that have no estimate."""
    estimates = [(int(line["count"]), estimate(op_of_row(line)).instructions) for line in lines]
    return sum(count * instructions[core] for count, instructions in estimates if instructions is not None)


def numbers(tree: object) -> list[float]:
    if isinstance(tree, Mapping):
        return [number for key in tree for number in numbers(tree[key])]
    return [number for item in tree for number in numbers(item)] if isinstance(tree, list) else [float(tree)]


def test_the_committed_coefficients_are_those_of_the_fit() -> None:
    committed, fitted = json.loads(COEFFICIENTS.read_text()), fit(read_measurements())
    assert numbers(fitted) == pytest.approx(numbers(committed), rel=1e-3, abs=1e-3)
    for core in CORES:
        assert committed[core].keys() == fitted[core].keys()


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("model", sorted(TOTALS))
def test_a_whole_model_is_predicted_from_single_ops(model: str, core: str) -> None:
    lines = [line for line in OPS_OF_MODELS if line["model"] == model]
    assert sum(int(line["count"]) for line in lines) == int(TOTALS[model]["ops"])
    assert predicted(lines, core) == pytest.approx(int(TOTALS[model][core]), rel=TOLERANCE[model])


TOLERANCE = dict.fromkeys(TOTALS, 0.01) | {"mlperf_tiny_ds_cnn": 0.05}


@pytest.mark.parametrize("core", CORES)
def test_each_op_of_the_measured_models_that_matters_is_predicted(core: str) -> None:
    """An op matters from a thousandth of its model on; grouped convolutions are outside the measured shapes."""
    for line in OPS_OF_MODELS:
        if not line[core] or line["groups"] or int(line[core]) < int(TOTALS[line["model"]][core]) / 1000:
            continue
        assert predicted([line], core) == pytest.approx(int(line[core]), rel=0.04), line


def test_what_was_never_measured_is_said() -> None:
    pointwise = OpShape(kind="CONV_2D", inputs=((1, 20, 98, 16),), output=(1, 20, 98, 8))
    assert not estimate(pointwise).is_extrapolated
    wide = OpShape(kind="CONV_2D", inputs=((1, 20, 98, 500),), output=(1, 20, 98, 8))
    assert estimate(wide).is_extrapolated
    strided = OpShape(kind="CONV_2D", inputs=((1, 20, 98, 16),), output=(1, 10, 98, 8), stride=(2, 1))
    assert estimate(strided).is_extrapolated
    unknown = estimate(OpShape(kind="GATHER", inputs=((1, 20, 98, 16),), output=(1, 20, 98, 16)))
    assert unknown.instructions is None


def test_slow_kernels_are_named() -> None:
    image, row = (1, 20, 98, 8), (1, 1, 98, 8)
    assert estimate(OpShape(kind="ADD", inputs=(image, image), output=image)).slow == ""
    assert "broadcast" in estimate(OpShape(kind="ADD", inputs=(image, row), output=image)).slow
    assert "reference" in estimate(OpShape(kind="LOGISTIC", inputs=(row,), output=row)).slow
    dilated = OpShape(kind="DEPTHWISE_CONV_2D", inputs=(row,), output=row, kernel=(1, 3), dilation=(1, 2))
    assert "dilated" in estimate(dilated).slow


def test_taps_in_the_padding_are_not_counted_as_inner_ones() -> None:
    """Against the definition, position by position."""
    for size, kernel, stride, dilation in [(10, 3, 1, 1), (10, 3, 2, 1), (11, 5, 2, 2), (9, 3, 1, 4), (4, 7, 3, 1)]:
        outputs = -(-size // stride)
        before = max((outputs - 1) * stride + (kernel - 1) * dilation + 1 - size, 0) // 2
        places = [o * stride + t * dilation - before for o in range(outputs) for t in range(kernel)]
        op = OpShape(
            kind="DEPTHWISE_CONV_2D",
            inputs=((1, 1, size, 4),),
            output=(1, 1, outputs, 4),
            kernel=(1, kernel),
            stride=(1, stride),
            dilation=(1, dilation),
            same_padding=True,
        )
        assert op.inner_taps == sum(0 <= place < size for place in places)
