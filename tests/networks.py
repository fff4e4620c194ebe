"""Networks and ONNX models that several tests make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from export.to_onnx import to_onnx
from kws.config import ModelConfig
from kws.model import BCResNet
from quantize.runtimes import OnnxRuntime

Array = npt.NDArray[Any]


def randomise(network: nn.Module, seed: int) -> Any:
    """Give `network` random weights and, in each norm, random statistics: those of a fresh one hide mistakes."""
    torch.manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -0.3, 0.3)
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            nn.init.normal_(layer.running_mean, 0.0, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0.0, 0.3)
    return network.eval()


def bcresnet_onnx(folder: Path, name: str, frames: int) -> onnx.ModelProto:
    network = randomise(BCResNet(ModelConfig(name=name, classes=4)), seed=3)
    return to_onnx(network, (1, 1, 40, frames), folder / f"{name}.onnx")


def clips_for(model: onnx.ModelProto, count: int = 4, seed: int = 0) -> npt.NDArray[np.float32]:
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(seed).normal(size=(count, *shape[1:])).astype(np.float32)


def graph_model(
    nodes: list[onnx.NodeProto],
    weights: dict[str, Array],
    input_shape: tuple[int | str, ...],
    output_shape: tuple[int, ...],
    opset: int = 18,
) -> onnx.ModelProto:
    """A model from input "x" to output "y"."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, output_shape)],
        [
            numpy_helper.from_array(array.astype(np.float32) if array.dtype == np.float64 else array, name)
            for name, array in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, clips: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return OnnxRuntime(model.SerializeToString())(clips)


def ds_cnn(opset: int) -> onnx.ModelProto:
    rng = np.random.default_rng(5)
    return graph_model(
        [
            helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
            helper.make_node("Relu", ["c1"], ["r1"]),
            helper.make_node("Conv", ["r1", "w2", "b1"], ["c2"], pads=[1, 1, 1, 1], group=6),
            helper.make_node("Relu", ["c2"], ["r2"]),
            helper.make_node("Conv", ["r2", "w3", "b1"], ["c3"]),
            helper.make_node("Relu", ["c3"], ["r3"]),
            helper.make_node("AveragePool", ["r3"], ["p"], kernel_shape=[4, 5]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "w4", "b4"], ["g"], transB=1),
            helper.make_node("Softmax", ["g"], ["y"]),
        ],
        {
            "w1": rng.normal(size=(6, 1, 3, 3)),
            "b1": rng.normal(size=6),
            "w2": rng.normal(size=(6, 1, 3, 3)),
            "w3": rng.normal(size=(6, 6, 1, 1)),
            "w4": rng.normal(size=(3, 6)),
            "b4": rng.normal(size=3),
        },
        (1, 1, 8, 10),
        (1, 3),
        opset,
    )


def relu_model(shape: tuple[int | str, ...] = (1, 2), opset: int = 18) -> onnx.ModelProto:
    return graph_model([helper.make_node("Relu", ["x"], ["y"])], {}, shape, (1, 2), opset)
