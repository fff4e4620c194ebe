"""Whether one int8 model answers alike in three runtimes, and whether it has anything to say: TFLM is the oracle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import flatbuffers
import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from export.device_graph import device_model
from kws.config import ModelConfig
from kws.model import BCResNet
from quantize.compare import DEVICE_MIN_SHARE_WITHIN_STEPS, MAX_STEPS, step_differences
from quantize.device_rounding import round_as_device
from quantize.given_model import read_onnx
from quantize.options import QuantizeOptions
from quantize.pipeline import prepare, quantize
from quantize.rewrites.plan import Plan
from quantize.runtimes import OnnxRuntime, TfliteReferenceRuntime, TflmRuntime

CLASSES = 8
# What `kws quantize` chooses for BC-ResNet by default: every form that differs from row-by-row lowering is in it.
PLAN = Plan(multiplied_rows=5, mean_as_convolution=False, swish_tables=True, packed_memory=True, halved_maps=1)
Features = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Of one model on `inputs`: int8 steps between TFLM and the two others, and how much TFLM's answers vary."""

    inputs: int
    within_one_step: float
    equal: float
    kernel_steps: int
    distinct_answers: int
    winners: int

    def problems(self, *, distinct: int, winners: int = 1, equal: float = 0.0) -> list[str]:
        """What speaks against this model; `distinct` and `winners` are the fewest that prove anything."""
        found = {
            f"within one step of the QDQ graph: {self.within_one_step:.4f}": (
                self.within_one_step < DEVICE_MIN_SHARE_WITHIN_STEPS
            ),
            f"equal to the QDQ graph: {self.equal:.4f}": self.equal < equal,
            f"steps from TensorFlow Lite: {self.kernel_steps}": self.kernel_steps > MAX_STEPS["int8"],
            f"distinct answers: {self.distinct_answers}": self.distinct_answers < distinct,
            f"winning outputs: {self.winners}": self.winners < winners,
        }
        return [sentence for sentence, is_problem in found.items() if is_problem]


def parity(simulation: onnx.ModelProto, tflite: bytes, features: Features, reference: bytes | None = None) -> Parity:
    """`simulation` under onnxruntime, `tflite` under TFLM and `reference` (or `tflite`) under TensorFlow Lite."""
    device = TflmRuntime(tflite)
    answers = device(features)
    simulated = device.output.quantize(OnnxRuntime(simulation.SerializeToString())(features))
    steps = step_differences(np.moveaxis(simulated, 1, -1), answers)
    kernels = step_differences(TfliteReferenceRuntime(reference or tflite)(features), answers)
    rows = answers.reshape(len(answers), -1)
    return Parity(
        inputs=len(features),
        within_one_step=steps.share_within,
        equal=steps.share_equal,
        kernel_steps=kernels.max_steps,
        distinct_answers=len(np.unique(rows, axis=0)),
        winners=len(np.unique(rows.argmax(axis=1))),
    )


def random_clips(count: int, frames: int, seed: int) -> tuple[Features, npt.NDArray[np.int64]]:
    """(count, 1, 40, frames) and the class of each: one of CLASSES random patterns, of random level, and noise."""
    patterns = np.random.default_rng(99)
    means = 1.2 * patterns.normal(size=(CLASSES, 1, 40, 1)) + patterns.normal(size=(CLASSES, 1, 40, frames))
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, CLASSES, count)
    level = rng.normal(1.0, 0.4, (count, 1, 1, 1))
    return (level * means[targets] + rng.normal(size=(count, 1, 40, frames))).astype(np.float32), targets


def lively_network(name: str, activation: str, frames: int, steps: int = 30) -> BCResNet:
    """A BC-ResNet of random weights after a few steps of training on `random_clips`.

    Without them its layers amplify: one tie that float32 decides otherwise ends as twenty steps in a logit.
    """
    torch.manual_seed(3)
    torch.set_num_threads(1)  # The order of sums would make another network of it.
    network = BCResNet(ModelConfig(name=name, classes=CLASSES, activation=activation)).train()
    clips, targets = map(torch.from_numpy, random_clips(24 * steps, frames, seed=5))
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.3
    for batch, wanted in zip(clips.split(24), targets.split(24), strict=True):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(batch), wanted).backward()
        optimizer.step()
    return network.eval()


def quantized_network(network: BCResNet, frames: int, folder: Path) -> onnx.ModelProto:
    """Through the product's own steps from ONNX on; torch's older exporter, as it is ten times as fast."""
    path = folder / "model.onnx"
    torch.onnx.export(network, (torch.zeros(1, 1, 40, frames),), str(path), dynamo=False, opset_version=17)
    calibration, _ = random_clips(24, frames, seed=6)
    options = QuantizeOptions()
    prepared = prepare(read_onnx(path).model, calibration, options, PLAN)
    return quantize(prepared, calibration, options, PLAN)


def runnable(qdq: onnx.ModelProto) -> tuple[onnx.ModelProto, bytes]:
    return round_as_device(qdq), device_model(qdq, PLAN)


def with_wrong_weight_scale(tflite: bytes, factor: float) -> bytes:
    """The flatbuffer, with the weight scales of the convolution in its middle multiplied by `factor`."""
    model = schema.ModelT.InitFromPackedBuf(tflite)
    graph = model.subgraphs[0]
    weights = [tensor.quantization for tensor in graph.tensors if _is_weights(tensor)]
    wrong = weights[len(weights) // 2]
    wrong.scale = np.asarray(wrong.scale, np.float32) * np.float32(factor)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _is_weights(tensor: schema.TensorT) -> bool:
    return tensor.type == schema.TensorType.INT8 and len(tensor.quantization.scale) > 1


def with_wrong_zero_point(simulation: onnx.ModelProto, steps: int) -> onnx.ModelProto:
    """The graph, with the quantizer in its middle `steps` off, and its dequantizer as it was."""
    model = _copy(simulation)
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    wrong = quantizers[len(quantizers) // 2]
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    shifted = np.asarray(constants[wrong.input[2]] + steps, np.int8)
    model.graph.initializer.append(numpy_helper.from_array(shifted, "wrong"))
    wrong.input[2] = "wrong"
    return model


def with_truncation(simulation: onnx.ModelProto) -> onnx.ModelProto:
    """The graph, with each value rounded down where it is quantized, not to the nearest step."""
    model = _copy(simulation)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            half, lowered = f"{node.output[0]}/half", f"{node.output[0]}/lowered"
            model.graph.initializer.append(numpy_helper.from_array(constants[node.input[1]] / np.float32(2), half))
            nodes.append(helper.make_node("Sub", [node.input[0], half], [lowered]))
            node.input[0] = lowered
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
