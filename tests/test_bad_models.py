"""Models and calibration sets that are odd: a right answer, or one sentence that names the node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import graph_model, run
from onnx import helper
from parity import runnable

from export.build import Source, build
from export.from_onnx import build_onnx
from kws.errors import KwsError
from quantize.calibration import calibrate
from quantize.options import QuantizeOptions
from quantize.pipeline import prepare
from quantize.qdq import quantize_model
from quantize.runtimes import OnnxRuntime, TflmRuntime

CHANNELS, SIZE = 3, 8
Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(40, CHANNELS, SIZE, SIZE)).astype(np.float32)
TAIL = [
    helper.make_node("GlobalAveragePool", ["c"], ["pooled"]),
    helper.make_node("Flatten", ["pooled"], ["flat"]),
    helper.make_node("Gemm", ["flat", "head", "head_bias"], ["y"]),
]


def network(nodes: list[onnx.NodeProto], weights: dict[str, Array], channels: int = CHANNELS) -> onnx.ModelProto:
    """`nodes` from "x" to "c", a global mean and a Gemm."""
    rng = np.random.default_rng(1)
    head = {"head": rng.normal(size=(channels, 4)), "head_bias": rng.normal(size=4)}
    return graph_model([*nodes, *TAIL], {**head, **weights}, (1, CHANNELS, SIZE, SIZE), (1, 4), opset=19)


def layer(*shape: int, group: int = 1, dead: slice = slice(0), bias: float = 0.3, gain: float = 1.0) -> onnx.ModelProto:
    """A convolution with ReLU; the output channels `dead` have weights of zero."""
    weights = gain * np.random.default_rng(2).normal(size=shape)
    weights[dead] = 0.0
    pads = [shape[-1] // 2] * 4
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["wide"], group=group, pads=pads),
        helper.make_node("Relu", ["wide"], ["c"]),
    ]
    return network(nodes, {"w": weights, "b": np.full(shape[0], bias)}, shape[0])


ODD: dict[str, tuple[onnx.ModelProto, Array]] = {
    "dead channel, pointwise": (layer(4, 3, 1, 1, dead=slice(1)), INPUTS),
    "dead channel, depthwise": (layer(3, 1, 3, 3, group=3, dead=slice(1)), INPUTS),
    "dead channel, stem": (layer(4, 3, 5, 5, dead=slice(1)), INPUTS),
    "all channels dead": (layer(4, 3, 3, 3, dead=slice(None)), INPUTS),
    "all channels dead, no bias": (layer(4, 3, 3, 3, dead=slice(None), bias=0.0), INPUTS),
    "inputs all zero": (layer(4, 3, 3, 3), 0 * INPUTS),
    "inputs all 3.0": (layer(4, 3, 3, 3), 0 * INPUTS + 3),
    "inputs all -3.0": (layer(4, 3, 3, 3), 0 * INPUTS - 3),
    "one input": (layer(4, 3, 3, 3), INPUTS[:1]),
    "inputs next to nothing": (layer(4, 3, 3, 3), np.float32(1e-20) * INPUTS),
    "inputs beyond all bounds": (layer(4, 3, 3, 3), np.float32(1e30) * INPUTS),
    "weights next to nothing": (layer(4, 3, 1, 1, gain=1e-30), INPUTS),
    "huge bias": (layer(4, 3, 1, 1, bias=1e20), INPUTS),
    "huge bias on tiny weights": (layer(4, 3, 1, 1, bias=1e6, gain=1e-6), INPUTS),
    "huge negative bias": (layer(4, 3, 1, 1, bias=-1e6), INPUTS),
    "times zero": (network([helper.make_node("Mul", ["x", "k"], ["c"])], {"k": np.zeros(1)}), INPUTS),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_model_or_calibration_set_still_answers_as_float_does(name: str) -> None:
    model, inputs = ODD[name]
    prepared = prepare(model, inputs, QuantizeOptions())
    simulation, tflite = runnable(quantize_model(prepared, calibrate(prepared, inputs)))
    float_logits, device = run(model, inputs), TflmRuntime(tflite)
    answers = device(inputs)
    assert np.abs(device.output.dequantize(answers) - float_logits).max() <= 0.02 * np.abs(float_logits).max()
    steps = np.abs(device.output.quantize(run(simulation, inputs)).astype(int) - answers)
    assert steps.max() <= 1


def _node(kind: str, inputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, ["c"], name="culprit", **attributes)


def _ints(*values: int) -> Array:
    return np.array(values, np.int64)


def _float16_inside() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], name="culprit", to=onnx.TensorProto.FLOAT16),
        helper.make_node("Relu", ["half"], ["relu"]),
        helper.make_node("Cast", ["relu"], ["c"], to=onnx.TensorProto.FLOAT),
    ]
    return network(nodes, {})


def _lstm() -> onnx.ModelProto:
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("Squeeze", ["x", "axis"], ["rows"]),
        helper.make_node("LSTM", ["rows", "w", "r"], ["", "hidden"], name="culprit", hidden_size=4),
        helper.make_node("Transpose", ["hidden"], ["t"], perm=[1, 2, 0]),
        helper.make_node("Unsqueeze", ["t", "axis"], ["c"]),
    ]
    weights = {"axis": _ints(0), "w": rng.normal(size=(1, 16, SIZE)), "r": rng.normal(size=(1, 16, 4))}
    return network(nodes, weights, SIZE)


def _quantized() -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="culprit"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["c"]),
    ]
    return network(nodes, {"s": np.asarray(np.float32(0.05)), "z": np.asarray(np.int8(3))})


POOL: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2]}
REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "float16 inside": (_float16_inside, "Cast node 'culprit': there is no int8 form of this op"),
    "LSTM": (_lstm, "LSTM node 'culprit': there is no int8 form of this op"),
    "quantized already": (_quantized, r"is quantized already \(QuantizeLinear node 'culprit'\)"),
    "resize": (
        lambda: network([_node("Resize", ["x", "", "scales"], mode="nearest")], {"scales": np.array([1.0, 1, 2, 2])}),
        "Resize node 'culprit': there is no int8 form of this op",
    ),
    "average pool, ceil mode": (
        lambda: network([_node("AveragePool", ["x"], ceil_mode=1, **POOL)], {}),
        "AveragePool node 'culprit': auto_pad and ceil_mode",
    ),
    "max pool, ceil mode": (
        lambda: network([_node("MaxPool", ["x"], ceil_mode=1, **POOL)], {}),
        "MaxPool node 'culprit': auto_pad and ceil_mode",
    ),
    "max pool, dilated": (
        lambda: network([_node("MaxPool", ["x"], kernel_shape=[2, 2], dilations=[2, 2])], {}),
        "MaxPool node 'culprit': dilated pools",
    ),
    "some groups": (
        lambda: network(
            [helper.make_node("Concat", ["x", "x"], ["six"], axis=1), _node("Conv", ["six", "w"], group=2)],
            {"w": np.ones((4, 3, 1, 1))},
            4,
        ),
        "Conv node 'culprit': 2 groups over 6 input channels",
    ),
    "concatenated constant": (
        lambda: network([_node("Concat", ["x", "k"], axis=1)], {"k": np.ones((1, 1, SIZE, SIZE))}, 4),
        "Concat node 'culprit': its input 'k' is constant",
    ),
    "slice with a step": (
        lambda: network(
            [_node("Slice", ["x", "start", "end", "axis", "step"])],
            {"start": _ints(0), "end": _ints(8), "axis": _ints(2), "step": _ints(2)},
        ),
        "Slice node 'culprit': only slices with step 1",
    ),
    "reflected padding": (
        lambda: network([_node("Pad", ["x", "pads"], mode="reflect")], {"pads": _ints(0, 0, 1, 1, 0, 0, 1, 1)}),
        "Pad node 'culprit': only padding with a constant 0.0",
    ),
    "division by zero": (
        lambda: network([_node("Div", ["x", "k"])], {"k": np.zeros(1)}),
        "answers the first calibration input with NaN or infinity; look for",
    ),
    "infinite constant": (
        lambda: network(
            [helper.make_node("Constant", [], ["k"], value_float=float("inf")), _node("Mul", ["x", "k"])], {}
        ),
        "answers the first calibration input with NaN or infinity; look for",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_int8_form_is_one_sentence_that_names_it(name: str, tmp_path: Path) -> None:
    make, sentence = REFUSED[name]
    (tmp_path / "model.onnx").write_bytes(make().SerializeToString())
    np.save(tmp_path / "x.npy", INPUTS)
    with pytest.raises(KwsError, match=sentence) as caught:
        build_onnx(tmp_path / "model.onnx", tmp_path / "x.npy", tmp_path / "build", QuantizeOptions())
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert not list(tmp_path.glob("build/*"))


@pytest.mark.slow
def test_a_calibration_set_of_silence_is_said_to_be_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = layer(4, 3, 3, 3)

    def export(path: Path) -> onnx.ModelProto:
        path.write_bytes(model.SerializeToString())
        return model

    def said(calibration: Array) -> str:
        answer = OnnxRuntime(model.SerializeToString())
        source = Source(
            origin="test",
            answer=answer,
            export=export,
            calibration=calibration,
            proof=5 * INPUTS,
            fields={"labels": []},
        )
        build(source, tmp_path / "build", QuantizeOptions())
        return capfd.readouterr().err

    assert "calibrate on clips like those it will hear" in said(0 * INPUTS)
    assert "calibrate on clips like those" not in said(5 * INPUTS)
