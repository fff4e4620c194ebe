"""export.choose: the plan for a goal is the best there is for it, by the estimates that `kws inspect` shows."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from networks import bcresnet_onnx, clips_for, ds_cnn, graph_model, run
from onnx import helper

from export.choose import Cost, choose_plan, plan_cost
from export.cost_model import estimate_ops, total
from export.device_graph import device_graph
from export.tflite_reader import parse_tflite
from export.to_tflite import to_tflite
from kws.metrics import sqnr_db
from quantize.calibration import calibrate
from quantize.device_rounding import round_as_device
from quantize.options import GOALS, Goal
from quantize.qdq import quantize_model
from quantize.rewrites import COMMON_PASSES, apply_passes, rewrite
from quantize.rewrites.plan import Plan
from quantize.runtimes import OnnxRuntime, TflmRuntime

FIGURES = {"speed": "instructions", "ram": "arena_bytes", "flash": "file_bytes"}


@pytest.fixture(scope="module")
def float_model(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return bcresnet_onnx(tmp_path_factory.mktemp("onnx"), "bcresnet-1", 98)


@pytest.fixture(scope="module")
def plans(float_model: onnx.ModelProto) -> dict[Goal, Plan]:
    return {goal: choose_plan(float_model, goal) for goal in GOALS}


@pytest.fixture(scope="module")
def costs(float_model: onnx.ModelProto, plans: dict[Goal, Plan]) -> dict[Goal, Cost]:
    common = apply_passes(float_model, COMMON_PASSES)
    return {goal: plan_cost(common, plan) for goal, plan in plans.items()}


@pytest.mark.slow
@pytest.mark.parametrize("goal", FIGURES)
def test_no_other_goal_has_less_of_what_a_goal_is_about(costs: dict[Goal, Cost], goal: Goal) -> None:
    figures = {other: getattr(cost, FIGURES[goal]) for other, cost in costs.items()}
    assert figures[goal] == min(figures.values())
    assert max(figures.values()) > 1.05 * figures[goal], "the goals make no difference"


@pytest.mark.slow
def test_only_the_smallest_file_may_cost_resolution_of_weights(plans: dict[Goal, Plan]) -> None:
    assert [goal for goal, plan in plans.items() if plan.shared_scales] == ["flash"]


@pytest.mark.slow
def test_a_balance_has_the_least_product_of_all_three(costs: dict[Goal, Cost]) -> None:
    products = {goal: cost.instructions * cost.arena_bytes * cost.file_bytes for goal, cost in costs.items()}
    assert products["balance"] == min(products.values())


@pytest.mark.slow
@pytest.mark.parametrize("goal", GOALS)
def test_every_plan_is_the_same_function_in_float_and_the_same_int8_on_the_device(
    float_model: onnx.ModelProto, plans: dict[Goal, Plan], costs: dict[Goal, Cost], goal: Goal
) -> None:
    plan, clips = plans[goal], clips_for(float_model, 12)
    prepared = rewrite(float_model, plan)
    expected = run(float_model, clips)
    np.testing.assert_allclose(run(prepared, clips), expected, atol=1e-4 * float(np.abs(expected).max()))
    qdq = quantize_model(
        prepared, calibrate(prepared, clips), swish_tables=plan.swish_tables, shared_scales=plan.shared_scales
    )
    model = to_tflite(device_graph(qdq, plan))
    device = TflmRuntime(model)
    answers, simulated = device(clips), OnnxRuntime(round_as_device(qdq).SerializeToString())(clips)
    steps = np.abs(answers.astype(int) - device.output.quantize(simulated).astype(int))
    assert (steps <= 1).mean() >= 0.99
    assert len(np.unique(answers, axis=0)) == len(clips)
    assert sqnr_db(expected, device.output.dequantize(answers)) > 15
    # What was estimated with made-up ranges is what the real model takes.
    facts = parse_tflite(model, "the model")
    assert total(estimate_ops(facts)).instructions["cortex_m4"] == pytest.approx(costs[goal].instructions, rel=0.002)
    assert len(model) == pytest.approx(costs[goal].file_bytes, rel=0.05)


def test_a_model_without_such_choices_gets_a_plan_too() -> None:
    model = ds_cnn(18)
    plan = choose_plan(model, "flash")
    assert plan_cost(apply_passes(model, COMMON_PASSES), plan).file_bytes <= (
        plan_cost(apply_passes(model, COMMON_PASSES), Plan()).file_bytes
    )


def test_an_upper_bound_inside_the_model_does_not_get_in_the_way_of_made_up_ranges() -> None:
    model = graph_model(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1]),
            helper.make_node("HardSigmoid", ["c"], ["h"]),
            helper.make_node("GlobalAveragePool", ["h"], ["g"]),
            helper.make_node("Flatten", ["g"], ["y"]),
        ],
        {"w": np.random.default_rng(0).normal(size=(3, 2, 1, 1))},
        (1, 2, 4, 4),
        (1, 3),
    )
    assert choose_plan(model, "flash").mean_as_convolution is False
