"""Add, Mul, Relu, Clip, HardSwish, Sigmoid and Softmax."""

from __future__ import annotations

import numpy as np

from export.graph import (
    PLAIN_NUMBERS,
    Activation,
    Add,
    Cast,
    Gather,
    HardSwish,
    Logistic,
    Mul,
    Relu,
    Softmax,
    Tensor,
)
from export.lowering.context import Context, nhwc_axis, to_nhwc
from export.lowering.limits import SPANS, require_accumulator, require_probability
from export.lowering.qdq import REMEDY, Node
from kws.errors import KwsError
from quantize.affine import INT8_MIN, StepType
from quantize.hard_swish import is_representable
from quantize.tables import swish_table

# The ADD kernel shifts its operands left by 20 or 15 bits. SOFTMAX counts int8 in steps of 2**-26 and looks int16 up in
# steps of 10 / 65535. LOGISTIC takes every int8 for saturated, zero too, once one step is 8 or more; its multiplier of
# int16 counts in 1 / 12288 and has 15 bits.
_ADD_HEADROOM: dict[StepType, float] = {"int8": 2.0**20, "int16": 2.0**15}
_SOFTMAX_RESOLUTION: dict[StepType, float] = {"int8": 2.0**-26, "int16": 0.0}
_SOFTMAX_STEP, _SOFTMAX_SPAN = 10 / 65535, 65535
_LOGISTIC_MAX_SCALE: dict[StepType, float] = {"int8": 8.0, "int16": 32767 / 12288}


def lower_add(context: Context, node: Node) -> None:
    """Add of two activations, or of one and a constant, broadcast -> ADD."""
    operands, shape = _operands(context, node)
    output = context.model.quantized_output(node, may_fuse=True)
    largest = max(float(operand.affine.scale) for operand in operands)
    if 2.0 * largest >= _ADD_HEADROOM[output.affine.dtype] * float(output.affine.scale):
        raise KwsError(
            f"{node}: its output scale is far too small for its inputs; look for a dead output in calibration."
        )
    context.emit(Add(activation=output.activation), operands, shape, output)


def lower_mul(context: Context, node: Node) -> None:
    """Mul of two activations, or of one and a constant, broadcast -> MUL; x * sigmoid(x) may become a table."""
    gate = next((context.gates[name] for name in node.inputs if name in context.gates), None)
    if gate is not None:
        _look_up_swish(context, node, gate)
        return
    operands, shape = _operands(context, node)
    output = context.model.quantized_output(node, may_fuse=True)
    scales = [float(operand.affine.scale) for operand in operands]
    require_accumulator(node, SPANS[output.affine.dtype] ** 2, scales[0] * scales[1] / float(output.affine.scale))
    context.emit(Mul(activation=output.activation), operands, shape, output)


def lower_relu(context: Context, node: Node) -> None:
    """A Relu, or Clip from 0 to where its integers end, that no op in front of it could take in -> RELU."""
    x, output = context.activation(node, 0), context.model.quantized_output(node, may_fuse=False)
    require_accumulator(node, SPANS[x.affine.dtype], float(x.affine.scale) / float(output.affine.scale))
    context.emit(Relu(), [x], x.shape, output)


def lower_clip(context: Context, node: Node) -> None:
    """A Clip from 0 that no op in front of it could take in -> RELU, whose output ends at the upper bound."""
    context.model.require_saturation(node, context.model.quantized_output(node, may_fuse=False).affine)
    lower_relu(context, node)


def lower_hard_swish(context: Context, node: Node) -> None:
    """HardSwish -> HARD_SWISH."""
    x, output = context.activation(node, 0), context.model.quantized_output(node, may_fuse=False)
    if x.affine.dtype != "int8":
        raise KwsError(f"{node}: TensorFlow Lite Micro has no {x.affine.dtype} kernel for it; quantize to int8.")
    if not is_representable(x.affine, output.affine):
        raise KwsError(f"{node}: its output scale is far too small; look for a dead output in calibration.")
    context.emit(HardSwish(), [x], x.shape, output)


