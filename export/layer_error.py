"""How far each int8 tensor of the device is from the float tensor that it stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from export.graph import Graph, Tensor
from export.lowering import lower
from export.lowering.context import to_nhwc
from export.tflite_reader import TensorFacts, TfliteFacts
from kws.errors import KwsError
from kws.progress import track
from quantize.affine import Affine, FloatArray
from quantize.calibration import activations, cut_below_relu, min_max, shared_ranges
from quantize.device_rounding import without_device_rounding
from quantize.qdq import UNQUANTIZED
from quantize.runtimes import TflmRuntime


@dataclass(eq=False)
class _Noise:
    """Sums of squares of float values and of how far the device is from them."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, reference: FloatArray, device: FloatArray) -> None:
        exact = reference.astype(np.float64)
        self.signal += float(np.square(exact).sum())
        self.noise += float(np.square(exact - device).sum())

    @property
    def sqnr_db(self) -> float | None:
        """None for a tensor that is zero everywhere or without any noise."""
        return 10 * math.log10(self.signal / self.noise) if self.signal and self.noise else None


def layer_sqnr_db(
    prepared_onnx: Path, qdq_onnx: Path, model: bytes, facts: TfliteFacts, features: FloatArray
) -> dict[int, float | None]:
    """SQNR (dB) of each tensor of the int8 `model` under TFLM against the prepared float model that was calibrated, on
    `features` (n, 1, H, W).

    By index of the tensor; those without a counterpart in the float model are left out, None means no noise or no
    signal. What a ReLU behind an addition hides counts on neither side: ranges are cut there on purpose.
    Raises KwsError if `qdq_onnx` is not the QDQ form of `model`, or `prepared_onnx` not the float form of both.
    """
    prepared = onnx.load(prepared_onnx)
    floors = _hidden_below(prepared, features)
    twins = _float_twins(lower(without_device_rounding(onnx.load(qdq_onnx))), facts, qdq_onnx)
    device = TflmRuntime(model, keep_tensors=True)
    found: dict[int, _Noise] = {}
    for number, values in enumerate(track(activations(prepared, features), "Comparing layers", len(features))):
        device(features[number : number + 1])
        for index, (name, affine) in twins.items():
            if name in values:
                reference, answer = to_nhwc(values[name]), affine.dequantize(device.tensor(index))
                if reference.shape != answer.shape:
                    raise _strangers(prepared_onnx, qdq_onnx)
                floor = np.float32(floors.get(name, -math.inf))
                found.setdefault(index, _Noise()).add(np.maximum(reference, floor), np.maximum(answer, floor))
    if facts.output_index not in found:
        raise _strangers(prepared_onnx, qdq_onnx)
    return _with_paddings({index: noise.sqnr_db for index, noise in found.items()}, facts)


def _with_paddings(sqnr_db: dict[int, float | None], facts: TfliteFacts) -> dict[int, float | None]:
    """A PAD that stands for the pads of a convolution has no counterpart; zeros are exact and change no SQNR."""
    known = dict(sqnr_db)
    for op in facts.operators:
        if op.name == "PAD" and op.inputs[0] in known:
            known.setdefault(op.outputs[0], known[op.inputs[0]])
    return known


def _float_twins(graph: Graph, facts: TfliteFacts, qdq_onnx: Path) -> dict[int, tuple[str, Affine]]:
    """Tensor index -> its name in the prepared float model, and its affine; op by op: the .tflite has no names."""
    outputs = [(op.outputs[0], lowered.output) for op, lowered in zip(facts.operators, graph.ops, strict=False)]
    pairs = [(index, graph.tensors[name]) for index, name in [(facts.input_index, graph.inputs[0]), *outputs]]
    if len(facts.operators) != len(graph.ops) or not all(_is_same(facts.tensors[index], twin) for index, twin in pairs):
        raise KwsError(f"{qdq_onnx}: its ops are not those of the .tflite model beside it; run kws quantize again.")
    return {index: (twin.name.removesuffix(UNQUANTIZED), twin.affine) for index, twin in pairs}


def _is_same(tensor: TensorFacts, twin: Tensor) -> bool:
    quantization = tensor.scale, tensor.zero_point
    return tensor.shape == twin.shape and quantization == (float(twin.affine.scale), twin.affine.zero_point)


def _hidden_below(prepared: onnx.ModelProto, features: FloatArray) -> dict[str, float]:
    """The value below which a tensor's own value does not matter on `features`, for those that have one."""
    seen = min_max(activations(prepared, features))
    whole = shared_ranges(prepared, {name: channels.whole for name, channels in seen.items()})
    cut = cut_below_relu(prepared, whole, seen)
    return {name: cut[name].low for name in cut if cut[name].low > whole[name].low}


def _strangers(prepared_onnx: Path, qdq_onnx: Path) -> KwsError:
    return KwsError(f"{prepared_onnx}: is not the float form of {qdq_onnx}; run kws quantize again.")
