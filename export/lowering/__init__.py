"""QDQ ONNX (NCHW) -> typed int8 graph (NHWC), one op for one op, with the QDQ graph's own scales and zero points.

Only layout and notation change here. Whatever changes which tensors exist happens on the float model, before
calibration, so that the QDQ graph under onnxruntime computes what the device computes.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx

from export.graph import Graph
from export.lowering.context import Context
from export.lowering.convolution import lower_conv, lower_gemm, lower_matmul
from export.lowering.elementwise import (
    lower_add,
    lower_clip,
    lower_hard_swish,
    lower_mul,
    lower_relu,
    lower_sigmoid,
    lower_softmax,
)
from export.lowering.movement import (
    lower_concat,
    lower_flatten,
    lower_pad,
    lower_reshape,
    lower_slice,
    lower_squeeze,
)
from export.lowering.qdq import Node, QdqModel
from export.lowering.reduction import lower_average_pool, lower_global_average_pool, lower_max_pool, lower_reduce_mean
from kws.errors import KwsError

_HANDLERS: dict[str, Callable[[Context, Node], None]] = {
    "Add": lower_add,
    "AveragePool": lower_average_pool,
    "Clip": lower_clip,
    "Concat": lower_concat,
    "Conv": lower_conv,
    "Flatten": lower_flatten,
    "Gemm": lower_gemm,
    "GlobalAveragePool": lower_global_average_pool,
    "HardSwish": lower_hard_swish,
    "MatMul": lower_matmul,
    "MaxPool": lower_max_pool,
    "Mul": lower_mul,
    "Pad": lower_pad,
    "ReduceMean": lower_reduce_mean,
    "Relu": lower_relu,
    "Reshape": lower_reshape,
    "Sigmoid": lower_sigmoid,
    "Slice": lower_slice,
    "Softmax": lower_softmax,
    "Squeeze": lower_squeeze,
}


def lower(model: onnx.ModelProto) -> Graph:
    """The int8 graph of a QDQ `model` with float32 input (1, C, H, W) or (1, C) between its quantizers.

    Expected: QuantizeLinear and DequantizeLinear around every activation, int8 weights and int32 biases behind
    DequantizeLinear, a Relu fused by leaving out the pair in front of it.
    Raises KwsError for any other form, for ops without a counterpart and for numbers that overflow int8 kernels.
    """
    context = Context(model=QdqModel.read(model))
    for node in context.model.nodes:
        if node.op_type == "QuantizeLinear":
            context.quantize(node)
        elif node.op_type == "DequantizeLinear":
            context.dequantize(node)
        elif node.outputs[0] in context.produced:
            continue
        elif node.op_type in _HANDLERS:
            _HANDLERS[node.op_type](context, node)
        else:
            raise KwsError(
                f"{node}: {node.op_type} has no int8 counterpart here; build the model from {', '.join(_HANDLERS)}."
            )
    return context.graph()
