from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from networks import bcresnet_onnx, clips_for, ds_cnn, randomise, run
from parity import lively_network, random_clips
from torch import nn

from export.to_onnx import to_onnx
from kws.metrics import sqnr_db
from kws.model import BroadcastedBlock
from quantize.calibration import ChannelRange, activations, calibrate, min_max
from quantize.equalization import balance, equalize
from quantize.fit import fitted_tensors
from quantize.options import QuantizeOptions
from quantize.pipeline import prepare, quantize
from quantize.qdq import quantize_model
from quantize.rewrites import rewrite
from quantize.runtimes import OnnxRuntime

FRAMES = 24


def ranges_of(model: onnx.ModelProto) -> dict[str, ChannelRange]:
    return min_max(activations(model, clips_for(model, 8)))


@pytest.fixture(scope="module")
def bcresnet(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return rewrite(bcresnet_onnx(tmp_path_factory.mktemp("onnx"), "bcresnet-1", 24))


def uneven(folder: Path) -> onnx.ModelProto:
    """A network whose channels differ in range a hundredfold, which nothing in it needs."""
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    randomise(network, seed=1)
    spread = torch.logspace(-1, 1, 8)
    with torch.no_grad():
        first, second, third = (network[index] for index in (0, 2, 4))
        first.weight.mul_(spread.reshape(-1, 1, 1, 1))
        first.bias.mul_(spread)
        second.bias.mul_(spread)
        third.weight.div_(spread.reshape(1, -1, 1, 1))
    return rewrite(to_onnx(network, (1, 1, 12, 10), folder / "uneven.onnx"))


@pytest.mark.parametrize("name", ["bcresnet", "ds_cnn"])
def test_the_function_stays_the_same(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue("bcresnet") if name == "bcresnet" else rewrite(ds_cnn(18))
    equalized = equalize(model, ranges_of(model))
    clips = clips_for(model)
    expected = run(model, clips)
    np.testing.assert_allclose(run(equalized, clips), expected, atol=1e-4 * float(np.abs(expected).max()))
    assert equalized != model
    onnx.checker.check_model(equalized)


def test_uneven_channels_no_longer_cost_accuracy(tmp_path: Path) -> None:
    model = uneven(tmp_path)
    equalized = equalize(model, ranges_of(model))
    clips = clips_for(model, 40, seed=5)
    expected = run(model, clips)

    def int8_sqnr_db(form: onnx.ModelProto) -> float:
        return sqnr_db(expected, run(quantize_model(form, calibrate(form, clips_for(model, 8))), clips))

    assert int8_sqnr_db(equalized) > int8_sqnr_db(model) + 4


def test_only_tensors_between_convolutions_are_scaled(bcresnet: onnx.ModelProto) -> None:
    before, after = ranges_of(bcresnet), ranges_of(equalize(bcresnet, ranges_of(bcresnet)))
    kept = {bcresnet.graph.input[0].name, bcresnet.graph.output[0].name}
    for node in bcresnet.graph.node:
        if node.op_type in ("Sigmoid", "Mul"):
            kept |= {*node.input, *node.output} & set(before)
    assert len(kept) > 30
    for name in kept:
        np.testing.assert_allclose(after[name].high, before[name].high, rtol=1e-3, atol=1e-4)
    additions = [node.output[0] for node in bcresnet.graph.node if node.op_type == "Add"]
    assert all(not np.allclose(after[name].high, before[name].high, rtol=0.05) for name in additions)


def test_equalizing_is_reproducible_and_leaves_its_argument_alone(bcresnet: onnx.ModelProto) -> None:
    copy = bcresnet.SerializeToString(deterministic=True)
    first, second = (equalize(bcresnet, ranges_of(bcresnet)) for _ in range(2))
    assert first == second
    assert bcresnet.SerializeToString(deterministic=True) == copy


def test_rows_that_are_fitted_afterwards_do_not_count(bcresnet: onnx.ModelProto) -> None:
    seen, fitted = ranges_of(bcresnet), fitted_tensors(bcresnet)
    assert len(fitted) == 8 * 6
    uneven_rows = {name: ChannelRange(seen[name].low, np.cumsum(seen[name].high, axis=1)) for name in fitted}
    assert equalize(bcresnet, seen | uneven_rows) == equalize(bcresnet, seen)


def test_one_tensor_alone_gets_equal_ranges() -> None:
    scale = balance(np.zeros((1, 3)), np.array([[1.0, 10.0, 0.1]]))
    ranges = scale * np.array([1.0, 10.0, 0.1])
    assert ranges.max() / ranges.min() < 1.1
    assert np.exp(np.log(scale).mean()) == pytest.approx(1.0)


def test_tensors_that_disagree_meet_in_between() -> None:
    high = np.array([[1.0, 10.0], [10.0, 1.0]])
    np.testing.assert_allclose(balance(np.zeros((2, 2)), high), [1.0, 1.0], rtol=0.06)


def test_dead_channels_stay_finite() -> None:
    scale = balance(np.zeros((2, 3)), np.array([[0.0, 1.0, 4.0], [0.0, 2.0, 4.0]]))
    assert scale[0] == 1.0
    assert np.isfinite(scale).all()
    assert (balance(np.zeros((1, 3)), np.zeros((1, 3))) == 1.0).all()


@pytest.mark.slow
def test_a_channel_that_outgrows_the_others_costs_int8_nothing(tmp_path: Path) -> None:
    network = lively_network("bcresnet-1", "swish", FRAMES)
    clips, _ = random_clips(100, FRAMES, seed=7)

    def sqnr(folder: str, *, equalization: bool) -> float:
        (tmp_path / folder).mkdir()
        model = to_onnx(network, (1, 1, 40, FRAMES), tmp_path / folder / "model.onnx")
        calibration, options = random_clips(24, FRAMES, seed=6)[0], QuantizeOptions(equalization=equalization)
        qdq = quantize(prepare(model, calibration, options), calibration, options)
        return sqnr_db(OnnxRuntime(model.SerializeToString())(clips), OnnxRuntime(qdq.SerializeToString())(clips))

    before = sqnr("before", equalization=True)
    transition = network.blocks[4]
    assert isinstance(transition, BroadcastedBlock) and transition.transition
    norm, frequency = transition.f2[1], transition.f2[3]
    assert isinstance(norm, nn.BatchNorm2d) and isinstance(frequency, nn.Conv2d)
    with torch.no_grad():
        norm.weight[3] *= 50
        norm.bias[3] *= 50
        frequency.weight[3] /= 50
    after, without = (sqnr(f"{chosen}", equalization=chosen) for chosen in (True, False))
    assert after > before - 0.4
    assert without < before - 2
