"""quantize.qdq: a graph that onnxruntime runs as the device would, close to the float model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from networks import bcresnet_onnx, clips_for, ds_cnn, graph_model, run
from onnx import helper, numpy_helper

from kws.errors import KwsError
from kws.metrics import agreement, sqnr_db
from quantize.activation_affines import LOGIT_HEADROOM, activation_affines
from quantize.affine import PROBABILITY_AFFINES, Affine, StepType, symmetric_scales
from quantize.calibration import Range, calibrate
from quantize.fit import fit_stacked_rows
from quantize.qdq import BIAS_LIMIT, quantize_model, scales_for_bias
from quantize.recovery import recover
from quantize.rewrites import rewrite

Array = npt.NDArray[Any]


def quantized(model: onnx.ModelProto, clips: npt.NDArray[np.float32]) -> onnx.ModelProto:
    return quantize_model(model, calibrate(model, clips))


def constants(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.fixture(scope="module", params=[("bcresnet-1", 24), ("bcresnet-1.5", 17)], ids=lambda param: param[0])
def bcresnet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    name, frames = request.param
    model = rewrite(bcresnet_onnx(tmp_path_factory.mktemp("onnx"), name, frames))
    return fit_stacked_rows(model, clips_for(model, count=32))


def test_bcresnet_stays_close_to_float_on_unseen_clips(bcresnet: onnx.ModelProto) -> None:
    model = quantized(bcresnet, clips_for(bcresnet, count=32))
    unseen = clips_for(bcresnet, count=64, seed=1)
    float_logits, int8_logits = run(bcresnet, unseen), run(model, unseen)
    assert sqnr_db(float_logits, int8_logits) > 25.0
    assert agreement(float_logits, int8_logits) > 0.9


def test_every_activation_of_bcresnet_is_int8_but_inside_one_op_of_the_device(bcresnet: onnx.ModelProto) -> None:
    model = quantized(bcresnet, clips_for(bcresnet, count=2))
    readers: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    computing = [n for n in model.graph.node if n.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    for node in computing:
        following = readers[node.output[0]]
        assert following == ["QuantizeLinear"] or (node.op_type in ("Conv", "Add") and following == ["Relu"])
    assert model.graph.node[0].op_type == "QuantizeLinear"
    assert model.graph.node[-1].op_type == "DequantizeLinear"
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["log_mel", "logits"]


def test_quantizing_is_reproducible(bcresnet: onnx.ModelProto) -> None:
    clips = clips_for(bcresnet, count=2)
    first, second = (quantized(bcresnet, clips).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_bcresnet_in_int16_is_closer_to_float_by_far(bcresnet: onnx.ModelProto) -> None:
    clips, unseen = clips_for(bcresnet, count=32), clips_for(bcresnet, count=64, seed=1)
    ranges, expected = calibrate(bcresnet, clips), run(bcresnet, unseen)

    def sqnr_of(kind: StepType) -> float:
        qdq = quantize_model(bcresnet, ranges, kind)
        corrected = recover(bcresnet, qdq, clips, bias_correction=True, adaptive_rounding=False)
        return sqnr_db(expected, run(corrected, unseen))

    assert sqnr_of("int16") > sqnr_of("int8") + 6.0


def test_int16_is_symmetric_with_room_beyond_the_range_but_where_a_clip_ends_it() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Clip", ["r", "zero", "five"], ["c"]),
        helper.make_node("Flatten", ["c"], ["y"]),
    ]
    model = graph_model(nodes, {"zero": np.array(0.0), "five": np.array(5.0)}, (1, 1, 2, 2), (1, 4))
    ranges = {"x": Range(-8.0, 3.0), "r": Range(0.0, 9.0), "c": Range(0.0, 5.0), "y": Range(0.0, 5.0)}
    affines = activation_affines(model, ranges, "int16")
    assert {affine.zero_point for affine in affines.values()} == {0}
    spans = {name: float(affine.scale) * 32767 for name, affine in affines.items()}
    assert spans == pytest.approx({"x": 16.0, "r": 18.0, "c": 5.0, "y": 5.0})
    found = quantize_model(model, ranges, "int16")
    assert (found.opset_import[0].version, found.ir_version) == (21, 10)
    assert {array.dtype for name, array in constants(found).items() if name.endswith("/zero_point")} == {np.dtype("i2")}


@pytest.mark.parametrize("last", [None, "Softmax", "Sigmoid"])
def test_int8_leaves_room_beyond_the_range_for_logits_alone(last: str | None) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Add", ["h", "h"], ["y"])]
    if last is not None:
        nodes[1].output[0] = "logits"
        nodes.append(helper.make_node(last, ["logits"], ["y"]))
    model = graph_model(nodes, {}, (1, 2), (1, 2))
    ranges = {"x": Range(-8.0, 3.0), "h": Range(0.0, 3.0), "y": Range(0.0, 6.0), "logits": Range(0.0, 6.0)}
    logits = "y" if last is None else "logits"
    spans = {name: float(affine.scale) * 255 for name, affine in activation_affines(model, ranges).items()}
    wanted = {"x": 11.0, "h": 3.0, "y": 255 / 256} | {logits: 6.0 * LOGIT_HEADROOM}
    assert {name: spans[name] for name in wanted} == pytest.approx(wanted)


def test_int8_leaves_no_room_beyond_a_clip_at_the_end() -> None:
    nodes = [helper.make_node("Clip", ["x", "zero", "five"], ["c"]), helper.make_node("Flatten", ["c"], ["y"])]
    model = graph_model(nodes, {"zero": np.array(0.0), "five": np.array(5.0)}, (1, 1, 2, 2), (1, 4))
    affines = activation_affines(model, {"x": Range(-8.0, 9.0), "c": Range(0.0, 5.0), "y": Range(0.0, 5.0)})
    assert float(affines["y"].scale) * 255 == pytest.approx(5.0)


def test_int16_needs_an_opset_whose_ops_mean_the_same_in_21() -> None:
    model = graph_model([helper.make_node("Relu", ["x"], ["y"])], {}, (1, 2), (1, 2), opset=17)
    with pytest.raises(KwsError, match="has opset 17; export it with 18 or newer for int16"):
        quantize_model(model, {"x": Range(-1, 1), "y": Range(0, 1)}, "int16")


def test_beside_int16_a_dense_layer_has_one_scale_and_a_convolution_one_a_channel() -> None:
    model = rewrite(ds_cnn(opset=18))
    ranges = calibrate(model, clips_for(model, count=16))
    found = constants(quantize_model(model, ranges, "int16"))
    assert np.unique(found["g/weight/scale"]).size == 1
    assert np.unique(found["c3/weight/scale"]).size == 6
    assert found["y/scale"] == np.float32(1 / 32768)
    unseen = clips_for(model, count=32, seed=1)
    assert sqnr_db(run(model, unseen), run(quantize_model(model, ranges, "int16"), unseen)) > 25.0


def test_conv_weights_are_symmetric_per_channel_and_bias_has_their_scale() -> None:
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(size=(3, 2, 3, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    weights *= np.array([0.01, 1.0, 100.0], dtype=np.float32)[:, None, None, None]
    model = graph_model(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"])], {"w": weights, "b": bias}, (1, 2, 5, 5), (1, 3, 3, 3)
    )
    found = constants(quantized(model, clips_for(model)))
    assert found["y/weight/int"].dtype == np.int8
    assert np.abs(found["y/weight/int"]).max(axis=(1, 2, 3)).tolist() == [127, 127, 127]
    np.testing.assert_allclose(
        found["y/weight/int"] * found["y/weight/scale"][:, None, None, None],
        weights,
        atol=float(found["y/weight/scale"].max()) / 2,
    )
    assert found["y/bias/int"].dtype == np.int32
    np.testing.assert_array_equal(found["y/bias/scale"], found["x/scale"] * found["y/weight/scale"])
    assert np.all(np.abs(found["y/bias/int"] * found["y/bias/scale"] - bias) <= 0.501 * found["y/bias/scale"])


def test_conv_without_bias_gets_zeros() -> None:
    model = graph_model(
        [helper.make_node("Conv", ["x", "w"], ["y"])], {"w": np.ones((2, 1, 1, 1))}, (1, 1, 3, 3), (1, 2, 3, 3)
    )
    assert constants(quantized(model, clips_for(model)))["y/bias/int"].tolist() == [0, 0]


def test_ds_cnn_with_pool_gemm_and_softmax() -> None:
    model = rewrite(ds_cnn(opset=17))
    int8_model = quantized(model, clips_for(model, count=16))
    unseen = clips_for(model, count=32, seed=1)
    assert sqnr_db(run(model, unseen), run(int8_model, unseen)) > 20.0
    found = constants(int8_model)
    assert Affine(found["y/scale"], int(found["y/zero_point"])) == PROBABILITY_AFFINES["int8"]
    assert len(found["g/weight/scale"]) == 3
    pooled = [node for node in int8_model.graph.node if node.op_type in ("AveragePool", "Reshape")]
    assert len(pooled) == 2
    assert found["r3/scale"] == found["p/scale"] == found["f/scale"]


def test_relu6_and_matmul() -> None:
    rng = np.random.default_rng(0)
    model = graph_model(
        [
            helper.make_node("Add", ["x", "c"], ["a"]),
            helper.make_node("Clip", ["a", "low", "high"], ["r"]),
            helper.make_node("MatMul", ["r", "w"], ["y"]),
        ],
        {"c": rng.normal(size=(1, 4)), "low": np.float32(0), "high": np.float32(6), "w": rng.normal(size=(4, 3))},
        (1, 4),
        (1, 3),
    )
    clips = 5 * clips_for(model, count=32)
    int8_model = quantized(model, clips)
    assert sqnr_db(run(model, clips), run(int8_model, clips)) > 30.0
    assert "a/int8" not in [name for node in int8_model.graph.node for name in node.output]


def test_relu_of_a_tensor_that_is_read_elsewhere_keeps_its_own_quantization() -> None:
    model = graph_model(
        [
            helper.make_node("Add", ["x", "c"], ["a"]),
            helper.make_node("Relu", ["a"], ["r"]),
            helper.make_node("Mul", ["a", "r"], ["y"]),
        ],
        {"c": np.ones((1, 4))},
        (1, 4),
        (1, 4),
    )
    clips = clips_for(model, count=32)
    int8_model = quantized(model, clips)
    assert {"a/int8", "r/int8", "y/int8"} <= {name for node in int8_model.graph.node for name in node.output}
    assert sqnr_db(run(model, clips), run(int8_model, clips)) > 30.0


def test_pad_pool_and_mean() -> None:
    model = graph_model(
        [
            helper.make_node("Pad", ["x", "pads", "zero"], ["p"]),
            helper.make_node("MaxPool", ["p"], ["m"], kernel_shape=[2, 2]),
            helper.make_node("ReduceMean", ["m", "axes"], ["y"]),
        ],
        {"pads": np.array([0, 0, 1, 1, 0, 0, 0, 1]), "zero": np.float32(0), "axes": np.array([2, 3])},
        (1, 3, 4, 5),
        (1, 3, 1, 1),
    )
    clips = clips_for(model, count=32)
    int8_model = quantized(model, clips)
    assert sqnr_db(run(model, clips), run(int8_model, clips)) > 30.0
    found = constants(int8_model)
    assert found["x/scale"] == found["p/scale"] == found["m/scale"] > found["y/scale"]


def test_names_that_collide_with_those_of_quantization_are_refused() -> None:
    model = graph_model(
        [helper.make_node("Reshape", ["x", "x/scale"], ["y"])], {"x/scale": np.array([2, 1])}, (1, 2), (2, 1)
    )
    with pytest.raises(KwsError, match="Two tensors of the ONNX model are called 'x/scale'"):
        quantized(model, clips_for(model))
    model = graph_model(
        [helper.make_node("Relu", ["x"], ["x/int8"]), helper.make_node("Relu", ["x/int8"], ["y"])], {}, (1, 2), (1, 2)
    )
    with pytest.raises(KwsError, match="quantized ONNX model is not valid"):
        quantized(model, clips_for(model))


@pytest.mark.parametrize("dead", ["one channel", "all channels"])
def test_dead_channels_and_constant_activations_keep_their_value(dead: str) -> None:
    weights = np.random.default_rng(0).normal(size=(2, 1, 1, 1))
    weights[slice(None) if dead == "all channels" else 0] = 0.0
    model = graph_model(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"])],
        {"w": weights, "b": np.array([0.75, -0.5])},
        (1, 1, 2, 2),
        (1, 2, 2, 2),
    )
    clips = clips_for(model)
    difference = run(model, clips) - run(quantized(model, clips), clips)
    assert np.abs(difference).max() < 0.02


def test_bias_far_above_its_weights_is_still_right() -> None:
    model = graph_model(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"])],
        {"w": np.full((1, 1, 1, 1), 1e-9), "b": np.array([10.0])},
        (1, 1, 2, 2),
        (1, 1, 2, 2),
    )
    clips = clips_for(model)
    int8_model = quantized(model, clips)
    np.testing.assert_allclose(run(int8_model, clips), 10.0, rtol=0.01)
    assert 0 < constants(int8_model)["y/bias/int"][0] <= BIAS_LIMIT * 1.001


def test_scale_is_raised_only_in_the_channel_whose_bias_needs_it() -> None:
    wanted = symmetric_scales(np.full((2, 1), 1e-9, dtype=np.float32), 0)
    scales = scales_for_bias(wanted, np.array([10.0, 0.0], dtype=np.float32), np.array(0.1, dtype=np.float32))
    assert scales[0] > wanted[0]
    assert scales[1] == wanted[1]


def test_concatenation_of_fixed_and_free_scales_is_refused_but_of_fixed_ones_is_not() -> None:
    def model(second: str) -> onnx.ModelProto:
        return graph_model(
            [
                helper.make_node("Sigmoid", ["x"], ["s"]),
                helper.make_node(second, ["x"], ["t"]),
                helper.make_node("Concat", ["s", "t"], ["y"], axis=1),
            ],
            {},
            (1, 2),
            (1, 4),
        )

    assert (
        activation_affines(model("Sigmoid"), calibrate(model("Sigmoid"), clips_for(model("Sigmoid"))))["y"]
        == PROBABILITY_AFFINES["int8"]
    )
    with pytest.raises(KwsError, match="'s', 't' share one scale"):
        quantized(model("Relu"), clips_for(model("Relu")))


def one_node(
    op_type: str, weights: dict[str, Array] | None = None, **attributes: object
) -> Callable[[], onnx.ModelProto]:
    node = helper.make_node(op_type, ["x", *(weights or {})], ["y"], name="culprit", **attributes)
    return lambda: graph_model([node], weights or {}, (1, 2), (1, 2))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (one_node("Erf"), "Erf node 'culprit': there is no int8 form"),
        (one_node("Clip", {"low": np.float32(-1.0)}), "Clip node 'culprit': only a Clip from 0 to a constant"),
        (one_node("Gemm", {"w": np.ones((2, 2))}, alpha=2.0), "Gemm node 'culprit': transA, alpha and beta"),
        (one_node("MatMul", {"w": np.full((2, 2), np.nan)}), "MatMul node 'culprit': The weights hold NaN"),
        (one_node("Concat", {"c": np.ones((1, 0))}, axis=1), "Concat node 'culprit': its input 'c' is constant"),
    ],
)
def test_what_int8_cannot_do_is_refused_by_name(make: Callable[[], onnx.ModelProto], reason: str) -> None:
    with pytest.raises(KwsError, match=reason):
        quantize_model(make(), {"x": Range(-1.0, 1.0), "y": Range(-1.0, 1.0)})


def test_weights_that_are_computed_are_refused() -> None:
    model = graph_model(
        [helper.make_node("Relu", ["x"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])], {}, (2, 2), (2, 2)
    )
    with pytest.raises(KwsError, match="its weights are not constant"):
        quantize_model(model, {name: Range(-1.0, 1.0) for name in "xwy"})


def test_missing_and_infinite_ranges_are_refused(tmp_path: Path) -> None:
    model = graph_model([helper.make_node("Relu", ["x"], ["y"])], {}, (1, 2), (1, 2))
    with pytest.raises(KwsError, match="'y' has no range"):
        quantize_model(model, {"x": Range(0.0, 1.0)})
    with pytest.raises(KwsError, match=r"Tensor 'y': The range 0\.0 to inf"):
        quantize_model(model, {"x": Range(0.0, 1.0), "y": Range(0.0, float("inf"))})
