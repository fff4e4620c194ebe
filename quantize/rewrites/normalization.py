"""BatchNormalization at inference is an affine map: Mul and Add with constants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from quantize.rewrites.graph_tools import (
    FloatArray,
    constant,
    new_initializer,
    new_node,
    replace_value,
    sole_consumer,
    static_shape,
)

DEFAULT_EPSILON = 1e-5


@dataclass(frozen=True, eq=False)
class _Affine:
    """output = source * scale + offset; both broadcast against the shape of `output`."""

    source: ir.Value
    output: ir.Value
    scale: FloatArray
    offset: FloatArray


def batch_norm_to_affine(model: ir.Model) -> None:
    """BatchNormalization -> Mul, Add per channel; SubSpectralNorm (arXiv:2103.13620) -> Mul, Add per channel and row.

    SubSpectralNorm is recognised as Reshape (n, c, f, t) -> (n, c * bands, f / bands, t), BatchNormalization,
    Reshape back. Norms in training mode, or with statistics that are not constant, stay.
    """
    for node in list(model.graph):
        affine = _match_batch_norm(node)
        if affine is not None:
            _replace_by_affine(model.graph, _widen_to_sub_spectral_norm(affine) or affine)


def _match_batch_norm(node: ir.Node) -> _Affine | None:
    if node.op_type != "BatchNormalization" or node.attributes.get_int("training_mode", False):
        return None
    source, shape = node.inputs[0], static_shape(node.inputs[0])
    parameters = [constant(value) for value in node.inputs[1:]]
    if source is None or shape is None or any(parameter is None for parameter in parameters):
        return None
    gamma, beta, mean, variance = (np.asarray(parameter, dtype=np.float64) for parameter in parameters)
    scale = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", DEFAULT_EPSILON))
    per_channel = (1, -1, *(1 for _ in shape[2:]))
    offset = beta - mean * scale
    return _Affine(source, node.outputs[0], scale.reshape(per_channel), offset.reshape(per_channel))


def _widen_to_sub_spectral_norm(norm: _Affine) -> _Affine | None:
    """The same map per channel and row of the tensor outside the two Reshapes around `norm`, if they are there."""
    before, after = norm.source.producer(), sole_consumer(norm.output)
    if before is None or after is None or (before.op_type, after.op_type) != ("Reshape", "Reshape"):
        return None
    source, output = before.inputs[0], after.outputs[0]
    outer, inner = static_shape(source), static_shape(norm.source)
    if source is None or outer is None or inner is None or outer != static_shape(output) or len(outer) != 4:
        return None
    channels, rows = outer[1:3]
    bands = inner[1] // channels
    if inner != (outer[0], channels * bands, rows // max(bands, 1), outer[3]):
        return None

    def per_row(parameter: FloatArray) -> FloatArray:
        return np.repeat(parameter.reshape(channels, bands), rows // bands, axis=1).reshape(1, channels, rows, 1)

    return _Affine(source, output, per_row(norm.scale), per_row(norm.offset))


def _replace_by_affine(graph: ir.Graph, affine: _Affine) -> None:
    name, shape = affine.output.name or "norm", static_shape(affine.source)
    assert shape is not None
    scaled = new_node(
        "Mul", [affine.source, new_initializer(graph, f"{name}/scale", affine.scale)], f"{name}/scaled", shape
    )
    shifted = new_node("Add", [scaled.outputs[0], new_initializer(graph, f"{name}/offset", affine.offset)], name, shape)
    replace_value(graph, affine.output, [scaled, shifted])
