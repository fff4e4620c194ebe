from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper
from qdq_graphs import PROBABILITY, Build, QdqBuilder, block, built, features_for, image, mean

from export.lowering import lower
from export.to_tflite import to_tflite
from quantize.affine import Affine
from quantize.device_rounding import round_as_device
from quantize.runtimes import OnnxRuntime, TflmRuntime
from quantize.tables import swish_table


def small_weights(b: QdqBuilder, *shape: int) -> npt.NDArray[np.int8]:
    """Few accumulator steps to an output step: where the first of two roundings shows most."""
    return b.rng.integers(-4, 5, shape).astype(np.int8)


def pointwise(activation: str, scale: float = 0.0025) -> Build:
    return lambda b: b.conv(image(b), small_weights(b, 6, 4, 1, 1), Affine(scale, -7), activation)


def depthwise(b: QdqBuilder) -> str:
    return b.conv(image(b), small_weights(b, 4, 1, 3, 1), Affine(0.0021, 11), group=4, pads=[1, 0, 1, 0])


def gate(b: QdqBuilder) -> str:
    x = image(b)
    return b.op("Mul", [x, b.op("Sigmoid", [x], PROBABILITY)], Affine(0.009, -90))


def swish(b: QdqBuilder) -> str:
    """x * sigmoid(x) with nothing quantized in between: a table on the device."""
    x = image(b)
    b.nodes.append(helper.make_node("Sigmoid", [x], ["gate"]))
    return b.op("Mul", [x, "gate"], Affine(0.0173, -112))


def dense(kind: str) -> Build:
    def build(b: QdqBuilder) -> str:
        x = b.input((1, 24), Affine(0.0517, -7))
        weights, bias = b.weights(x, small_weights(b, 24, 10), axis=1)
        return b.op(kind, [x, weights] if kind == "MatMul" else [x, weights, bias], Affine(0.011, 4))

    return build


def average_pool(b: QdqBuilder) -> str:
    """Averages of two: every other one is a tie."""
    affine = Affine(0.0517, -7)
    return b.op("AveragePool", [image(b)], affine, kernel_shape=[1, 2])


CASES = {
    "conv": pointwise(""),
    "conv relu": pointwise("Relu"),
    "conv relu6": pointwise("Relu6"),
    "depthwise": depthwise,
    "mul": gate,
    "gemm": dense("Gemm"),
    "matmul": dense("MatMul"),
    "average pool": average_pool,
    "mean over frequency": mean(17, 2),
    "mean over both": mean(18, 2, 3),
}


def share_equal(model: onnx.ModelProto, tflite: bytes, features: npt.NDArray[np.float32]) -> float:
    device = TflmRuntime(tflite)
    simulated = device.output.quantize(OnnxRuntime(model.SerializeToString())(features))
    answers = device(features)
    assert np.unique(answers).size > 15, "the outputs hardly vary: the comparison would prove nothing"
    return float(np.mean(np.moveaxis(simulated, 1, -1) == answers))


@pytest.mark.parametrize("build", CASES.values(), ids=CASES)
def test_onnxruntime_rounds_as_the_device_does_and_would_not_without(build: Build) -> None:
    model = built(build)
    tflite, features = to_tflite(lower(model)), features_for(model, clips=40)
    assert share_equal(model, tflite, features) < 0.995
    assert share_equal(round_as_device(model), tflite, features) > 0.9995


def test_a_swish_without_a_quantizer_inside_is_one_table_on_both_sides() -> None:
    model = built(swish)
    tflite, features = to_tflite(lower(model)), features_for(model, clips=40)
    assert [op.kind for op in lower(model).ops] == ["Cast", "Add", "Gather"]
    simulated = round_as_device(model)
    assert {node.op_type for node in simulated.graph.node}.isdisjoint({"Sigmoid", "Mul"})
    assert share_equal(simulated, tflite, features) == 1.0
    # One rounding in place of two: nearer to the function than LOGISTIC and MUL, to half a step.
    x = np.arange(-128, 128).astype(np.int8)
    source, result = Affine(0.043, -7), Affine(0.0173, -112)
    real = source.dequantize(x).astype(np.float64)
    error = result.dequantize(swish_table(source, result)) - real / (1 + np.exp(-real))
    inside = np.abs(swish_table(source, result).astype(int)) < 127
    assert inside.sum() > 100
    assert np.abs(error[inside]).max() <= 0.501 * 0.0173


@pytest.mark.parametrize("name", ["conv", "conv relu", "conv relu6", "depthwise", "gemm", "matmul", "average pool"])
def test_onnxruntime_rounds_int16_as_the_device_does_and_would_not_without(name: str) -> None:
    model = built(CASES[name], activations="int16")
    tflite, features = to_tflite(lower(model)), features_for(model, clips=40)
    plain, rounded = (1 - share_equal(m, tflite, features) for m in (model, round_as_device(model)))
    assert plain > 0.004
    assert rounded < plain / 4


def test_a_block_of_layers_is_simulated_node_for_node() -> None:
    model = built(block)
    tflite, features = to_tflite(lower(model)), features_for(model, clips=200)
    plain, rounded = (share_equal(m, tflite, features) for m in (model, round_as_device(model)))
    assert plain < rounded
    assert rounded > 0.9995


def test_a_multiplier_of_one_or_more_is_rounded_once_and_left_alone() -> None:
    model = built(pointwise("", scale=1e-5))
    assert round_as_device(model) == model


def test_the_quantization_itself_is_not_changed() -> None:
    model = built(block)
    simulated = round_as_device(model)
    onnx.checker.check_model(simulated)
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        before, after = ([n for n in m.graph.node if n.op_type == kind] for m in (model, simulated))
        assert before == after
    assert model == built(block)