def _look_up_swish(context: Context, node: Node, x: Tensor) -> None:
    """x * sigmoid(x) -> CAST, ADD and GATHER of the answers to -128..127 in a table."""
    output = context.model.quantized_output(node, may_fuse=False)
    name = output.name
    table = context.add_constant(f"{name}/table", swish_table(x.affine, output.affine), output.affine)
    numbers = context.emit_numbers(Cast(), [x], f"{name}/numbers", x.shape)
    offset = context.add_constant(f"{name}/offset", np.array([[[[-INT8_MIN]]]], np.int32), PLAIN_NUMBERS)
    places = context.emit_numbers(Add(activation=Activation.NONE), [numbers, offset], f"{name}/places", x.shape)
    context.emit(Gather(), [table, places], x.shape, output)


def lower_sigmoid(context: Context, node: Node) -> None:
    """Sigmoid -> LOGISTIC; nothing yet for one inside x * sigmoid(x) that is not quantized."""
    x, readers = context.activation(node, 0), context.model.consumers.get(node.outputs[0], ())
    if [reader.op_type for reader in readers] == ["Mul"] and set(readers[0].inputs) == {*node.inputs, *node.outputs}:
        context.gates[node.outputs[0]] = x
        return
    output = context.model.quantized_output(node, may_fuse=False)
    require_probability(node, output)
    if float(x.affine.scale) >= _LOGISTIC_MAX_SCALE[x.affine.dtype]:
        raise KwsError(f"{node}: the scale of its input is too large; look for an outlier in calibration.")
    context.emit(Logistic(), [x], x.shape, output)


def lower_softmax(context: Context, node: Node) -> None:
    """Softmax over channels -> SOFTMAX."""
    x, output = context.activation(node, 0), context.model.quantized_output(node, may_fuse=False)
    require_probability(node, output)
    rank = len(x.shape)
    if nhwc_axis(node, rank, int(node.attributes.get("axis", -1))) != rank - 1:
        raise KwsError(f"{node}: softmax is supported over channels only; change its axis.")
    if x.affine.dtype == "int16":
        require_accumulator(node, _SOFTMAX_SPAN, float(x.affine.scale) / _SOFTMAX_STEP)
    if float(x.affine.scale) <= _SOFTMAX_RESOLUTION[x.affine.dtype]:
        raise KwsError(f"{node}: the scale of its input is too small; look for a dead output in calibration.")
    context.emit(Softmax(), [x], x.shape, output)


def _operands(context: Context, node: Node) -> tuple[list[Tensor], tuple[int, ...]]:
    """Both operands in NHWC and of equal rank, and the shape they broadcast to."""
    ranks = {len(context.values[name].shape) for name in node.inputs if name in context.values}
    if not ranks:
        raise KwsError(f"{node}: both operands are constants; fold constants before lowering.")
    rank = max(ranks)
    operands = [_operand(context, node, index, rank) for index in (0, 1)]
    try:
        shape = np.broadcast_shapes(*(operand.shape for operand in operands))
    except ValueError as error:
        raise KwsError(f"{node}: its operands do not broadcast; change the model.") from error
    return operands, shape


def _operand(context: Context, node: Node, index: int, rank: int) -> Tensor:
    name = node.inputs[index]
    if name not in context.quantized_constants:
        tensor = context.activation(node, index)
        if len(tensor.shape) != rank:
            raise KwsError(f"{node}: its operands differ in rank; reshape one of them.")
        return tensor
    constant = context.quantized_constants[name]
    values, affine = constant.values, constant.affine
    if values.dtype != affine.dtype or affine.axis is not None or values.ndim > rank:
        raise KwsError(f"{node}: its constant operand must be int8 or int16 with one scale; {REMEDY}.")
    aligned = values.reshape((1,) * (rank - values.ndim) + values.shape)
    return context.add_constant(f"{node.outputs[0]}/operand_{index}", to_nhwc(aligned), affine)
