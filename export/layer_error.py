"""How far each integer tensor of the device is from the float tensor that it stands for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from export.graph import Graph
from export.lowering.context import to_nhwc
from export.memory_plan import without_memory_layout
from export.tflite_reader import TensorFacts, TfliteFacts
from kws.errors import KwsError
from kws.progress import track
from quantize.affine import Affine, FloatArray, StepType
from quantize.calibration import activations, cut_below_relu, min_max, shared_ranges
from quantize.input_layout import InputLayout
from quantize.qdq import UNQUANTIZED
from quantize.runtimes import TflmRuntime


@dataclass(eq=False)
class _Noise:
    """Sums over float values and over squares of how far the device is from them."""

    values: int = 0
    total: float = 0.0
    squares: float = 0.0
    noise: float = 0.0

    def add(self, reference: FloatArray, device: FloatArray) -> None:
        exact = reference.astype(np.float64)
        self.values += exact.size
        self.total += float(exact.sum())
        self.squares += float(np.square(exact).sum())
        self.noise += float(np.square(exact - device).sum())

    @property
    def sqnr_db(self) -> float | None:
        """Around the mean, since an offset carries nothing; None for a constant tensor or one without any noise."""
        signal = self.squares - self.total**2 / self.values
        return 10 * math.log10(signal / self.noise) if signal > 0 and self.noise else None


def layer_names(graph: Graph) -> list[str]:
    """The float tensor of the prepared model that each op of the lowered `graph` puts out, in order."""
    return [op.output.removesuffix(UNQUANTIZED) for op in graph.ops]


def layer_sqnr_db(
    prepared_onnx: Path, layers: Sequence[str], model: bytes, facts: TfliteFacts, features: FloatArray
) -> dict[int, float | None]:
    """SQNR (dB) of each tensor of `model` under TFLM against the prepared float model that was calibrated.

    `features` are as the float model takes them, `layers` are the `layer_names` of the graph that became `model`. The
    result is by index of the integer tensor; those without a counterpart in the float model are left out, None means no
    noise or no signal. What a ReLU behind an addition hides counts on neither side: ranges are cut there on purpose.
    Raises KwsError if the models do not belong together.
    """
    prepared = onnx.load(prepared_onnx)
    strangers = KwsError(f"{prepared_onnx}: is not the float form of the model beside it; run kws quantize again.")
    if len(layers) != len(facts.operators):
        raise strangers
    floors = _hidden_below(prepared, features)
    outputs = [op.outputs[0] for op in facts.operators]
    name_of = {facts.input_index: prepared.graph.input[0].name} | dict(zip(outputs, layers, strict=True))
    images = InputLayout.of(prepared)(features)
    device = TflmRuntime(without_memory_layout(model), keep_tensors=True)
    found: dict[int, _Noise] = {}
    for number, values in enumerate(
        track(activations(prepared, features, at_once=1), "Comparing layers", len(features))
    ):
        device(images[number : number + 1])
        for index, name in name_of.items():
            if name in values:
                reference, answer = to_nhwc(values[name]), _dequantized(device, facts.tensors[index], index)
                if reference.shape != answer.shape:
                    raise strangers
                floor = np.float32(floors.get(name, -math.inf))
                found.setdefault(index, _Noise()).add(np.maximum(reference, floor), np.maximum(answer, floor))
    if facts.output_index not in found:
        raise strangers
    return _with_moved_values({index: noise.sqnr_db for index, noise in found.items()}, facts)


def _dequantized(device: TflmRuntime, tensor: TensorFacts, index: int) -> FloatArray:
    assert tensor.scale is not None and tensor.zero_point is not None
    values = device.tensor(index)
    dtype: StepType = "int16" if values.dtype == np.int16 else "int8"
    return Affine(tensor.scale, tensor.zero_point, dtype=dtype).dequantize(values)


def _with_moved_values(sqnr_db: dict[int, float | None], facts: TfliteFacts) -> dict[int, float | None]:
    """A PAD that stands for the pads of a convolution has no counterpart; zeros are exact and change no SQNR.
    A concatenation is as good as its worst part: where unlike tensors are stacked, their difference is no signal.
    """
    known = dict(sqnr_db)
    for op in facts.operators:
        if op.name == "PAD" and op.inputs[0] in known:
            known.setdefault(op.outputs[0], known[op.inputs[0]])
        elif op.name == "CONCATENATION":
            parts = [part for part in (known.get(index) for index in op.inputs) if part is not None]
            known[op.outputs[0]] = min(parts, default=None)
    return known


def _hidden_below(prepared: onnx.ModelProto, features: FloatArray) -> dict[str, float]:
    """The value below which a tensor's own value does not matter on `features`, for those that have one."""
    seen = min_max(activations(prepared, features))
    whole = shared_ranges(prepared, {name: channels.whole for name, channels in seen.items()})
    cut = cut_below_relu(prepared, whole, seen)
    return {name: cut[name].low for name in cut if cut[name].low > whole[name].low}
