"""The kernels of TFLM and CMSIS-NN that run quantized ops, and how their cost is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from export import cost_quantities as cost
from export.cost_quantities import Quantities
from export.op_shape import OpShape, image

CORES = ("cortex_m4", "cortex_m55")
BINARY = frozenset({"ADD", "MUL", "SUB", "MAXIMUM", "MINIMUM"})


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A loop nest of TFLM or CMSIS-NN; `quantities` are what its instructions are proportional to.

    `slow` is '' for a fast CMSIS-NN kernel or a plain copy, else what makes the op miss one or ill suited to it.
    """

    name: str
    quantities: Callable[[OpShape], Quantities]
    slow: str = ""


def limits_of(op: OpShape) -> dict[str, int]:
    """What decides whether an op like `op` was measured; where nothing does, instructions are linear in the size."""
    if op.kind == "SOFTMAX":
        return {"classes": op.channels}
    if op.kind not in _WINDOWED:
        return {}
    return {
        "input channels": op.input_channels,
        "output channels": op.channels,
        "taps": op.taps,
        "stride": max(op.stride),
        "dilation": max(op.dilation),
        "groups": op.groups,
    }


def kernel_of(op: OpShape, core: str) -> Kernel | None:
    """The kernel that runs `op` on `core`; None for an op without a formula."""
    found = _int8_kernel(op, core) if op.dtype == "int8" else _kernel_of_other_types(op, core)
    if found is None or op.dtype == "int8":
        return found
    return replace(found, name=f"{op.kind} {op.dtype}{found.name.removeprefix(op.kind)}")


def _int8_kernel(op: OpShape, core: str) -> Kernel | None:
    if op.kind == "CONV_2D":
        return _convolution(op, core)
    if op.kind == "DEPTHWISE_CONV_2D":
        return _depthwise(op, core)
    if op.kind in BINARY and op.is_broadcast:
        return _broadcast(op)
    return _FOR_CORE[core].get(op.kind) or _KERNELS.get(op.kind)


def _kernel_of_other_types(op: OpShape, core: str) -> Kernel | None:
    """Of int16 activations with int8 weights (16x8), and of conversions between types."""
    if op.dtype == "int16":
        return _int16_kernel(op, core)
    if (op.kind, op.dtype) == ("ADD", "int32"):
        return Kernel(name="ADD broadcast" if op.is_broadcast else "ADD", quantities=cost.elementwise)
    if (op.kind, op.dtype) in _CONVERSIONS:
        return Kernel(name=op.kind, quantities=cost.elementwise, slow="" if op.kind == "CAST" else _REFERENCE)
    return None


def _int16_kernel(op: OpShape, core: str) -> Kernel | None:
    if op.kind == "DEPTHWISE_CONV_2D":
        return _depthwise_int16(op)
    if op.kind in BINARY and op.is_broadcast:
        return _broadcast(op)
    return _INT16_FOR_CORE[core].get(op.kind) or _INT16_KERNELS.get(op.kind)


def _broadcast(op: OpShape) -> Kernel | None:
    if op.kind in ("MAXIMUM", "MINIMUM"):
        return None
    return Kernel(name=f"{op.kind} broadcast", quantities=cost.broadcast, slow="broadcast")


def _convolution(op: OpShape, core: str) -> Kernel:
    on_m4 = core == "cortex_m4"
    slow = "one input channel" if op.input_channels // op.groups == 1 else ""
    if op.groups > 1:
        quantities = cost.convolution_m4 if on_m4 else cost.convolution_m55
        return Kernel(name="CONV_2D grouped", quantities=quantities, slow=slow)
    if op.taps == 1:
        return Kernel(name="CONV_2D 1x1", quantities=cost.pointwise_m4 if on_m4 else cost.pointwise_m55)
    in_one_row = op.kernel[0] == 1 and image(op.inputs[0])[0] == 1 and op.dilation == (1, 1)
    if not on_m4 and in_one_row and (op.stride[1] * op.input_channels) % 4 == 0:
        return Kernel(name="CONV_2D 1xN", quantities=cost.row_convolution_m55)
    return Kernel(name="CONV_2D", quantities=cost.convolution_m4 if on_m4 else cost.convolution_m55, slow=slow)


def _depthwise(op: OpShape, core: str) -> Kernel:
    if op.input_channels == 1 and op.channels > 1 and core == "cortex_m55":
        return Kernel(name="DEPTHWISE_CONV_2D one input channel", quantities=cost.depthwise_as_convolution_m55)
    if op.dilation != (1, 1):
        return Kernel(name="DEPTHWISE_CONV_2D dilated", quantities=cost.dilated_depthwise, slow="dilated")
    if op.channels != op.input_channels:
        if op.channels // op.input_channels % 4 == 0:
            return Kernel(name="DEPTHWISE_CONV_2D 4 outputs a channel", quantities=cost.depthwise_by_fours)
        return Kernel(
            name="DEPTHWISE_CONV_2D several outputs a channel",
            quantities=cost.depthwise_one_by_one,
            slow="several outputs a channel, not a multiple of 4",
        )
    if core == "cortex_m55":
        return Kernel(name="DEPTHWISE_CONV_2D", quantities=cost.depthwise_m55)
    if op.kernel == (3, 3):
        return Kernel(name="DEPTHWISE_CONV_2D 3x3", quantities=cost.depthwise_3x3_m4)
    return Kernel(name="DEPTHWISE_CONV_2D", quantities=cost.depthwise_m4)


