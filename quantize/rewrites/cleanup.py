"""Constants folded, no-ops removed, Reshape in its plain form."""

from __future__ import annotations

import onnx_ir as ir

from quantize.rewrites.graph_tools import constant


def fold_constants(model: ir.Model) -> None:
    """onnxscript's optimizer: constant subgraphs become initializers, no-ops go, shapes are inferred."""
    from onnxscript import optimizer

    optimizer.optimize_ir(model)


def drop_allowzero(model: ir.Model) -> None:
    """Reshape to a constant shape without zeros: its `allowzero`, which torch sets always, says nothing and goes."""
    for node in model.graph:
        if node.op_type == "Reshape" and (shape := constant(node.inputs[1])) is not None and shape.all():
            node.attributes.pop("allowzero", None)
