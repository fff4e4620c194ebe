"""A layout of the activations in the model: TFLM follows it, and what it would follow out of the arena is refused."""

from __future__ import annotations

import struct

import numpy as np
import onnx
import pytest
from networks import bcresnet_onnx, clips_for

from export.arena import measure_arena_bytes
from export.arena_32_bit import arena_on
from export.device_graph import device_graph
from export.graph import Graph
from export.memory_layout import memory_layout
from export.memory_plan import without_memory_layout
from export.tflite_reader import FREE, parse_tflite
from export.to_tflite import to_tflite
from kws.errors import KwsError
from quantize.calibration import calibrate
from quantize.qdq import quantize_model
from quantize.rewrites import rewrite
from quantize.rewrites.plan import Plan
from quantize.runtimes import TfliteReferenceRuntime, TflmRuntime


@pytest.fixture(scope="module")
def float_model(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return bcresnet_onnx(tmp_path_factory.mktemp("onnx"), "bcresnet-1", 98)


@pytest.fixture(scope="module")
def graph(float_model: onnx.ModelProto) -> Graph:
    plan = Plan(multiplied_rows=5)
    prepared = rewrite(float_model, plan)
    return device_graph(quantize_model(prepared, calibrate(prepared, clips_for(float_model, 4))), plan)


def test_a_packed_model_answers_the_same_in_a_smaller_arena(float_model: onnx.ModelProto, graph: Graph) -> None:
    plain, packed = to_tflite(graph), to_tflite(graph, packed=True)
    clips = clips_for(float_model, 12, seed=1)
    expected = TflmRuntime(plain)(clips)
    assert len(np.unique(expected, axis=0)) == len(clips)
    np.testing.assert_array_equal(TflmRuntime(packed)(clips), expected)
    np.testing.assert_array_equal(TfliteReferenceRuntime(packed)(clips), TfliteReferenceRuntime(plain)(clips))
    saved = measure_arena_bytes(plain) - measure_arena_bytes(packed)
    assert saved > 3000
    computed = [arena_on("cortex_m4", parse_tflite(model, "model")).used for model in (plain, packed)]
    assert computed[0] - computed[1] == pytest.approx(saved, abs=64)


def test_the_layout_is_read_back_for_every_activation(graph: Graph) -> None:
    facts = parse_tflite(to_tflite(graph, packed=True), "model")
    places = [offset for offset, tensor in zip(facts.offsets, facts.tensors, strict=True) if tensor.data is None]
    assert sorted(places) == sorted(memory_layout(graph).values())
    assert {offset for offset, tensor in zip(facts.offsets, facts.tensors, strict=True) if tensor.data} == {FREE}
    assert parse_tflite(to_tflite(graph), "model").offsets == ()


@pytest.mark.parametrize("value", [-2, 1 << 30])
def test_a_layout_that_tflm_would_follow_out_of_the_arena_is_refused(graph: Graph, value: int) -> None:
    data = to_tflite(graph, packed=True)
    facts = parse_tflite(data, "model")
    start = data.index(struct.pack(f"<{3 + len(facts.offsets)}i", 1, 0, len(facts.offsets), *facts.offsets)) + 12
    damaged = data[:start] + struct.pack("<i", value) + data[start + 4 :]
    with pytest.raises(KwsError, match="memory layout out of range"):
        parse_tflite(damaged, "model")
    miscounted = data[: start - 4] + struct.pack("<i", 7) + data[start:]
    with pytest.raises(KwsError, match="memory layout out of range"):
        parse_tflite(miscounted, "model")


def test_all_tensors_can_be_kept_once_the_layout_is_taken_out(float_model: onnx.ModelProto, graph: Graph) -> None:
    packed, clips = to_tflite(graph, packed=True), clips_for(float_model, 2)
    with pytest.raises(KwsError, match="TFLM cannot prepare it"):
        TflmRuntime(packed, keep_tensors=True)
    kept = TflmRuntime(without_memory_layout(packed), keep_tensors=True)
    np.testing.assert_array_equal(kept(clips), TflmRuntime(packed)(clips))