def _depthwise_int16(op: OpShape) -> Kernel:
    if op.channels // op.input_channels % 4 == 0 and op.dilation == (1, 1):
        return Kernel(name="DEPTHWISE_CONV_2D 4 outputs a channel", quantities=cost.depthwise_by_fours)
    slow = "no fast kernel for int16"
    if op.channels != op.input_channels:
        name = "DEPTHWISE_CONV_2D several outputs a channel"
        return Kernel(name=name, quantities=cost.depthwise_one_by_one, slow=slow)
    return Kernel(name="DEPTHWISE_CONV_2D", quantities=cost.depthwise_int16, slow=slow)


def _by_name(*kernels: Kernel) -> dict[str, Kernel]:
    return {kernel.name: kernel for kernel in kernels}


_WINDOWED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D"})
_REFERENCE = "reference loop"
_CONVERSIONS = frozenset(
    {
        ("CAST", "int8 int16"),
        ("CAST", "int8 int32"),
        ("CAST", "int32 int8"),
        ("QUANTIZE", "int8 int16"),
        ("QUANTIZE", "int16 int8"),
    }
)
_POOLS_M4 = _by_name(
    Kernel(name="AVERAGE_POOL_2D", quantities=cost.average_pool_m4),
    Kernel(name="MAX_POOL_2D", quantities=cost.max_pool_m4),
)
_FULLY_CONNECTED_M4 = _by_name(Kernel(name="FULLY_CONNECTED", quantities=cost.fully_connected_m4))
_FOR_CORE = {
    "cortex_m4": _POOLS_M4 | _FULLY_CONNECTED_M4,
    "cortex_m55": _by_name(
        Kernel(name="AVERAGE_POOL_2D", quantities=cost.average_pool_m55),
        Kernel(name="MAX_POOL_2D", quantities=cost.max_pool_m55),
        Kernel(name="FULLY_CONNECTED", quantities=cost.fully_connected_m55),
    ),
}
_INT16_FOR_CORE = {
    "cortex_m4": _POOLS_M4 | _FULLY_CONNECTED_M4 | _by_name(Kernel(name="CONV_2D", quantities=cost.convolution_m4)),
    "cortex_m55": _by_name(
        Kernel(name="AVERAGE_POOL_2D", quantities=cost.average_pool_int16_m55),
        Kernel(name="MAX_POOL_2D", quantities=cost.max_pool_int16_m55),
        Kernel(name="FULLY_CONNECTED", quantities=cost.fully_connected_int16_m55),
        Kernel(name="CONV_2D", quantities=cost.convolution_int16_m55),
    ),
}
_IN_BOTH_TYPES = _by_name(
    Kernel(name="ADD", quantities=cost.elementwise),
    Kernel(name="MUL", quantities=cost.elementwise),
    Kernel(name="SUB", quantities=cost.elementwise, slow=_REFERENCE),
    Kernel(name="RELU", quantities=cost.elementwise, slow=_REFERENCE),
    Kernel(name="RELU6", quantities=cost.elementwise, slow=_REFERENCE),
    Kernel(name="LEAKY_RELU", quantities=cost.elementwise, slow=_REFERENCE),
    Kernel(name="QUANTIZE", quantities=cost.elementwise, slow=_REFERENCE),
    Kernel(name="MEAN", quantities=cost.mean, slow=_REFERENCE),
    Kernel(name="SLICE", quantities=cost.copied_slice),
    Kernel(name="CONCATENATION", quantities=cost.concatenation),
    Kernel(name="RESHAPE", quantities=cost.copy),
    Kernel(name="SOFTMAX", quantities=cost.softmax),
)
_KERNELS = _IN_BOTH_TYPES | _by_name(
    Kernel(name="MAXIMUM", quantities=cost.elementwise),
    Kernel(name="MINIMUM", quantities=cost.elementwise),
    Kernel(name="LOGISTIC", quantities=cost.elementwise, slow=_REFERENCE),
    Kernel(name="TANH", quantities=cost.elementwise, slow=_REFERENCE),
    Kernel(name="HARD_SWISH", quantities=cost.elementwise, slow=_REFERENCE),
    Kernel(name="TRANSPOSE", quantities=cost.transpose, slow="element by element"),
    Kernel(name="GATHER", quantities=cost.gather),
    Kernel(name="PAD", quantities=cost.pad),
)
_INT16_KERNELS = _IN_BOTH_TYPES | _by_name(
    Kernel(name="LOGISTIC", quantities=cost.elementwise),
    Kernel(name="TANH", quantities=cost.elementwise),
    Kernel(name="PAD", quantities=cost.pad_int16, slow=_REFERENCE),
)
