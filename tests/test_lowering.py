"""QDQ ONNX -> TFLite: every op computes on the device what the QDQ graph computes under onnxruntime."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from qdq_graphs import (
    INPUT,
    OUTPUT,
    PROBABILITY,
    Build,
    QdqBuilder,
    binary,
    block,
    built,
    concatenated,
    constant_operand,
    convolution,
    dense,
    features_for,
    flattened,
    head,
    image,
    mean,
    padded,
    reshaped,
    sliced,
    softmax,
    unary,
)

from export.lowering import lower
from export.to_tflite import to_tflite
from kws.errors import KwsError
from quantize.affine import Affine
from quantize.device_rounding import round_as_device
from quantize.runtimes import IntegerRuntime, OnnxRuntime, TfliteReferenceRuntime, TflmRuntime

# The share of outputs that must be equal. MEAN rounds twice on sums too small for that, averages of few values tie.
EQUAL_SHARE = {"Mean": 0.6, "AveragePool2D": 0.9}
# In int16 the tables of LOGISTIC and SOFTMAX are off by a step here and there, and int64 sums round once.
INT16_EQUAL_SHARE = {"Mean": 0.9, "Logistic": 0.7, "Softmax": 0.8}
Case = tuple[str, Build, list[str]]


def positive_max_pool(b: QdqBuilder) -> str:
    affine = Affine(0.025, -128)
    options = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    return b.op("MaxPool", [b.op("Relu", [image(b, height=8)], affine)], affine, **options)


def row_to_column(b: QdqBuilder) -> str:
    row = b.op("Slice", [image(b), b.ints(2), b.ints(3), b.ints(2)], INPUT)
    return b.op("Reshape", [row, b.ints(1, 4, 7, 1)], INPUT)


CASES: list[Case] = [
    ("conv 1x1", convolution(6, 4, 1, 1), ["Conv2D"]),
    ("conv 3x3 same", convolution(6, 4, 3, 3, pads=[1, 1, 1, 1], activation="Relu"), ["Conv2D"]),
    ("conv 3x3 relu6", convolution(6, 4, 3, 3, pads=[1, 1, 1, 1], activation="Relu6"), ["Conv2D"]),
    ("conv 5x1 valid", convolution(6, 4, 5, 1, strides=[2, 1]), ["Conv2D"]),
    (
        "stem 5x5 stride 2x1",
        convolution(8, 1, 5, 5, channels=1, height=10, strides=[2, 1], pads=[2, 2, 2, 2], activation="Relu"),
        ["Pad", "Conv2D"],
    ),
    ("depthwise 3x1", convolution(4, 1, 3, 1, group=4, pads=[1, 0, 1, 0]), ["DepthwiseConv2D"]),
    (
        "depthwise 3x1 stride 2",
        convolution(4, 1, 3, 1, group=4, strides=[2, 1], pads=[1, 0, 1, 0]),
        ["DepthwiseConv2D"],
    ),
    ("depthwise dilated", convolution(4, 1, 1, 3, group=4, dilations=[1, 2], pads=[0, 2, 0, 2]), ["DepthwiseConv2D"]),
    ("depthwise top pad only", convolution(4, 1, 3, 1, group=4, pads=[1, 0, 0, 0]), ["Pad", "DepthwiseConv2D"]),
    ("depthwise multiplier 3", convolution(12, 1, 3, 3, group=4, pads=[1, 1, 1, 1]), ["DepthwiseConv2D"]),
    ("depthwise whole height", convolution(4, 1, 9, 1, group=4), ["DepthwiseConv2D"]),
    ("add", binary("Add", Affine(0.09, -12)), ["Slice", "Mul", "Add"]),
    ("add relu", binary("Add", Affine(0.0531, -40), "Relu"), ["Slice", "Mul", "Add"]),
    ("mul", binary("Mul", Affine(0.3, 6)), ["Slice", "Mul", "Mul"]),
    ("add constant", constant_operand("Add", 1, 4, 1, 1), ["Add"]),
    ("add constant first", constant_operand("Add", 1, 1, 9, 1, first=True), ["Add"]),
    ("mul constant scalar", constant_operand("Mul"), ["Mul"]),
    ("mul constant whole", constant_operand("Mul", 4, 9, 7), ["Mul"]),
    ("relu", unary("Relu", Affine(0.03, -100)), ["Relu"]),
    ("clip", unary("Clip", Affine(6 / 255, -128), bounds=(0.0, 6.0)), ["Relu"]),
    ("hard-swish", unary("HardSwish", Affine(0.027, -114)), ["HardSwish"]),
    ("sigmoid", unary("Sigmoid", PROBABILITY), ["Logistic"]),
    ("softmax", softmax, ["Softmax"]),
    ("slice height", sliced((2, 7, 2)), ["Slice"]),
    ("slice from the end", sliced((-3, 2**63 - 1, 3)), ["Slice"]),
    ("slice channels and width", sliced((1, 3, 1), (0, -2, 3)), ["Slice"]),
    ("concat height", concatenated(3, 2), ["Slice"] * 3 + ["Concatenation"]),
    ("concat channels", concatenated(4, 1), ["Slice"] * 4 + ["Concatenation"]),
    ("concat width", concatenated(2, -1), ["Slice"] * 2 + ["Concatenation"]),
    ("concat of more than a kernel takes", concatenated(11, 2), ["Slice"] * 11 + ["Concatenation"] * 2),
    ("pad", padded, ["Pad"]),
    ("mean height", mean(17, 2), ["Mean"]),
    ("mean width", mean(18, -1), ["Mean"]),
    ("mean both", mean(18, 2, 3), ["Mean"]),
    ("mean both, rank 2", mean(17, 2, 3, keepdims=0), ["Mean"]),
    ("average pool", unary("AveragePool", INPUT, kernel_shape=[3, 2], strides=[2, 2]), ["AveragePool2D"]),
    ("average pool same", unary("AveragePool", INPUT, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), ["AveragePool2D"]),
    ("max pool", unary("MaxPool", INPUT, kernel_shape=[2, 2], strides=[2, 2]), ["MaxPool2D"]),
    ("max pool same", unary("MaxPool", INPUT, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), ["MaxPool2D"]),
    ("max pool uneven, of what is positive", positive_max_pool, ["Relu", "Pad", "MaxPool2D"]),
    ("flattened image", flattened("Gemm"), ["Reshape", "FullyConnected"]),
    ("reshape of a row", row_to_column, ["Slice", "Reshape"]),
    ("flatten", head("Flatten"), ["Mean", "Reshape"]),
    ("reshape", head("Reshape"), ["Mean", "Reshape"]),
    ("squeeze", head("Squeeze"), ["Mean", "Reshape"]),
    ("gemm", dense("Gemm"), ["FullyConnected"]),
    ("gemm transposed, relu", dense("Gemm", "Relu", transposed=True), ["FullyConnected"]),
    ("matmul", dense("MatMul"), ["FullyConnected"]),
]


# HARD_SWISH has no int16, and ReduceMean had its axes elsewhere before the opset that int16 needs.
INT16_CASES = [case for case in CASES if case[0] not in ("hard-swish", "mean height", "mean both, rank 2")]


def steps_apart(
    model: onnx.ModelProto, runtime: IntegerRuntime, features: npt.NDArray[np.float32]
) -> npt.NDArray[np.int_]:
    """Steps between the QDQ graph under onnxruntime (in NHWC) and `runtime`; both must have something to say."""
    expected = np.moveaxis(runtime.output.quantize(OnnxRuntime(model.SerializeToString())(features)), 1, -1)
    answers = runtime(features)
    assert expected.shape == answers.shape
    assert np.unique(expected).size > 15, "the outputs hardly vary: the comparison would prove nothing"
    return np.abs(expected.astype(int) - answers)


def agrees(steps: npt.NDArray[np.int_], equal_share: float) -> bool:
    return bool(steps.max() <= 1 and np.mean(steps == 0) > equal_share)


@pytest.mark.parametrize(("build", "kinds"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_tflm_computes_what_the_qdq_graph_says(build: Build, kinds: list[str]) -> None:
    model = built(build)
    graph = lower(model)
    assert [op.kind for op in graph.ops] == kinds
    steps = steps_apart(model, TflmRuntime(to_tflite(graph)), features_for(model))
    assert agrees(steps, min(EQUAL_SHARE.get(kind, 0.95) for kind in kinds))


@pytest.mark.parametrize(("build", "kinds"), [case[1:] for case in INT16_CASES], ids=[case[0] for case in INT16_CASES])
def test_tflm_computes_in_int16_what_the_qdq_graph_says(build: Build, kinds: list[str]) -> None:
    model = built(build, activations="int16")
    graph = lower(model)
    assert [op.kind for op in graph.ops] == kinds
    assert {tensor.dtype for tensor in graph.tensors.values()} <= {"int16", "int8", "int64"}
    steps = steps_apart(round_as_device(model), TflmRuntime(to_tflite(graph)), features_for(model))
    assert agrees(steps, min(INT16_EQUAL_SHARE.get(kind, 0.998) for kind in kinds))


@pytest.mark.slow
def test_tensorflow_lite_reference_kernels_agree_with_tflm_in_int16() -> None:
    for name, build, _ in [*INT16_CASES, ("block", block, [])]:
        model = built(build, activations="int16")
        tflite, features = to_tflite(lower(model)), features_for(model)
        tflm, reference = TflmRuntime(tflite)(features), TfliteReferenceRuntime(tflite)(features)
        assert tflm.shape == reference.shape, name
        assert np.abs(tflm.astype(int) - reference).max() <= 1, name
        assert np.unique(tflm).size > 15, name


def test_a_block_of_bc_resnet_survives_the_whole_way() -> None:
    model = built(block)
    graph = lower(model)
    assert [op.kind for op in graph.ops].count("Concatenation") == 1
    steps = steps_apart(model, TflmRuntime(to_tflite(graph)), features_for(model))
    assert agrees(steps, 0.9)


def test_a_block_of_bc_resnet_survives_in_int16() -> None:
    model = built(block, activations="int16")
    steps = steps_apart(round_as_device(model), TflmRuntime(to_tflite(lower(model))), features_for(model))
    assert agrees(steps, 0.95)


@pytest.mark.parametrize("wrong", [Affine(0.31, 5), Affine(0.3, 6)], ids=["scale", "zero point"])
def test_a_wrong_scale_or_zero_point_is_seen_by_the_comparison(wrong: Affine) -> None:
    right = built(convolution(6, 4, 1, 1))
    tflite = to_tflite(lower(built(convolution(6, 4, 1, 1, affine=wrong))))
    device = TflmRuntime(tflite)
    device.output = OUTPUT
    steps = steps_apart(right, device, features_for(right))
    assert not agrees(steps, 0.95)


def test_one_pad_serves_all_convolutions_that_need_it() -> None:
    def build(b: QdqBuilder) -> str:
        x = image(b)
        options = {"group": 4, "pads": [1, 0, 0, 0]}
        branches = [b.conv(x, b.random_int8(4, 1, 3, 1), Affine(0.3, 5), **options) for _ in range(2)]
        return b.op("Add", branches, Affine(0.5, 1))

    assert [op.kind for op in lower(built(build)).ops] == ["Pad", "DepthwiseConv2D", "DepthwiseConv2D", "Add"]


def unquantized(b: QdqBuilder) -> str:
    return b.op("Relu", [b.raw("Sigmoid", [image(b)])], PROBABILITY)


def two_readers(b: QdqBuilder) -> str:
    inner = b.raw("Sigmoid", [image(b)])
    return b.op("Add", [b._quantized(inner, PROBABILITY), b._quantized(inner, PROBABILITY)], PROBABILITY)


def heavy(b: QdqBuilder) -> str:
    """Weights of 127 everywhere, into an output whose scale makes kernels shift accumulators left."""
    return b.conv(image(b), np.full((6, 4, 9, 7), 127, np.int8), Affine(1e-9, 0))


def extreme_weight(b: QdqBuilder) -> str:
    return b.conv(image(b), np.full((6, 4, 1, 1), -128, np.int8), Affine(0.3, 0))


def wrong_bias_scale(b: QdqBuilder) -> str:
    x = image(b)
    weights, _ = b.weights(x, b.random_int8(6, 4, 1, 1))
    bias = b.dequantized(np.ones(6, np.int32), Affine(np.full(6, 0.5), 0, axis=0))
    return b.op("Conv", [x, weights, bias], Affine(0.3, 0))


def weights_by_input_channel(b: QdqBuilder) -> str:
    x = image(b)
    weights = b.dequantized(b.random_int8(4, 4, 1, 1), Affine(np.full(4, 0.01), 0, axis=1))
    return b.op("Conv", [x, weights], Affine(0.3, 0))


def computed_weights(b: QdqBuilder) -> str:
    x = image(b, height=1)
    return b.op("Conv", [x, x], Affine(0.3, 0))


def missing_zero_point(b: QdqBuilder) -> str:
    b.shape = (1, 4, 3, 3)
    return b.raw(
        "DequantizeLinear", [b.raw("QuantizeLinear", ["log_mel", b.const(np.float32(0.1))]), b.const(np.float32(0.1))]
    )


def bad_scale(value: float) -> Build:
    def build(b: QdqBuilder) -> str:
        x = image(b)
        b.initializers[0].CopyFrom(onnx.numpy_helper.from_array(np.float32(value), b.initializers[0].name))
        return x

    return build


def ranks(b: QdqBuilder) -> str:
    x = image(b, width=4)
    return b.op("Add", [x, b.op("ReduceMean", [x], INPUT, axes=[2, 3], keepdims=0)], INPUT)


def requantized(b: QdqBuilder) -> str:
    return b._quantized(image(b), Affine(0.1, 0))


def sigmoid_of_outliers(b: QdqBuilder) -> str:
    return b.op("Sigmoid", [b.input((1, 4), Affine(8.0, 0))], PROBABILITY)


def raw_input(b: QdqBuilder) -> str:
    """The convolution reads the features as they came, not as they were quantized."""
    x = image(b)
    return b.op("Conv", ["log_mel", *b.weights(x, b.random_int8(6, 4, 1, 1))], OUTPUT)


def raw_integers(b: QdqBuilder) -> str:
    """The slice reads int8 between QuantizeLinear and DequantizeLinear."""
    x = image(b)
    inner = b._quantized(b.raw("Relu", [x]), INPUT)
    (quantized,) = (node.input[0] for node in b.nodes if node.output[0] == inner)
    return b.op("Slice", [quantized, b.ints(0), b.ints(1), b.ints(1)], INPUT)


REFUSALS: list[tuple[str, Build, str]] = [
    ("unknown op", unary("Tanh", INPUT), "Tanh node.*no int8 counterpart"),
    ("no quantizer between ops", unquantized, "Sigmoid node.*without QuantizeLinear"),
    ("two quantizers behind one op", two_readers, "Sigmoid node.*one QuantizeLinear"),
    ("no zero point", missing_zero_point, "QuantizeLinear node.*int16 zero point"),
    ("scale zero", bad_scale(0.0), "QuantizeLinear node.*not finite and positive"),
    ("scale NaN", bad_scale(float("nan")), "QuantizeLinear node.*not finite and positive"),
    ("scale infinite", bad_scale(float("inf")), "QuantizeLinear node.*not finite and positive"),
    ("input that is not quantized", raw_input, "QuantizeLinear node.*not alone in reading"),
    ("integers between quantizers", raw_integers, "Slice node.*does not come from DequantizeLinear"),
    ("requantization", requantized, "QuantizeLinear node.*differs from"),
    ("accumulator overflow", heavy, "Conv node.*overflow int32"),
    ("weight -128", extreme_weight, "Conv node.*-127..127"),
    ("bias scale", wrong_bias_scale, "Conv node.*bias scale"),
    ("weight scale axis", weights_by_input_channel, "Conv node.*one scale per output channel"),
    ("computed weights", computed_weights, "Conv node.*must be a quantized constant"),
    ("two groups", convolution(4, 2, 1, 1, group=2), "Conv node.*2 groups"),
    ("automatic padding", convolution(6, 4, 3, 3, auto_pad="SAME_UPPER"), "Conv node.*auto_pad"),
    ("window too large", convolution(6, 4, 10, 1), "Conv node.*larger than its input"),
    ("sigmoid scale", unary("Sigmoid", Affine(1 / 128, -128)), "Sigmoid node.*1/256"),
    ("sigmoid outlier", sigmoid_of_outliers, "Sigmoid node.*too large"),
    ("max pool scale", unary("MaxPool", Affine(0.1, 0), kernel_shape=[2, 2]), "MaxPool node.*differ in scale"),
    ("max pool uneven pads", unary("MaxPool", INPUT, kernel_shape=[2, 2], pads=[1, 1, 0, 0]), "MaxPool node.*SAME"),
    ("counted padding", unary("AveragePool", INPUT, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1), "counts"),
    ("ceil mode", unary("MaxPool", INPUT, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), "MaxPool node.*ceil_mode"),
    ("mean over channels", mean(17, 1), "ReduceMean node.*height and width"),
    ("softmax over height", unary("Softmax", PROBABILITY, axis=2), "Softmax node.*channels"),
    ("flattened image as output", unary("Flatten", INPUT), "output.*is a flattened image"),
    ("flattened image in an Add", flattened("Add"), "Add node.*put a Gemm or MatMul right behind"),
    ("reshape of an image", reshaped(1, 6, 6, 7), "Reshape node.*would reorder values"),
    ("reshape to rank 3", reshaped(1, 4, 63), "Reshape node.*only to"),
    ("clip below its scale", unary("Clip", INPUT, bounds=(0.0, 1.0)), "Clip node.*would not end at its upper bound"),
    ("hard-swish into a tiny scale", unary("HardSwish", Affine(1e-4, 0)), "HardSwish node.*far too small"),
    ("operands of different rank", ranks, "Add node.*differ in rank"),
    ("tiny output scale", binary("Add", Affine(1e-9, 0)), "Add node.*far too small"),
    ("empty slice", sliced((5, 5, 2)), "Slice node.*(selects nothing|not valid)"),
]


@pytest.mark.parametrize(("build", "sentence"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS])
def test_what_a_device_cannot_compute_is_refused(build: Build, sentence: str) -> None:
    with pytest.raises(KwsError, match=sentence):
        lower(built(build))


def weights_by_output(b: QdqBuilder) -> str:
    x = b.input((1, 24), INPUT)
    return b.op("MatMul", [x, b.dequantized(b.random_int8(24, 3), Affine([0.01, 0.02, 0.03], axis=1))], OUTPUT)


INT16_REFUSALS: list[tuple[str, Build, str]] = [
    ("hard-swish", unary("HardSwish", OUTPUT), "HardSwish node.*no int16 kernel"),
    ("dense with a scale for each output", weights_by_output, "MatMul node.*one scale for all outputs"),
    ("multiplier beyond int16 kernels", heavy, "Conv node.*what int16 kernels count in"),
    ("sigmoid outlier", lambda b: b.op("Sigmoid", [b.input((1, 4), Affine(800.0))], PROBABILITY), "too large"),
    ("sigmoid scale", unary("Sigmoid", Affine(1 / 128, -128)), "Sigmoid node.*1/32768"),
    ("tiny output scale", binary("Add", Affine(1e-6, 0)), "Add node.*far too small"),
    ("max pool uneven pads", unary("MaxPool", INPUT, kernel_shape=[2, 2], pads=[1, 1, 0, 0]), "MaxPool node.*SAME"),
]


@pytest.mark.parametrize(
    ("build", "sentence"), [case[1:] for case in INT16_REFUSALS], ids=[case[0] for case in INT16_REFUSALS]
)
def test_what_int16_kernels_cannot_compute_is_refused(build: Build, sentence: str) -> None:
    with pytest.raises(KwsError, match=sentence):
        lower(built(build, activations="int16"))


def test_models_that_are_not_whole_are_refused() -> None:
    model = built(convolution(6, 4, 1, 1))
    del model.graph.node[2:]
    with pytest.raises(KwsError, match="not valid"):
        lower(model)
    external = built(convolution(6, 4, 1, 1))
    external.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(KwsError, match="other files"):
        lower(external)
    dynamic = built(convolution(6, 4, 1, 1))
    dynamic.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "frames"
    with pytest.raises(KwsError, match="fixed shape"):
        lower(dynamic)
