"""Scale and shift rows that share an int8 scale with larger tensors until each channel spans the same range.

CONCATENATION needs one scale for all its inputs. A row that is stacked upon others only to be weighed by the
convolution behind (see `quantize.rewrites.broadcast_sum`) need not suffer from that: any affine map of each of its
channels goes into the convolution that makes it, and the inverse into the one that reads it. Exact in float.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from quantize.calibration import ChannelRange, FloatArray, activations, min_max
from quantize.rewrites.broadcast_sum import FREQUENCY_AXIS, joins_rows, match_one_row
from quantize.rewrites.graph_tools import constant, new_initializer, sole_consumer, static_shape

Array = npt.NDArray[np.float64]

# Of the range, what is left unused by the clips that were seen: each channel would be clipped by the first that goes
# beyond them. A channel that hardly varies spans this part of what the liveliest spans.
HEADROOM = 1.2
LEAST_SPAN = 0.05


@dataclass(frozen=True, eq=False)
class _Reader:
    """A concatenation along rows, and the depthwise convolution that weighs them into one row."""

    stack: ir.Node
    convolution: ir.Node

    def tap(self, row: ir.Value) -> int:
        """Where `row` lies in the stack."""
        before = self.stack.inputs[: list(self.stack.inputs).index(row)]
        return sum((static_shape(piece) or (0, 0, 0, 0))[FREQUENCY_AXIS] for piece in before)


def fit_stacked_rows(model: onnx.ModelProto, features: FloatArray) -> onnx.ModelProto:
    """A model that computes the same as the rewritten float `model`, whose stacked rows span what their neighbours do.

    `features` are float32 (clips, 1, mel_bands, frames); their ranges decide. Raises KwsError as `calibrate` does.
    """
    fitted = ir.from_proto(model)
    readers = {node: list(_readers(node)) for node in fitted.graph if node.op_type == "Conv"}
    pieces = [piece for found in readers.values() for reader in found for piece in reader.stack.inputs]
    if not pieces:
        return ir.to_proto(fitted)
    seen = min_max(activations(model, features, only={piece.name or "" for piece in pieces if piece is not None}))
    for node, found in readers.items():
        if found:
            _fit(fitted.graph, node, found, seen)
    return ir.to_proto(fitted)


def fitted_tensors(model: onnx.ModelProto) -> set[str]:
    """The rows that `fit_stacked_rows` maps, and the stacks with them: before that their ranges say nothing."""
    names: set[str] = set()
    for node in ir.from_proto(model).graph:
        found = list(_readers(node)) if node.op_type == "Conv" else []
        values = [node.outputs[0], *(reader.stack.outputs[0] for reader in found)]
        names |= {value.name or "" for value in values if found}
    return names


def _readers(node: ir.Node) -> Iterator[_Reader]:
    """Who weighs the output of `node`; nobody, if anything else reads it too."""
    row = node.outputs[0]
    readers = []
    for stack in dict.fromkeys(row.consumers()):
        convolution = sole_consumer(stack.outputs[0]) if joins_rows(stack) else None
        if convolution is None or match_one_row(convolution) is None or list(stack.inputs).count(row) != 1:
            return
        readers.append(_Reader(stack, convolution))
    if not row.is_graph_output():
        yield from readers


def _fit(graph: ir.Graph, node: ir.Node, readers: list[_Reader], seen: Mapping[str, ChannelRange]) -> None:
    """Map each channel of the row that `node` makes into the range of what it is stacked upon."""
    row = node.outputs[0]
    own = seen[row.name or ""]
    others = [
        seen[piece.name or ""].whole for reader in readers for piece in reader.stack.inputs if piece not in (None, row)
    ]
    low, high = min(0.0, *(other.low for other in others)), max(0.0, *(other.high for other in others))
    if not others or own.whole.low == own.whole.high or low == high or constant(node.inputs[1]) is None:
        return
    least, most = (bound.reshape(-1).astype(np.float64) for bound in (own.low, own.high))
    span = HEADROOM * np.maximum(most - least, LEAST_SPAN * (most - least).max())
    gain = (high - low) / span
    start = (least + most - span) / 2
    _rescale(graph, node, gain, low - start * gain)
    for reader in readers:
        _unscale(graph, reader.convolution, reader.tap(row), gain, start - low / gain)


def _rescale(graph: ir.Graph, node: ir.Node, gain: Array, offset: Array) -> None:
    """Let a convolution put out gain * y + offset, both (channels,), in place of y."""
    weights, bias = _parameters(node)
    by_channel = gain.reshape(-1, *(1,) * (weights.ndim - 1))
    _set_parameters(graph, node, weights * by_channel, bias * gain + offset)


def _unscale(graph: ir.Graph, node: ir.Node, tap: int, gain: Array, offset: Array) -> None:
    """Let a depthwise convolution read x in place of x / gain + offset, both (channels,), under its row `tap`."""
    weights, bias = _parameters(node)
    bias = bias + weights[:, 0, tap, 0] * offset
    weights[:, 0, tap, 0] /= gain
    _set_parameters(graph, node, weights, bias)


def _parameters(node: ir.Node) -> tuple[Array, Array]:
    """A copy of the weights and the bias (zeros, if there is none) of a convolution."""
    weights = np.array(constant(node.inputs[1]), dtype=np.float64)
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    return weights, np.zeros(len(weights)) if bias is None else np.asarray(bias, dtype=np.float64)


def _set_parameters(graph: ir.Graph, node: ir.Node, weights: Array, bias: Array) -> None:
    """Give `node` parameters of its own: others may share its present ones."""
    node.resize_inputs(3)
    node.replace_input_with(1, new_initializer(graph, f"{node.name}/fitted_weight", weights))
    node.replace_input_with(2, new_initializer(graph, f"{node.name}/fitted_bias", bias))
