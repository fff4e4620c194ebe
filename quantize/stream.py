"""A model run node by node on all clips at once, so that its weights may change between one node and the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from quantize.calibration import FloatArray, input_name_and_shape

# These may write the batch of one into their output's shape, so that they must be run clip by clip.
RESHAPING_OPS = frozenset({"Flatten", "Reshape", "Squeeze", "Transpose"})

Values = npt.NDArray[Any]


class Stream:
    """`constants` may be replaced at any time; `values` holds, by name, what some node still has to read.

    `model` takes one clip, (1, ...); arrays here have all clips along axis 0.
    """

    def __init__(self, model: onnx.ModelProto, features: FloatArray) -> None:
        self.constants: dict[str, Values] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.values: dict[str, Values] = {input_name_and_shape(model)[0]: features}
        self._model = model
        self._nodes = iter(enumerate(model.graph.node))
        self._last_read = {name: at for at, node in enumerate(model.graph.node) for name in node.input}

    def run_until(self, name: str) -> Values:
        """Run all nodes up to that which makes tensor `name`, and return it."""
        while name not in self.values:
            self.step()
        return self.values[name]

    def step(self) -> None:
        """Run the next node, then forget what no other will read."""
        at, node = next(self._nodes)
        self.values[node.output[0]] = self.run(node)
        for name in {*node.input}:
            if self._last_read[name] == at:
                self.values.pop(name, None)

    def run(self, node: onnx.NodeProto) -> Values:
        """The output of `node` on the present values and constants."""
        import onnxruntime

        inputs = {name: self._value(name) for name in node.input if name}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(self._one_node(node, inputs), options, ["CPUExecutionProvider"])
        if node.op_type not in RESHAPING_OPS or node.input[0] not in self.values:
            output: Values = session.run(None, inputs)[0]
            return output
        clips = inputs.pop(node.input[0])
        return np.concatenate([session.run(None, {node.input[0]: clip[None], **inputs})[0] for clip in clips])

    def _value(self, name: str) -> Values:
        return self.values[name] if name in self.values else self.constants[name]

    def _one_node(self, node: onnx.NodeProto, inputs: dict[str, Values]) -> bytes:
        typed = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), None)
            for name, array in inputs.items()
        ]
        graph = helper.make_graph([node], node.name, typed, [onnx.ValueInfoProto(name=node.output[0])])
        model = helper.make_model(graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)
        serialized: bytes = model.SerializeToString()
        return serialized
