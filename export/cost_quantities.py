"""What the instructions of TFLM's and CMSIS-NN's kernels are proportional to."""

from __future__ import annotations

import math

from export.op_shape import OpShape, image, rank_4, up

Quantities = dict[str, float]
CALL = "call"


def pointwise_m4(op: OpShape) -> Quantities:
    """Sums of the weights, then dot products in steps of 16 and 4 channels: two outputs of two pixels at a time.

    The last output of an odd number goes byte by byte.
    """
    products, pixels = _products(op)
    pairs, odd = divmod(op.channels, 2)
    return {
        CALL: 1,
        "weight": products * op.channels * op.input_channels,
        **_in_steps("2 outputs of 2 pixels", products * (pixels // 2) * pairs, op.input_channels),
        **_in_steps("2 outputs of odd pixel", products * (pixels % 2) * pairs, op.input_channels),
        "odd output": op.pixels * odd,
        "odd output x channel": op.pixels * odd * op.input_channels,
    }


def _in_steps(name: str, times: int, channels: int) -> Quantities:
    sixteens, rest = divmod(channels, 16)
    return {
        name: times,
        f"{name} x 16 channels": times * sixteens,
        f"{name} x 4 channels": times * (rest // 4),
        f"{name} x rest of channels": times * (rest % 4),
        f"{name} with 16 channels": times if sixteens else 0,
        f"{name} with rest of channels": times if rest else 0,
    }


def pointwise_m55(op: OpShape) -> Quantities:
    """Vectors of 16 channels, four pixels at a time; of left-over pixels four outputs at a time."""
    vectors = up(op.input_channels, 16)
    products, pixels = _products(op)
    left_over = products * (pixels % 4)
    fours, ones = divmod(op.channels, 4)
    return {
        CALL: 1,
        "pixel": op.pixels,
        "output": op.elements,
        "output x vector": op.elements * vectors,
        "left-over pixel": left_over,
        "4 outputs of left-over pixel": left_over * fours,
        "4 outputs of left-over pixel x vector": left_over * fours * vectors,
        "left-over output of left-over pixel": left_over * ones,
        "left-over output of left-over pixel x vector": left_over * ones * vectors,
    }


def _products(op: OpShape) -> tuple[int, int]:
    """How many products of matrices, and the pixels of each: with a stride, one for each row of the image."""
    height, width = image(op.output)
    return (1, op.pixels) if op.stride == (1, 1) else (height, width)


def convolution_m4(op: OpShape) -> Quantities:
    """A pixel's patch is copied tap by tap and widened, then multiplied with each filter in steps of 4."""
    patch = op.taps * op.input_channels // op.groups
    pixels = op.pixels * op.groups
    return {
        "pixel": pixels,
        "pixel x tap": pixels * op.taps,
        "pixel x patch": pixels * patch,
        "output": op.elements,
        "output x 4 of patch": op.elements * (patch // 4),
        "output x rest of patch": op.elements * (patch % 4),
    }


def convolution_m55(op: OpShape) -> Quantities:
    patch = op.taps * op.input_channels // op.groups
    pixels = op.pixels * op.groups
    vectors = op.elements * up(patch, 16)
    return {"pixel": pixels, "pixel x tap": pixels * op.taps, "output": op.elements, "output x vector": vectors}


def row_convolution_m55(op: OpShape) -> Quantities:
    """Without copying, but for the pixels at both ends of the row."""
    vectors = op.elements * up(op.taps * op.input_channels, 16)
    return {CALL: 1, "filter": op.channels, "output": op.elements, "output x vector": vectors}


def dilated_depthwise(op: OpShape) -> Quantities:
    """Output by output, tap by tap."""
    return {
        "output": op.elements,
        "output x kernel row": op.inner_kernel_rows * op.channels,
        "output x tap": op.inner_taps * op.channels,
    }


def depthwise_one_by_one(op: OpShape) -> Quantities:
    """As with dilation, and with several outputs an input channel."""
    return {"pixel x input channel": op.pixels * op.input_channels, **dilated_depthwise(op)}


def depthwise_int16(op: OpShape) -> Quantities:
    dilated_outputs = op.elements if op.dilation != (1, 1) else 0
    return {"pixel": op.pixels, "dilated output": dilated_outputs, **dilated_depthwise(op)}


def depthwise_by_fours(op: OpShape) -> Quantities:
    """Four outputs of one input channel at a time."""
    quarters = op.channels // 4
    return {
        CALL: 1,
        "pixel": op.pixels,
        "pixel x input channel": op.pixels * op.input_channels,
        "4 outputs": op.pixels * quarters,
        "4 outputs x kernel row": op.inner_kernel_rows * quarters,
        "4 outputs x tap": op.inner_taps * quarters,
    }


def depthwise_as_convolution_m55(op: OpShape) -> Quantities:
    """From one input channel: the weights are transposed, then it is a convolution."""
    return {CALL: 1, "weight": op.channels * op.taps, **convolution_m55(op)}


def fully_connected_m4(op: OpShape) -> Quantities:
    sixteens, rest = divmod(op.input_channels, 16)
    each = op.elements
    return {
        CALL: 1,
        "row": op.pixels,
        "output": each,
        "output x 16 inputs": each * sixteens,
        "output x 4 inputs": each * (rest // 4),
        "output x rest of inputs": each * (rest % 4),
        "odd output": op.pixels * (op.channels % 2),
    }


def fully_connected_m55(op: OpShape) -> Quantities:
    """Vectors of 16 inputs, for four outputs at a time."""
    return _fully_connected_in_vectors(op, lanes=16)


def fully_connected_int16_m55(op: OpShape) -> Quantities:
    return _fully_connected_in_vectors(op, lanes=8)


def _fully_connected_in_vectors(op: OpShape, lanes: int) -> Quantities:
    vectors = up(op.input_channels, lanes)
    left_over = op.pixels * (op.channels % 4)
    return {
        CALL: 1,
        "row": op.pixels,
        "output": op.elements,
        "output x vector": op.elements * vectors,
        "left-over output": left_over,
        "left-over output x vector": left_over * vectors,
    }


def convolution_int16_m55(op: OpShape) -> Quantities:
    """Vectors of 8 places of the patch."""
    vectors = op.elements * up(op.taps * op.input_channels, 8)
    return {"pixel": op.pixels, "pixel x tap": op.pixels * op.taps, "output": op.elements, "output x vector": vectors}


def depthwise_3x3_m4(op: OpShape) -> Quantities:
    return {"pixel": op.pixels, "output": op.elements, "output x tap": op.inner_taps * op.channels}


def depthwise_m4(op: OpShape) -> Quantities:
    """A pixel's patch is copied tap by tap, zeros where it leaves the image: whole rows at once above and below.

    It is then multiplied for 4 channels at a time, 2 taps at a time.
    """
    inner_rows = op.inner_kernel_rows
    return {
        "pixel": op.pixels,
        "kernel row": inner_rows,
        "tap": op.inner_taps,
        "tap x channel": op.inner_taps * op.channels,
        "tap beside the image": inner_rows * op.kernel[1] - op.inner_taps,
        "kernel row above or below": op.pixels * op.kernel[0] - inner_rows,
        "output": op.elements,
        "output x 2 taps": op.elements * (op.taps // 2),
        "output x rest of taps": op.elements * (op.taps % 2),
    }


def depthwise_m55(op: OpShape) -> Quantities:
    """Copies in vectors of 16 channels; products of 4 pixels by 4 channels at a time, remaining pixels one by one."""
    quarters = up(op.channels, 4)
    return {
        CALL: 1,
        "pixel": op.pixels,
        "pixel x kernel row": op.pixels * op.kernel[0],
        "pixel x tap": op.pixels * op.taps,
        "pixel x tap x 16 channels": op.pixels * op.taps * up(op.channels, 16),
        "pixel x 4 channels": op.pixels * quarters,
        "pixel x 4 channels x tap": op.pixels * quarters * op.taps,
        "left-over pixel x 4 channels": op.pixels % 4 * quarters,
        "left-over pixel x 4 channels x tap": op.pixels % 4 * quarters * op.taps,
    }


def broadcast(op: OpShape) -> Quantities:
    """Elements, and the runs over which neither operand is repeated."""
    run = 1
    for first, second in zip(*(reversed(rank_4(shape)) for shape in op.inputs[:2]), strict=True):
        if first != second:
            break
        run *= first
    return {"run": op.elements // run, "element": op.elements}


def average_pool_m4(op: OpShape) -> Quantities:
    return {
        CALL: 1,
        "pixel x window row": op.pixels * op.kernel[0],
        "tap": op.inner_taps,
        "output": op.elements,
        "output x tap": op.inner_taps * op.channels,
    }


def average_pool_m55(op: OpShape) -> Quantities:
    return _average_in_vectors(op, lanes=16)


def average_pool_int16_m55(op: OpShape) -> Quantities:
    return _average_in_vectors(op, lanes=8)


def _average_in_vectors(op: OpShape, lanes: int) -> Quantities:
    vectors = up(op.channels, lanes)
    return {
        CALL: 1,
        "pixel x vector": op.pixels * vectors,
        "window row x vector": op.pixels * op.kernel[0] * vectors,
        "tap x vector": op.inner_taps * vectors,
    }


def max_pool_m4(op: OpShape) -> Quantities:
    return {
        "pixel": op.pixels,
        "window row": op.inner_kernel_rows,
        "tap": op.inner_taps,
        "output": op.elements,
        "output x tap": op.inner_taps * op.channels,
    }


def max_pool_m55(op: OpShape) -> Quantities:
    return _maximum_in_vectors(op, lanes=16)


def max_pool_int16_m55(op: OpShape) -> Quantities:
    return _maximum_in_vectors(op, lanes=8)


def _maximum_in_vectors(op: OpShape, lanes: int) -> Quantities:
    vectors = up(op.channels, lanes)
    return {
        "pixel": op.pixels,
        "pixel x vector": op.pixels * vectors,
        "window row": op.inner_kernel_rows,
        "tap": op.inner_taps,
        "tap x vector": op.inner_taps * vectors,
    }


def elementwise(op: OpShape) -> Quantities:
    return {CALL: 1, "element": op.elements}


def mean(op: OpShape) -> Quantities:
    return {"output": op.elements, "input": op.input_elements}


def copied_slice(op: OpShape) -> Quantities:
    return {CALL: 1, "run": op.pixels, "element": op.elements}


def transpose(op: OpShape) -> Quantities:
    return {CALL: 1, "run": op.input_elements // op.input_channels, "element": op.elements}


def concatenation(op: OpShape) -> Quantities:
    """One memcpy for each input and each step along the axes in front of the joined one."""
    axis = next((i for i, size in enumerate(op.output) if size != op.inputs[0][i]), 0)
    memcpys = len(op.inputs) * math.prod(op.output[:axis])
    return {CALL: 1, "input": len(op.inputs), "memcpy": memcpys, "copied element": op.elements}


def gather(op: OpShape) -> Quantities:
    """One memcpy for each index and each step along the axes in front of the gathered one."""
    run = 1
    if len(op.inputs[0]) == len(op.output):
        axis = next((i for i, size in enumerate(op.output) if size != op.inputs[0][i]), 0)
        run = math.prod(op.output[axis + 1 :])
    return {CALL: 1, "memcpy": op.elements // run, "copied byte": op.elements}


def copy(op: OpShape) -> Quantities:
    return {CALL: 1, "copied element": op.elements}


def pad(op: OpShape) -> Quantities:
    return {CALL: 1, "row": image(op.inputs[0])[0], "element": op.elements}


def pad_int16(op: OpShape) -> Quantities:
    """Element by element."""
    return {"pixel": op.pixels, "element": op.elements, "element inside": op.input_elements}


def softmax(op: OpShape) -> Quantities:
    return {CALL: 1, "row": op.pixels, "element": op.elements}
