"""Which plan serves a goal best, asked of the cost models: instructions, arena and file size of the whole model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx

from export.arena_32_bit import arena_on
from export.cost_model import estimate_ops, total
from export.device_graph import device_model
from export.tflite_reader import parse_tflite
from quantize.calibration import Range
from quantize.options import Goal
from quantize.qdq import quantize_model
from quantize.rewrites import COMMON_PASSES, apply_passes, planned_passes
from quantize.rewrites.plan import Plan

CORE = "cortex_m4"
CHOICES: Sequence[tuple[str, Sequence[Any]]] = (
    ("swish_tables", (False, True)),
    ("single_rows", (5, 10, 20)),
    ("multiplied_rows", (0, 5, 10, 20)),
    ("rows_together", (1, 4)),
    ("mean_as_convolution", (False, True)),
    ("stripes", (1, 2, 4)),
    ("packed_memory", (False, True)),
    ("halved_maps", (0, 1, 2, 3)),
)
# These are not the same function: they cost accuracy, so only the goal that they are for has them.
LOSSY_CHOICES: dict[Goal, Sequence[tuple[str, Sequence[Any]]]] = {"flash": (("shared_scales", (False, True)),)}
# What is next to nothing for the goal must not cost much elsewhere.
_OTHERS = 0.05
SMALL = 0.01  # Made-up ranges stay below the upper bound of any Clip.


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Estimates for Cortex-M4: instructions of one inference, arena, and the .tflite file with made-up ranges."""

    instructions: int
    arena_bytes: int
    file_bytes: int

    def score(self, goal: Goal) -> float:
        """Less is better. A balance weighs all three by their ratios."""
        speed, ram, flash = map(math.log, (self.instructions + 1, self.arena_bytes, self.file_bytes))
        balance = speed + ram + flash
        return {"balance": balance, "speed": speed, "ram": ram, "flash": flash}[goal] + _OTHERS * balance


def choose_plan(float_model: onnx.ModelProto, goal: Goal) -> Plan:
    """The best plan for `goal` that changing one choice after the other finds.

    Raises KwsError if `float_model` cannot be converted.
    """
    common = apply_passes(float_model, COMMON_PASSES)
    choices = [*CHOICES, *LOSSY_CHOICES.get(goal, ())]
    return _descend(lambda plan: plan_cost(common, plan).score(goal), choices)


def plan_cost(common: onnx.ModelProto, plan: Plan) -> Cost:
    """What a model that went through COMMON_PASSES costs by `plan`; ranges play no part in that and are made up."""
    prepared = apply_passes(common, planned_passes(plan))
    names = [value.name for value in prepared.graph.input]
    names += [name for node in prepared.graph.node for name in node.output]
    ranges = {name: Range(-SMALL, SMALL * (1 + index / len(names))) for index, name in enumerate(names)}
    qdq = quantize_model(prepared, ranges, swish_tables=plan.swish_tables, shared_scales=plan.shared_scales)
    model = device_model(qdq, plan)
    facts = parse_tflite(model, "the model")
    return Cost(
        instructions=total(estimate_ops(facts)).instructions[CORE],
        arena_bytes=arena_on(CORE, facts).needed,
        file_bytes=len(model),
    )


def _says_no_more(plan: Plan) -> bool:
    """Whether a simpler plan is the same: only single rows can be multiplied, and only in packed memory is halving of
    use."""
    more_rows = plan.multiplied_rows > plan.single_rows
    return more_rows or (plan.halved_maps > 0 and not plan.packed_memory)


def _descend(score: Callable[[Plan], float], choices: Sequence[tuple[str, Sequence[Any]]]) -> Plan:
    best = Plan()
    lowest = score(best)
    for name, options in choices:
        for candidate in [replace(best, **{name: option}) for option in options]:
            if candidate == best or _says_no_more(candidate):
                continue
            found = score(candidate)
            if found < lowest:
                best, lowest = candidate, found
    return best
