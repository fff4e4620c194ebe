"""Transposes and reshapes right behind the input of a model: the device does without them, its input comes laid out.

They stay in the ONNX models, in front of the first quantizer, so that those take what the given model takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from quantize.affine import FloatArray

LAYOUT_OPS = frozenset({"Reshape", "Transpose"})


def layout_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The chain of LAYOUT_OPS from the input of `model` to the first node that computes; often empty."""
    constants = _constants(model)
    name = next((value.name for value in model.graph.input if value.name not in constants), "")
    outputs = {value.name for value in model.graph.output}
    chain: list[onnx.NodeProto] = []
    while True:
        readers = [node for node in model.graph.node if name in node.input]
        if len(readers) != 1 or not outputs.isdisjoint(readers[0].output) or not _is_layout(readers[0], constants):
            return chain
        chain.append(readers[0])
        name = readers[0].output[0]


@dataclass(frozen=True, eq=False)
class InputLayout:
    """`indices` has the shape of the laid-out input, batch included: where in the flat input each value stands."""

    indices: npt.NDArray[np.int64]

    @staticmethod
    def of(model: onnx.ModelProto) -> InputLayout:
        """What the `layout_nodes` of `model`, whose input has a fixed shape of batch 1, do to it."""
        constants = _constants(model)
        given = next(value for value in model.graph.input if value.name not in constants)
        shape = [dimension.dim_value for dimension in given.type.tensor_type.shape.dim]
        indices = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
        for node in layout_nodes(model):
            if node.op_type == "Reshape":
                indices = indices.reshape(constants[node.input[1]].tolist())
            else:
                indices = indices.transpose(_attribute(node, "perm", range(indices.ndim)[::-1]))
        return InputLayout(indices)

    def __call__(self, features: FloatArray) -> FloatArray:
        """float32 (n, ...) as the model takes it -> (n, ...) as the device takes it, in ONNX's order of axes."""
        flat = features.reshape(len(features), -1)
        return flat[:, self.indices.reshape(-1)].reshape(len(features), *self.indices.shape[1:])


def _is_layout(node: onnx.NodeProto, constants: dict[str, npt.NDArray[Any]]) -> bool:
    if node.op_type == "Reshape":
        return node.input[1] in constants and bool((constants[node.input[1]] > 0).all())
    return node.op_type in LAYOUT_OPS


def _constants(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
