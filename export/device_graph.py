"""QDQ ONNX -> the int8 graph that the device runs: lowered op for op, then in the forms that the plan asks for."""

from __future__ import annotations

import onnx

from export.graph import Graph
from export.halved_maps import halve_busiest
from export.lowering import lower
from export.multiplied_rows import multiply_rows
from export.op_order import lower_peak, turn_joins
from export.to_tflite import to_tflite
from quantize.rewrites.plan import Plan


def device_graph(qdq: onnx.ModelProto, plan: Plan) -> Graph:
    """What comes behind lowering changes no value: every tensor that is left holds what it held before.

    Raises KwsError as `export.lowering.lower` does.
    """
    graph = multiply_rows(lower(qdq), plan.multiplied_rows, plan.rows_together)
    if not plan.packed_memory:
        return graph
    graph = lower_peak(graph)
    for _ in range(plan.halved_maps):
        graph = lower_peak(halve_busiest(graph))
    return turn_joins(graph)


def device_model(qdq: onnx.ModelProto, plan: Plan) -> bytes:
    """The .tflite of that graph, laid out in memory as `plan` says."""
    return to_tflite(device_graph(qdq, plan), packed=plan.packed_memory)
