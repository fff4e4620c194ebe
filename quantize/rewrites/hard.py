"""Hard-swish and hard-sigmoid in the ways in which models spell them."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from quantize.rewrites.graph_tools import (
    constant_number,
    new_initializer,
    new_node,
    other_operand,
    replace_value,
    sole_consumer,
    static_shape,
)

_ALPHA, _BETA = 0.2, 0.5


def fuse_hard_swish(model: ir.Model) -> None:
    """x * HardSigmoid(x), and x * Clip(x + 3, 0, 6) / 6 in any order of its factors -> HardSwish."""
    for node in list(model.graph):
        found = (_gated(node) or _gated_by_clip(node)) if node.op_type == "Mul" else None
        shape = static_shape(found[0]) if found is not None else None
        if found is not None and shape is not None:
            output, source = found
            replace_value(model.graph, output, [new_node("HardSwish", [source], output.name or "hard_swish", shape)])


def _gated(product: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """What x * HardSigmoid(x) gives, and x."""
    for gate, source in (product.inputs, reversed(product.inputs)):
        maker = gate.producer() if gate is not None else None
        if source is not None and maker is not None and maker.op_type == "HardSigmoid" and maker.inputs[0] is source:
            alpha, beta = _slope(maker)
            if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and math.isclose(beta, 0.5, rel_tol=1e-5):
                return product.outputs[0], source
    return None


def _gated_by_clip(product: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """What x * Clip(x + 3, 0, 6) * (1 / 6) gives, and x; `product` is the first of the two Mul."""
    for left, right in (product.inputs, reversed(product.inputs)):
        if left is None or right is None:
            continue
        if _clip_source(left) is right and (output := _divided_by_six(product.outputs[0])) is not None:
            return output, right
        scaled = left.producer()
        if scaled is not None and scaled.op_type == "Mul":
            clipped = next(
                (value for value in scaled.inputs if value is not None and _clip_source(value) is right), None
            )
            if clipped is not None and _is_sixth(scaled, clipped):
                return product.outputs[0], right
    return None


def _clip_source(value: ir.Value) -> ir.Value | None:
    """x, if `value` is Clip(x + 3, 0, 6)."""
    clip = value.producer()
    if clip is None or clip.op_type != "Clip" or [constant_number(clip, 1), constant_number(clip, 2)] != [0.0, 6.0]:
        return None
    addition = clip.inputs[0].producer() if clip.inputs[0] is not None else None
    if addition is None or addition.op_type != "Add":
        return None
    return next((addition.inputs[1 - i] for i in (0, 1) if constant_number(addition, i) == 3.0), None)


def _divided_by_six(value: ir.Value) -> ir.Value | None:
    reader = sole_consumer(value)
    return reader.outputs[0] if reader is not None and reader.op_type == "Mul" and _is_sixth(reader, value) else None


def _is_sixth(product: ir.Node, value: ir.Value) -> bool:
    factor = constant_number(product, 1 if other_operand(product, value) is product.inputs[1] else 0)
    return factor is not None and math.isclose(factor, 1 / 6, rel_tol=1e-5)


def expand_hard_sigmoid(model: ir.Model) -> None:
    """HardSigmoid -> Mul, Add, Clip(0, 1); the first two fold into a convolution in front."""
    for node in list(model.graph):
        source, shape = node.inputs[0] if node.inputs else None, static_shape(node.outputs[0])
        if node.op_type != "HardSigmoid" or source is None or shape is None:
            continue
        name = node.outputs[0].name or "hard_sigmoid"
        alpha, beta, low, high = (
            new_initializer(model.graph, f"{name}/{part}", np.array(number, dtype=np.float32))
            for part, number in zip(("alpha", "beta", "low", "high"), (*_slope(node), 0.0, 1.0), strict=True)
        )
        scaled = new_node("Mul", [source, alpha], f"{name}/scaled", shape)
        shifted = new_node("Add", [scaled.outputs[0], beta], f"{name}/shifted", shape)
        clipped = new_node("Clip", [shifted.outputs[0], low, high], name, shape)
        replace_value(model.graph, node.outputs[0], [scaled, shifted, clipped])


def _slope(hard_sigmoid: ir.Node) -> tuple[float, float]:
    attributes = hard_sigmoid.attributes
    return attributes.get_float("alpha", _ALPHA), attributes.get_float("beta", _BETA)
