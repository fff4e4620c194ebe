"""quantize.hard_swish: the kernel's answers, all 256 of them, for many scales."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from networks import graph_model, run
from onnx import helper
from qdq_graphs import QdqBuilder

from export.lowering import lower
from export.to_tflite import to_tflite
from quantize.affine import Affine, Int8Array
from quantize.device_rounding import round_as_device
from quantize.hard_swish import expand_hard_swish, hard_swish_table, is_representable
from quantize.runtimes import OnnxRuntime, TflmRuntime

ALL_INPUTS = np.arange(-128, 128).astype(np.int8)[np.newaxis]


def affines(count: int) -> list[tuple[Affine, Affine]]:
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(count):
        scale, ratio = np.exp(rng.uniform(np.log(1e-3), 0.0)), np.exp(rng.uniform(np.log(0.01), np.log(4.0)))
        source = Affine(scale, int(rng.integers(-128, 128)))
        pairs.append((source, Affine(scale * ratio, int(rng.integers(-128, 128)))))
    return pairs


def hard_swish(source: Affine, result: Affine) -> onnx.ModelProto:
    b = QdqBuilder()
    return b.model(b.op("HardSwish", [b.input((1, 256), source)], result))


def on_device(model: onnx.ModelProto, features: npt.NDArray[np.float32]) -> Int8Array:
    return TflmRuntime(to_tflite(lower(model)))(features)


def test_the_table_is_what_tflm_answers_and_not_what_rounding_once_gives() -> None:
    rounded_once = []
    for source, result in affines(40):
        assert is_representable(source, result)
        reals = source.dequantize(ALL_INPUTS)
        answers = on_device(hard_swish(source, result), reals)
        np.testing.assert_array_equal(hard_swish_table(source, result), answers[0])
        wanted = result.quantize(reals * np.clip(reals + 3.0, 0.0, 6.0) / 6.0)
        assert np.abs(wanted.astype(int) - answers).max() <= 1
        rounded_once.append(np.array_equal(wanted, answers))
    assert not all(rounded_once)


def test_onnxruntime_looks_the_answers_up() -> None:
    source, result = Affine(0.0517, -7), Affine(0.03, -100)
    model, reals = hard_swish(source, result), source.dequantize(ALL_INPUTS)
    simulated = OnnxRuntime(round_as_device(model).SerializeToString())(reals)
    np.testing.assert_array_equal(result.quantize(simulated), on_device(model, reals))


def test_what_stands_for_it_in_int16_is_the_same_function() -> None:
    model = graph_model([helper.make_node("HardSwish", ["x"], ["y"])], {}, (1, 512), (1, 512))
    expanded, reals = expand_hard_swish(model), np.linspace(-5, 5, 512, dtype=np.float32)[np.newaxis]
    assert [node.op_type for node in expanded.graph.node] == ["Add", "Clip", "Mul", "Mul"]
    np.testing.assert_allclose(run(expanded, reals), run(model, reals), atol=1e-6)


def test_an_output_scale_far_below_the_input_scale_is_told() -> None:
    assert is_representable(Affine(1.0, 0), Affine(1 / 127, 0))
    assert not is_representable(Affine(1.0, 0), Affine(1 / 129, 0))
