"""QDQ ONNX under onnxruntime, TFLM and TensorFlow Lite's reference kernels answer alike, op by op and as networks.

Inputs are random; how many each case gets, the networks more with KWS_PARITY_INPUTS (`make parity`: 1,000 each):

| case | frames | inputs |
| --- | --- | --- |
| each form of each supported op, and a block of them | - | 1,000 |
| BC-ResNet-1, each activation | 20 | 1,000 |
| BC-ResNet-1.5, -2 | 12 | 300 |
| BC-ResNet-3 | 9 | 150 |
| BC-ResNet-6, -8 | 6, 5 | 60 |
| BC-ResNet-1 trained on synthetic speech | 98 | 200 clips of it |
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from parity import (
    lively_network,
    parity,
    quantized_network,
    random_clips,
    runnable,
    with_truncation,
    with_wrong_weight_scale,
    with_wrong_zero_point,
)
from qdq_graphs import Build, block, built, features_for
from test_lowering import CASES

from kws.config import FeatureConfig, from_dict
from kws.dataset import load_dataset_for
from kws.features import features_of_clips
from kws.model import ACTIVATION_LAYERS
from quantize.ops import SUPPORTED_OPS

OP_INPUTS = 1000
# By network: frames, inputs.
NETWORKS = {
    "bcresnet-1": (20, 1000),
    "bcresnet-1.5": (12, 300),
    "bcresnet-2": (12, 300),
    "bcresnet-3": (9, 150),
    "bcresnet-6": (6, 60),
    "bcresnet-8": (5, 60),
}
SPEECH_CLIPS = 200
# The share of outputs that must be equal; MEAN rounds in a way of its own that the QDQ graph does not follow.
EQUAL, EQUAL_MEAN = 0.999, 0.7
GRAPHS = [*CASES, ("block", block, ["Mean"])]
Models = tuple[onnx.ModelProto, onnx.ModelProto, bytes]


@functools.cache
def network_models(name: str, activation: str) -> Models:
    """QDQ graph, simulation of the device, and flatbuffer."""
    frames, _ = NETWORKS[name]
    with tempfile.TemporaryDirectory() as folder:
        qdq = quantized_network(lively_network(name, activation, frames), frames, Path(folder))
    return (qdq, *runnable(qdq))


def test_every_supported_op_is_among_the_cases() -> None:
    tested = {node.op_type for _, build, _ in CASES for node in built(build).graph.node}
    assert tested - {"QuantizeLinear", "DequantizeLinear"} == SUPPORTED_OPS


@pytest.mark.parametrize(("build", "kinds"), [case[1:] for case in GRAPHS], ids=[case[0] for case in GRAPHS])
def test_an_op_answers_random_inputs_alike_in_all_runtimes(build: Build, kinds: list[str]) -> None:
    qdq = built(build)
    found = parity(*runnable(qdq), features_for(qdq, clips=OP_INPUTS))
    equal = EQUAL_MEAN if "Mean" in kinds else EQUAL
    assert not found.problems(distinct=int(0.99 * OP_INPUTS), winners=3, equal=equal)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATION_LAYERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_answers_random_inputs_alike_in_all_runtimes(name: str, activation: str) -> None:
    frames, inputs = NETWORKS[name]
    inputs = int(os.environ.get("KWS_PARITY_INPUTS", inputs))
    _, simulation, tflite = network_models(name, activation)
    clips, _ = random_clips(inputs, frames, seed=1)
    found = parity(simulation, tflite, clips)
    assert not found.problems(distinct=int(0.99 * inputs), winners=6)


@pytest.mark.slow
def test_a_trained_network_answers_speech_alike_in_all_runtimes(built: Path, spoken: Path) -> None:
    manifest = json.loads((built / "manifest.json").read_text())
    config = from_dict(FeatureConfig, manifest["features"], "manifest.json")
    pcm = load_dataset_for(manifest["labels"], spoken, config).pcm
    rows = np.linspace(0, len(pcm) - 1, SPEECH_CLIPS).round().astype(int)
    assert len(np.unique(rows)) == SPEECH_CLIPS
    simulation, tflite = onnx.load(built / "model.int8.onnx"), (built / "model.int8.tflite").read_bytes()
    found = parity(simulation, tflite, features_of_clips(pcm[rows], config))
    assert not found.problems(distinct=int(0.95 * SPEECH_CLIPS), winners=5)


def _wrong_scale(models: Models) -> tuple[onnx.ModelProto, bytes]:
    return models[1], with_wrong_weight_scale(models[2], 1.1)


def _wrong_zero_point(models: Models) -> tuple[onnx.ModelProto, bytes]:
    return with_wrong_zero_point(models[1], 2), models[2]


def _truncation(models: Models) -> tuple[onnx.ModelProto, bytes]:
    return with_truncation(models[1]), models[2]


def _rounded_once(models: Models) -> tuple[onnx.ModelProto, bytes]:
    return models[0], models[2]


MISTAKES = [_wrong_scale, _wrong_zero_point, _truncation, _rounded_once]


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.__name__.strip("_") for mistake in MISTAKES])
def test_a_small_mistake_in_one_of_the_models_is_found(
    mistake: Callable[[Models], tuple[onnx.ModelProto, bytes]],
) -> None:
    models = network_models("bcresnet-1", "swish")
    clips, _ = random_clips(60, NETWORKS["bcresnet-1"][0], seed=1)
    assert not parity(*models[1:], clips).problems(distinct=59, winners=6)
    problems = parity(*mistake(models), clips).problems(distinct=59, winners=6)
    assert [sentence for sentence in problems if sentence.startswith("within one step of the QDQ graph")]


@pytest.mark.slow
def test_kernels_that_compute_something_else_are_found() -> None:
    _, simulation, tflite = network_models("bcresnet-1", "swish")
    clips, _ = random_clips(60, NETWORKS["bcresnet-1"][0], seed=1)
    found = parity(simulation, tflite, clips, reference=with_wrong_weight_scale(tflite, 1.05))
    assert [sentence.partition(":")[0] for sentence in found.problems(distinct=59)] == ["steps from TensorFlow Lite"]


def test_a_model_that_answers_everything_alike_proves_nothing() -> None:
    qdq = built(next(build for name, build, _ in CASES if name == "gemm"))
    for tensor in qdq.graph.initializer:
        if list(tensor.dims) == [24, 10]:
            tensor.raw_data = bytes(240)
    found = parity(*runnable(qdq), features_for(qdq, clips=50))
    assert found.problems(distinct=2, winners=2) == ["distinct answers: 1", "winning outputs: 1"]
