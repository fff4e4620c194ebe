"""Passes that turn means, norms and shortcuts along frequency into convolutions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from quantize.rewrites.graph_tools import (
    new_initializer,
    new_node,
    reduced_axes,
    replace_value,
    sole_consumer,
    static_shape,
)
from quantize.rewrites.row_convolution import RowConvolution, RowConvolutionMatch, match_row_convolution

FREQUENCY_AXIS, TIME_AXIS = 2, 3
MAX_MEAN_TAPS = 128  # A mean as a convolution costs this many bytes of flash for each channel.


def fold_frequency_mean(model: ir.Model) -> None:
    """The mean over H of a depthwise convolution (with its norm) -> one depthwise convolution of the same source."""
    for match in _row_convolutions(model):
        means = [reader for reader in match.output.consumers() if _kept_mean_axes(reader) == (FREQUENCY_AXIS,)]
        for reader in means if match.convolution.is_depthwise else []:
            output = reader.outputs[0]
            nodes = match.convolution.mean_over_rows().to_nodes(model.graph, output.name or "mean")
            if nodes is not None:
                replace_value(model.graph, output, nodes)


def merge_shortcut(model: ir.Model, single_rows: int = 0) -> None:
    """In a sum that holds both x and a depthwise convolution of x: one convolution with 1 more on its centre tap;
    `single_rows` as in `fold_affine_steps`."""
    for match in _row_convolutions(model):
        merged = match.convolution.plus_source()
        addition = sole_consumer(match.output)
        if merged is not None and addition is not None and addition.op_type == "Add":
            _merge_into_sum(model.graph, match, merged, addition, single_rows)


def _merge_into_sum(
    graph: ir.Graph, match: RowConvolutionMatch, merged: RowConvolution, addition: ir.Node, single_rows: int
) -> None:
    while (above := sole_consumer(addition.outputs[0])) is not None and above.op_type == "Add":
        addition = above
    total = addition.outputs[0]
    terms = _terms(addition, match.output)
    if merged.source not in terms or static_shape(total) != merged.output_shape:
        return
    nodes = merged.to_nodes(graph, f"{match.output.name}/with_shortcut", single_rows)
    if nodes is None:
        return
    terms.remove(merged.source)
    terms.remove(match.output)
    for index, term in enumerate(terms):
        name = f"{total.name}/{index}"
        nodes.append(new_node("Add", [nodes[-1].outputs[0], term], name, merged.output_shape))
    replace_value(graph, total, nodes)


def _terms(addition: ir.Node, whole: ir.Value) -> list[ir.Value]:
    """What a tree of Add nodes sums up; `whole`, and a partial sum that is read elsewhere too, count as one term."""
    terms: list[ir.Value] = []
    for operand in addition.inputs:
        assert operand is not None
        producer = operand.producer()
        is_sum = producer is not None and producer.op_type == "Add" and sole_consumer(operand) is not None
        terms += _terms(producer, whole) if producer is not None and is_sum and operand is not whole else [operand]
    return terms


def fold_affine_steps(model: ir.Model, single_rows: int = 0) -> None:
    """Mul and Add by constants after a convolution go into its weights: one convolution for each band of equal rows,
    or for each row of a depthwise convolution of at most `single_rows` rows.

    This folds BatchNormalization and SubSpectralNorm. What would need more bands than MAX_BANDS stays.
    """
    for match in _row_convolutions(model):
        if not match.affine_steps:
            continue
        most = single_rows if match.convolution.is_depthwise else 0
        nodes = match.convolution.to_nodes(model.graph, match.output.name or "conv", most)
        if nodes is not None:
            replace_value(model.graph, match.output, nodes)


def means_to_convolutions(model: ir.Model, over_time: bool = True) -> None:
    """ReduceMean and GlobalAveragePool over H and W (kept as size 1) -> depthwise convolution with equal weights; one
    over H and one over W where a kernel over both would be large.

    On the device it is faster than MEAN, and other than AVERAGE_POOL_2D its output has a scale of its own.
    """
    for node in list(model.graph):
        axes, shape = _kept_mean_axes(node), static_shape(node.inputs[0]) if node.inputs else None
        if axes is None or shape is None or len(shape) != 4 or not set(axes) <= {FREQUENCY_AXIS, TIME_AXIS}:
            continue
        if not over_time and TIME_AXIS in axes:
            continue
        kernels = _mean_kernels([shape[axis] if axis in axes else 1 for axis in (FREQUENCY_AXIS, TIME_AXIS)])
        if max(map(math.prod, kernels)) <= MAX_MEAN_TAPS:
            _replace_by_means(model.graph, node, shape, kernels)


def _mean_kernels(kernel: list[int]) -> list[list[int]]:
    return [kernel] if math.prod(kernel) <= MAX_MEAN_TAPS or 1 in kernel else [[kernel[0], 1], [1, kernel[1]]]


def _replace_by_means(graph: ir.Graph, node: ir.Node, shape: tuple[int, ...], kernels: list[list[int]]) -> None:
    name, source = node.outputs[0].name or "mean", node.inputs[0]
    assert source is not None
    sizes, nodes = list(shape), []
    for kernel in kernels:
        step = name if kernel is kernels[-1] else f"{name}/{FREQUENCY_AXIS}"
        weights = new_initializer(graph, f"{step}/weight", np.full((shape[1], 1, *kernel), 1.0 / math.prod(kernel)))
        sizes[2:] = [size - taps + 1 for size, taps in zip(sizes[2:], kernel, strict=True)]
        attributes: dict[str, int | Sequence[int]] = {"kernel_shape": kernel, "group": shape[1]}
        nodes.append(new_node("Conv", [source, weights], step, sizes, attributes))
        source = nodes[-1].outputs[0]
    replace_value(graph, node.outputs[0], nodes)


def _row_convolutions(model: ir.Model) -> Iterator[RowConvolutionMatch]:
    """Each convolution of the graph, matched when its turn comes: earlier replacements may have given it new inputs."""
    for node in list(model.graph):
        match = match_row_convolution(node)
        if match is not None:
            yield match


def _kept_mean_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes of a mean that keeps them as size 1; None for any other node."""
    is_mean = node.op_type in ("GlobalAveragePool", "ReduceMean") and node.attributes.get_int("keepdims", True)
    return reduced_axes(node) if is_mean else None
