"""A 2-D convolution whose weights may differ from row to row: what SubSpectralNorm makes of a plain one.

It is linear, so a mean over rows and a shortcut around it fold into its weights exactly; on the device it
becomes one plain convolution for each band of equal rows. Rows are frequency (H), columns are time (W).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from quantize.rewrites.graph_tools import (
    FloatArray,
    constant,
    integers,
    new_initializer,
    new_node,
    other_operand,
    sole_consumer,
    static_shape,
)

MAX_BANDS = 10  # TensorFlow Lite Micro's CONCATENATION takes no more inputs.


@dataclass(frozen=True, eq=False)
class RowConvolution:
    """Row r of the output: `kernel` (channels, channels_in / group, kernel_h, kernel_w) times `factors` (rows,
    channels), plus `bias` (rows, channels), plus, if `adds_source`, the source itself; all float64.

    It reads the rows r * strides[0] - pads[0] + j * dilations[0] of `source` (n, channels_in, h, w); rows outside
    count as zeros. `pads` is ONNX's (top, left, bottom, right).
    """

    source: ir.Value
    kernel: FloatArray
    factors: FloatArray
    bias: FloatArray
    group: int
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    source_shape: tuple[int, int, int, int]
    columns: int
    adds_source: bool = False

    @property
    def rows(self) -> int:
        return len(self.factors)

    @property
    def channels(self) -> int:
        return len(self.kernel)

    @property
    def taps(self) -> range:
        """The kernel's indices along rows."""
        return range(self.kernel.shape[2])

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return (self.source_shape[0], self.channels, self.rows, self.columns)

    @property
    def is_depthwise(self) -> bool:
        return self.group == self.channels == self.source_shape[1]

    def input_rows(self, row: int) -> range:
        """The source row under each tap of output row `row`; rows outside the source are padding."""
        first = row * self.strides[0] - self.pads[0]
        return range(first, first + len(self.taps) * self.dilations[0], self.dilations[0])

    def weights(self, row: int) -> FloatArray:
        """What `row` is convolved with, in the shape of `kernel`."""
        weights: FloatArray = self.kernel * self.factors[row][:, None, None, None]
        if self.adds_source:
            weights[:, 0, self.pads[0] // self.dilations[0], self.pads[1] // self.dilations[1]] += 1.0
        return weights

    def scaled(self, factors: FloatArray) -> RowConvolution:
        """Its output times `factors` (rows, channels); before `plus_source`, not after."""
        assert not self.adds_source
        return replace(self, factors=self.factors * factors, bias=self.bias * factors)

    def shifted(self, offsets: FloatArray) -> RowConvolution:
        """Its output plus `offsets` (rows, channels)."""
        return replace(self, bias=self.bias + offsets)

    def mean_over_rows(self) -> RowConvolution:
        """The mean of its output over rows (kept as one row), as a convolution as high as the source."""
        height = self.source_shape[2]
        kernel = np.zeros((*self.kernel.shape[:2], height, self.kernel.shape[3]))
        for row in range(self.rows):
            weights = self.weights(row)
            for tap, source_row in zip(self.taps, self.input_rows(row), strict=True):
                if 0 <= source_row < height:
                    kernel[:, :, source_row] += weights[:, :, tap] / self.rows
        return replace(
            self,
            kernel=kernel,
            factors=np.ones((1, self.channels)),
            bias=self.bias.mean(axis=0, keepdims=True),
            strides=(1, self.strides[1]),
            dilations=(1, self.dilations[1]),
            pads=(0, self.pads[1], 0, self.pads[3]),
            adds_source=False,
        )

    def plus_source(self) -> RowConvolution | None:
        """Its output plus its source: 1 more on the centre tap. None unless depthwise with a tap right there."""
        row_tap, row_rest = divmod(self.pads[0], self.dilations[0])
        column_tap, column_rest = divmod(self.pads[1], self.dilations[1])
        on_a_tap = row_rest == column_rest == 0 and row_tap in self.taps and column_tap < self.kernel.shape[3]
        same_size = self.strides == (1, 1) and self.output_shape == self.source_shape
        if not (self.is_depthwise and same_size and on_a_tap):
            return None
        return replace(self, adds_source=True)

    def bands(self) -> list[tuple[int, int]]:
        """First and past-the-last row of each run of rows with equal weights and bias."""
        changes = [
            row
            for row in range(1, self.rows)
            if not (
                np.array_equal(self.factors[row], self.factors[row - 1])
                and np.array_equal(self.bias[row], self.bias[row - 1])
            )
        ]
        return list(pairwise([0, *changes, self.rows]))

    def to_nodes(self, graph: ir.Graph, name: str, single_rows: int = 0) -> list[ir.Node] | None:
        """One Conv, or a Slice and a Conv for each band and a Concat of them; None if there are over MAX_BANDS.

        Where there is more than one band and at most `single_rows` rows, each row is a band of its own.
        """
        bands = self.bands()
        if len(bands) > 1 and self.rows <= single_rows:
            bands = [(row, row + 1) for row in range(self.rows)]
        elif len(bands) > MAX_BANDS:
            return None
        if len(bands) == 1:
            return [self._conv(graph, name, self.source, 0, self.rows, self.taps, self.pads)]
        nodes: list[ir.Node] = []
        outputs: list[ir.Value] = []
        for first, stop in bands:
            nodes += self.band_nodes(graph, f"{name}/rows_{first}_{stop}", first, stop)
            outputs.append(nodes[-1].outputs[0])
        return [*nodes, new_node("Concat", outputs, name, self.output_shape, {"axis": 2})]

    def band_nodes(self, graph: ir.Graph, name: str, first: int, stop: int) -> list[ir.Node]:
        """A Slice of the rows that output rows first..stop read, then their Conv."""
        height = self.source_shape[2]
        taps = self.taps
        if stop - first == 1:
            # Taps of a single row that lie in the padding go, so that the device needs no PAD here.
            rows = self.input_rows(first)
            inside = [tap for tap in taps if 0 <= rows[tap] < height]
            taps = range(inside[0], inside[-1] + 1) if inside else taps
        low, high = self.input_rows(first)[taps[0]], self.input_rows(stop - 1)[taps[-1]] + 1
        start, end = max(low, 0), min(high, height)
        pads = (start - low, self.pads[1], high - end, self.pads[3])
        if (start, end) == (0, height):
            return [self._conv(graph, name, self.source, first, stop, taps, pads)]
        bounds = [
            new_initializer(graph, f"{name}/{kind}", np.array([number], dtype=np.int64))
            for kind, number in (("start", start), ("end", end), ("axis", 2))
        ]
        shape = (*self.source_shape[:2], end - start, self.source_shape[3])
        piece = new_node("Slice", [self.source, *bounds], f"{name}/source", shape)
        return [piece, self._conv(graph, name, piece.outputs[0], first, stop, taps, pads)]

    def _conv(
        self,
        graph: ir.Graph,
        name: str,
        source: ir.Value,
        first: int,
        stop: int,
        taps: range,
        pads: tuple[int, int, int, int],
    ) -> ir.Node:
        weights = self.weights(first)[:, :, taps.start : taps.stop]
        attributes: dict[str, int | Sequence[int]] = {
            "kernel_shape": weights.shape[2:],
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": pads,
            "group": self.group,
        }
        parameters = [
            new_initializer(graph, f"{name}/weight", weights),
            new_initializer(graph, f"{name}/bias", self.bias[first]),
        ]
        shape = (*self.output_shape[:2], stop - first, self.columns)
        return new_node("Conv", [source, *parameters], name, shape, attributes)


@dataclass(frozen=True, eq=False)
class RowConvolutionMatch:
    """`output` of the graph is what `convolution` computes; `affine_steps` counts the Mul and Add after the Conv."""

    convolution: RowConvolution
    output: ir.Value
    affine_steps: int


def match_row_convolution(node: ir.Node) -> RowConvolutionMatch | None:
    """A 2-D Conv with constant weights, with all the Mul and Add by constants per channel and row that follow it."""
    convolution = _match_conv(node)
    if convolution is None:
        return None
    output, steps = node.outputs[0], 0
    while (step := _match_affine_step(output, convolution)) is not None:
        convolution, output = step
        steps += 1
    return RowConvolutionMatch(convolution, output, steps)


def _match_conv(node: ir.Node) -> RowConvolution | None:
    if node.op_type != "Conv" or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return None
    source, weights = node.inputs[0], constant(node.inputs[1])
    bias_value = node.inputs[2] if len(node.inputs) > 2 else None
    bias = constant(bias_value)
    source_shape, output_shape = static_shape(source), static_shape(node.outputs[0])
    if source is None or weights is None or (bias_value is not None and bias is None):
        return None
    if source_shape is None or output_shape is None or len(source_shape) != 4:
        return None
    channels, rows = output_shape[1:3]
    row_bias = np.zeros(channels) if bias is None else np.asarray(bias, dtype=np.float64)
    top, left, bottom, right = integers(node, "pads", (0, 0, 0, 0))
    stride_h, stride_w = integers(node, "strides", (1, 1))
    dilation_h, dilation_w = integers(node, "dilations", (1, 1))
    return RowConvolution(
        source=source,
        kernel=np.asarray(weights, dtype=np.float64),
        factors=np.ones((rows, channels)),
        bias=np.repeat(row_bias[None], rows, axis=0),
        group=node.attributes.get_int("group", 1),
        strides=(stride_h, stride_w),
        dilations=(dilation_h, dilation_w),
        pads=(top, left, bottom, right),
        source_shape=(source_shape[0], source_shape[1], source_shape[2], source_shape[3]),
        columns=output_shape[3],
    )


def _match_affine_step(value: ir.Value, convolution: RowConvolution) -> tuple[RowConvolution, ir.Value] | None:
    node = sole_consumer(value)
    if node is None or node.op_type not in ("Mul", "Add"):
        return None
    operand = constant(other_operand(node, value))
    per_row = (1, convolution.channels, convolution.rows, 1)
    if operand is None or static_shape(node.outputs[0]) != convolution.output_shape:
        return None
    if operand.ndim > 4 or np.broadcast_shapes(operand.shape, per_row) != per_row:
        return None
    factors = np.broadcast_to(np.asarray(operand, dtype=np.float64), per_row)[0, :, :, 0].T
    following = convolution.scaled(factors) if node.op_type == "Mul" else convolution.shifted(factors)
    return following, node.outputs[0]
