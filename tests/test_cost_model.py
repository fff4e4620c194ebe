"""The cost model is what its fit to single measured ops gives, and it predicts whole models that it never saw."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from export.cost_fit import Measurement, fit, op_of_row, read_measurements
from export.cost_kernels import CORES, kernel_of
from export.cost_model import COEFFICIENTS, estimate, predict
from export.op_shape import OpShape

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


# The requantization of a broadcast ADD takes 3 % more or less, as the values have it, and weighs more without LOGISTIC.
TOLERANCE = dict.fromkeys(TOTALS, 0.01) | {"bcresnet1_english_20_ms_relu": 0.013, "mlperf_tiny_ds_cnn": 0.05}


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
    strided = OpShape(kind="CONV_2D", inputs=((1, 20, 98, 16),), output=(1, 7, 98, 8), stride=(3, 1))
    assert estimate(strided).is_extrapolated
    image = (1, 20, 98, 16)
    assert estimate(OpShape(kind="SPACE_TO_DEPTH", inputs=(image,), output=image)).instructions is None
    assert estimate(OpShape(kind="HARD_SWISH", inputs=(image,), output=image, dtype="int16")).instructions is None
    assert estimate(OpShape(kind="MAXIMUM", inputs=(image, (1, 1, 98, 16)), output=image)).instructions is None


def test_each_measured_op_is_predicted() -> None:
    """Within a tenth, and nine of ten within three hundredths."""
    for core in CORES:
        errors = [
            abs(predictions[core] / measurement.instructions[core] - 1)
            for measurement in read_measurements()
            if (predictions := estimate(measurement.op).instructions) is not None
        ]
        assert len(errors) == len(read_measurements())
        assert max(errors) < 0.1
        assert sorted(errors)[len(errors) * 9 // 10] < 0.03


def test_a_kernel_predicts_measurements_that_were_left_out() -> None:
    """For kernels with measurements to spare, every third of them left out of the fit."""
    measurements = read_measurements()
    for core in CORES:
        groups: dict[str, list[Measurement]] = {}
        for measurement in measurements:
            kernel = kernel_of(measurement.op, core)
            assert kernel is not None
            groups.setdefault(kernel.name, []).append(measurement)
        for name, members in groups.items():
            if len(members) < 30:
                continue
            kept = [member for index, member in enumerate(members) if index % 3]
            fitted = fit(kept)[core]
            for left_out in members[::3]:
                kernel = kernel_of(left_out.op, core)
                assert kernel is not None
                expected = left_out.instructions[core]
                assert predict(kernel, left_out.op, fitted) == pytest.approx(expected, rel=0.1), (name, left_out)


def test_types_are_told_apart() -> None:
    row = (1, 1, 98, 8)
    costs = {}
    for dtype in ("int8", "int16"):
        instructions = estimate(OpShape(kind="LOGISTIC", inputs=(row,), output=row, dtype=dtype)).instructions
        assert instructions is not None
        costs[dtype] = instructions["cortex_m4"]
    assert costs["int8"] > 10 * costs["int16"]


def test_slow_kernels_are_named() -> None:
    image, row = (1, 20, 98, 8), (1, 1, 98, 8)
    assert estimate(OpShape(kind="ADD", inputs=(image, image), output=image)).slow == ""
    assert "broadcast" in estimate(OpShape(kind="ADD", inputs=(image, row), output=image)).slow
    assert "reference" in estimate(OpShape(kind="LOGISTIC", inputs=(row,), output=row)).slow
    dilated = OpShape(kind="DEPTHWISE_CONV_2D", inputs=(row,), output=row, kernel=(1, 3), dilation=(1, 2))
    assert "dilated" in estimate(dilated).slow
    for multiplier, slow in ((4, ""), (5, "several outputs a channel, not a multiple of 4")):
        op = OpShape(kind="DEPTHWISE_CONV_2D", inputs=(row,), output=(*row[:3], 8 * multiplier), kernel=(1, 3))
        assert estimate(op).slow == slow


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
