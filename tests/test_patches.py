"""quantize.patches: the moments of a layer's inputs tell the moments of its output, whatever its kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from networks import graph_model, run
from onnx import helper

from quantize.patches import CLIPS_AT_ONCE, input_moments
from quantize.qdq import output_channel_axis

CLIPS = CLIPS_AT_ONCE + 3


def output_of(node: onnx.NodeProto, values: np.ndarray, weights: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(channels, rows): what `node` makes of `values`."""
    model = graph_model([node], {"w": weights}, (1, *values.shape[1:]), shape)
    return np.moveaxis(run(model, values), 1, 0).reshape(shape[1], -1)


@pytest.mark.parametrize(
    ("weight_shape", "output_shape", "attributes"),
    [
        ((5, 4, 1, 1), (1, 5, 6, 7), {}),
        ((5, 4, 3, 2), (1, 5, 3, 6), {"pads": [1, 1, 1, 0], "strides": [2, 1], "dilations": [1, 2]}),
        ((4, 1, 3, 3), (1, 4, 4, 5), {"group": 4}),
        ((8, 1, 3, 1), (1, 8, 6, 7), {"group": 4, "pads": [1, 0, 1, 0]}),
        ((6, 2, 1, 3), (1, 6, 6, 3), {"group": 2, "dilations": [1, 2]}),
    ],
)
def test_moments_of_a_convolution(
    weight_shape: tuple[int, ...], output_shape: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(1.0, 1.0, (CLIPS, 4, 6, 7)).astype(np.float32)
    weights = rng.normal(size=weight_shape)
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    moments = input_moments(node, values, weight_shape)
    output, flat = output_of(node, values, weights, output_shape), weights.reshape(len(weights), -1)
    np.testing.assert_allclose(np.einsum("ck,ck->c", flat, moments.mean), output.mean(axis=1), rtol=1e-4, atol=1e-5)
    for of_inputs, of_output in ((moments.raw, np.square(output).mean(axis=1)), (moments.centred, output.var(axis=1))):
        np.testing.assert_allclose(np.einsum("ck,ckl,cl->c", flat, of_inputs, flat), of_output, rtol=1e-4)


@pytest.mark.parametrize(("op", "attributes"), [("Gemm", {"transB": 1}), ("Gemm", {}), ("MatMul", {})])
def test_moments_of_a_dense_layer(op: str, attributes: dict[str, int]) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(1.0, 1.0, (CLIPS, 6)).astype(np.float32)
    node = helper.make_node(op, ["x", "w"], ["y"], **attributes)
    weights = rng.normal(size=(3, 6) if attributes else (6, 3))
    moments = input_moments(node, values, weights.shape)
    flat = np.moveaxis(weights, output_channel_axis(node), 0)
    assert moments.raw.shape == (3, 6, 6)
    expected = np.square(output_of(node, values, weights, (1, 3))).mean(axis=1)
    np.testing.assert_allclose(np.einsum("ck,ckl,cl->c", flat, moments.raw, flat), expected, rtol=1e-4)
