from __future__ import annotations

import numpy as np
import onnx
import pytest
from networks import bcresnet_onnx, clips_for, ds_cnn, graph_model, run
from onnx import helper, numpy_helper

from kws.metrics import sqnr_db
from quantize.calibration import calibrate
from quantize.qdq import quantize_model
from quantize.recovery import recover
from quantize.rewrites import rewrite

CLIPS = 40


@pytest.fixture(scope="module")
def bcresnet(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return rewrite(bcresnet_onnx(tmp_path_factory.mktemp("onnx"), "bcresnet-1", 24))


def quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    return quantize_model(model, calibrate(model, clips_for(model, CLIPS)))


def recovered(model: onnx.ModelProto, *, bias: bool = False, adaptive: bool = False) -> onnx.ModelProto:
    clips = clips_for(model, CLIPS)
    return recover(model, quantized(model), clips, bias_correction=bias, adaptive_rounding=adaptive)


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def mean_error(model: onnx.ModelProto, qdq: onnx.ModelProto) -> np.ndarray:
    clips = clips_for(model, CLIPS)
    return np.abs((run(qdq, clips) - run(model, clips)).mean(axis=0))


def coarse(seed: int = 0) -> onnx.ModelProto:
    """Two convolutions with a few large weights, so that the others round badly, on inputs with a mean."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0.0, 0.02, (2, 8, 8, 3, 3))
    weights[:, :, 0, 0, 0] = 4.0
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b"], ["c2"]),
        helper.make_node("GlobalAveragePool", ["c2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    model = graph_model(nodes, {"w1": weights[0], "w2": weights[1], "b": rng.normal(size=8)}, (1, 8, 6, 6), (1, 8))
    return rewrite(model)


def test_int16_gains_as_much_from_its_weights(bcresnet: onnx.ModelProto) -> None:
    clips, others = clips_for(bcresnet, CLIPS), clips_for(bcresnet, CLIPS, seed=1)
    wanted = run(bcresnet, others)

    def sqnr(**chosen: bool) -> float:
        qdq = quantize_model(bcresnet, calibrate(bcresnet, clips), "int16")
        recovered = recover(bcresnet, qdq, clips, **{"bias_correction": False, "adaptive_rounding": False, **chosen})
        return sqnr_db(wanted, run(recovered, others))

    plain, corrected = sqnr(), sqnr(bias_correction=True)
    both = sqnr(bias_correction=True, adaptive_rounding=True)
    assert corrected > plain + 1
    assert both > corrected + 1


def test_nothing_chosen_changes_nothing() -> None:
    model = coarse()
    assert recovered(model) == quantized(model)


def test_bias_correction_takes_the_mean_error_off_the_output() -> None:
    model = coarse()
    before, after = mean_error(model, quantized(model)), mean_error(model, recovered(model, bias=True))
    assert after.max() < 0.2 * before.max()


def test_bias_correction_sees_what_the_layers_before_it_put_right(bcresnet: onnx.ModelProto) -> None:
    before, after = mean_error(bcresnet, quantized(bcresnet)), mean_error(bcresnet, recovered(bcresnet, bias=True))
    assert after.mean() < 0.4 * before.mean()


def test_bias_correction_changes_biases_alone() -> None:
    model = coarse()
    before, after = constants(quantized(model)), constants(recovered(model, bias=True))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed and all(name.endswith("/bias/int") for name in changed)
    assert all(after[name].dtype == before[name].dtype for name in before)


def test_adaptive_rounding_changes_weights_alone_and_by_few_steps() -> None:
    model = coarse()
    before, after = constants(quantized(model)), constants(recovered(model, adaptive=True))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed and all(name.endswith("/weight/int") for name in changed)
    steps = [np.abs(after[name].astype(int) - before[name]).max() for name in changed]
    assert max(steps) <= 3


@pytest.mark.parametrize("bias", [False, True])
def test_adaptive_rounding_gains_where_weights_are_coarse(bias: bool) -> None:
    model = coarse()
    unseen = clips_for(model, 60, seed=9)
    plain = sqnr_db(run(model, unseen), run(recovered(model, bias=bias), unseen))
    assert sqnr_db(run(model, unseen), run(recovered(model, bias=bias, adaptive=True), unseen)) > plain + 1.0


def test_adaptive_rounding_without_bias_correction_keeps_the_mean_too() -> None:
    weights = np.random.default_rng(3).normal(0.0, 0.02, (8, 16, 1, 1))
    weights[:, 0] = 4.0
    model = graph_model([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": weights}, (1, 16, 2, 2), (1, 8, 2, 2))
    clips = clips_for(model, CLIPS) + np.float32(3.0)
    qdq = quantize_model(model, calibrate(model, clips))
    adapted = recover(model, qdq, clips, bias_correction=False, adaptive_rounding=True)
    before, after = (np.abs((run(form, clips) - run(model, clips)).mean(axis=(0, 2, 3))) for form in (qdq, adapted))
    assert after.mean() < 0.3 * before.mean()


def test_dense_layers_are_recovered_too() -> None:
    model = rewrite(ds_cnn(18))
    before, after = constants(quantized(model)), constants(recovered(model, bias=True, adaptive=True))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {"g/weight/int", "g/bias/int"} <= changed


def test_a_matmul_has_no_bias_to_correct() -> None:
    weights = np.random.default_rng(0).normal(size=(6, 3))
    model = graph_model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weights}, (1, 6), (1, 3))
    assert recovered(model, bias=True) == quantized(model)


def test_recovering_is_reproducible_and_leaves_its_arguments_alone() -> None:
    model = coarse()
    qdq, clips = quantized(model), clips_for(model, CLIPS)
    copy = qdq.SerializeToString(deterministic=True)
    both = [recover(model, qdq, clips, bias_correction=True, adaptive_rounding=True) for _ in range(2)]
    assert both[0] == both[1] != qdq
    assert qdq.SerializeToString(deterministic=True) == copy
