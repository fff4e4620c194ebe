"""What kws.cpu_network computes faster than PyTorch's own kernels and their gradients.

Maps are (channels, height, n) and rows (channels, n), float32 or float64 like their weights. Backward passes write into
the gradient that they are given: in that network each result has one reader, so nothing else needs it.
`Function.apply` has no types in PyTorch, hence the checks that its callers ignore.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from kws import cpu_kernels


class NormRelu(torch.autograd.Function):
    """Batch normalisation and ReLU of (channels, height, n) -> the same shape, and the channels' means and
    1 / sqrt(variance + eps), (channels,) each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        y, mean, inverse = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        cpu_kernels.norm_relu(x, weight, bias, eps, y, mean, inverse)
        ctx.save_for_backward(x, weight, y, mean, inverse)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(mean, inverse)
        return y, mean, inverse

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        x, weight, y, mean, inverse = ctx.saved_tensors
        gradient = gradient.contiguous()
        weight_gradient, bias_gradient = torch.empty_like(weight), torch.empty_like(weight)
        cpu_kernels.norm_relu_backward(gradient, x, y, weight, mean, inverse, weight_gradient, bias_gradient)
        return gradient, weight_gradient, bias_gradient, None


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
    """x (channels, ...) normalised in as many equal groups as there are weights, and the mean and
    1 / sqrt(variance + eps) of each, (1, groups).

    Over one "clip" with a group per channel, group normalisation is batch normalisation.
    """
    groups = len(weight)
    normed: tuple[Tensor, ...] = torch.native_group_norm(x, weight, bias, 1, groups, x.numel() // groups, groups, eps)
    return normed


class RowConvolution(torch.autograd.Function):
    """Depthwise convolution of (channels, n) by (channels, taps): tap i reads offsets[i] places on, 0 outside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, offsets: tuple[int, ...]) -> Tensor:
        ctx.offsets = offsets
        ctx.save_for_backward(x, taps)
        return _shifted_sum(x, taps, offsets)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, taps = ctx.saved_tensors
        taps_gradient = torch.empty_like(taps)
        for tap, offset in enumerate(ctx.offsets):
            at, source = overlap(x.shape[1], offset)
            torch.linalg.vecdot(gradient[:, at], x[:, source], out=taps_gradient[:, tap])
        return _shifted_sum(gradient, taps, [-offset for offset in ctx.offsets]), taps_gradient, None


def _shifted_sum(x: Tensor, taps: Tensor, offsets: Sequence[int]) -> Tensor:
    """(channels, n) by (channels, taps): the sum of taps[:, i] times x read offsets[i] places on, 0 outside."""
    centre = offsets.index(0)
    y = x * taps[:, centre, None]
    for tap, offset in enumerate(offsets):
        if tap != centre:
            at, source = overlap(x.shape[1], offset)
            y[:, at].addcmul_(x[:, source], taps[:, tap, None])
    return y


class BandProducts(torch.autograd.Function):
    """inputs (bands, k, n), which need no gradient, by one weight (channels, k) -> (channels, bands, n)."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        y = inputs.new_empty(len(weight), len(inputs), inputs.shape[2])
        for band, rows in enumerate(inputs):
            torch.mm(weight, rows, out=y[:, band])
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (inputs,) = ctx.saved_tensors
        return None, torch.bmm(inputs, gradient.permute(1, 2, 0)).sum(dim=0).t()


class ShiftedSum(torch.autograd.Function):
    """(channels, taps, rows, n) -> (channels, rows, n): the sum of all taps, tap i read offsets[i] places on."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offsets: tuple[int, ...]) -> Tensor:
        ctx.offsets = offsets
        y = torch.zeros_like(x[:, 0])
        for tap, offset in enumerate(offsets):
            at, source = overlap(x.shape[3], offset)
            y[..., at] += x[:, tap, :, source]
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        channels, rows, positions = gradient.shape
        x_gradient = gradient.new_zeros(channels, len(ctx.offsets), rows, positions)
        for tap, offset in enumerate(ctx.offsets):
            at, source = overlap(positions, offset)
            x_gradient[:, tap, :, source] = gradient[..., at]
        return x_gradient, None


class FrequencyBranch(torch.autograd.Function):
    """Depthwise convolution along frequency, normalised, and the mean of that over frequency.

    (channels, height, n) by taps (channels, 3) -> the map (channels, height_out, n), its mean (channels, n), and each
    group's mean and 1 / sqrt(variance + eps) before the norm. With `shortcut` the gradient of the map is the input's,
    too: see BroadcastSum.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, taps: Tensor, weight: Tensor, bias: Tensor, stride: int, eps: float, shortcut: bool
    ) -> tuple[Tensor, ...]:
        channels, height, n = x.shape
        y, row = x.new_empty(channels, (height - 1) // stride + 1, n), x.new_empty(channels, n)
        mean, inverse = torch.empty_like(weight), torch.empty_like(weight)
        cpu_kernels.frequency_branch(x, taps, weight, bias, stride, eps, y, row, mean, inverse)
        ctx.save_for_backward(x, taps, weight, mean, inverse)
        ctx.stride, ctx.shortcut = stride, shortcut
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(mean, inverse)
        return y, row, mean, inverse

    @staticmethod
    def backward(ctx: Any, map_gradient: Tensor, mean_gradient: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        x, taps, weight, mean, inverse = ctx.saved_tensors
        made = [torch.empty_like(tensor) for tensor in (x, taps, weight, weight)]
        cpu_kernels.frequency_branch_backward(
            map_gradient.contiguous(),
            mean_gradient.contiguous(),
            x,
            taps,
            weight,
            mean,
            inverse,
            ctx.stride,
            ctx.shortcut,
            *made,
        )
        return *made, None, None, None


def convolve_rows(x: Tensor, taps: Tensor, stride: int) -> Tensor:
    """(channels, height, n) by (channels, 3) along the height, with a row of zeros at each end."""
    before, centre, after = taps[..., None, None].unbind(1)
    y: Tensor = x[:, ::stride] * centre
    y[:, 1:].addcmul_(x[:, stride - 1 :: stride][:, : y.shape[1] - 1], before)
    following = x[:, 1::stride]
    y[:, : following.shape[1]].addcmul_(following, after)
    return y


class BroadcastSum(torch.autograd.Function):
    """relu(map + row [+ shortcut]), in place of the map: map and shortcut (channels, height, n), row (channels, n).

    The gradient of the shortcut is that of the map; FrequencyBranch, where both begin, adds it.
    """

    @staticmethod
    def forward(ctx: Any, map_: Tensor, row: Tensor, shortcut: Tensor | None) -> Tensor:
        ctx.mark_dirty(map_)
        cpu_kernels.broadcast_sum(map_, row, map_.new_empty(0, 0, 0) if shortcut is None else shortcut)
        ctx.save_for_backward(map_)
        return map_

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        gradient = gradient.contiguous()
        row_gradient = gradient.new_empty(y.shape[0], y.shape[2])
        cpu_kernels.broadcast_sum_backward(gradient, y, row_gradient)
        return gradient, row_gradient, None


def overlap(size: int, offset: int) -> tuple[slice, slice]:
    """The places i, and i + offset, where both lie in 0..size-1."""
    span = max(0, size - abs(offset))
    first, source = (0, offset) if offset > 0 else (-offset, 0)
    return slice(first, first + span), slice(source, source + span)


def mean_row(x: Tensor) -> Tensor:
    """(channels, height, n) -> (channels, n), a matrix product being the fastest mean."""
    channels, height, _ = x.shape
    return torch.bmm(x.new_full((1, 1, height), 1 / height).expand(channels, -1, -1), x).squeeze(1)


@lru_cache
def band_basis(taps: int, size_in: int, stride: int, padding: int) -> Tensor:
    """float32 (taps, size_out * size_in): where each tap of a convolution stands in its banded matrix."""
    size_out = (size_in + 2 * padding - taps) // stride + 1
    source = torch.arange(size_out) * stride - padding + torch.arange(taps)[:, None]
    return (source[..., None] == torch.arange(size_in)).float().flatten(1)
