"""The BC-ResNet of kws.model on a CPU: the same function of the same modules, several times as fast to train.

Maps are kept as (channels, frequency, time * clips), clips innermost. So each convolution is a matrix product over
long contiguous rows: a pointwise one as it is, a depthwise one after its taps are written as a banded matrix
(channels, size_out, size_in); and each normalised group is one row. PyTorch's own kernels for depthwise convolution
and batch normalisation take most of the time of the plain network.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from kws.model import BCResNet, BroadcastedBlock, SubSpectralNorm


def forward(network: BCResNet, features: Tensor) -> Tensor:
    """float32 log-mel (n, 1, mel_bands, frames) -> logits (n, classes), as `network(features)`.

    Equal in gradients, running statistics and, for the same random state, dropout, up to float rounding.
    """
    clips = len(features)
    stem_convolution, stem_norm, _ = network.stem
    x = _stem_convolution(stem_convolution, features)
    x = _norm(stem_norm, x, relu=True)
    for block in network.blocks:
        x = _block(block, x, clips)
    depthwise, pointwise, head_norm, _, _, classifier, _ = network.head
    x = _head_convolution(depthwise, x, clips)
    x = _norm(head_norm, _pointwise(pointwise, x), relu=True)
    pooled = x.reshape(x.shape[0], -1, clips).mean(dim=1)
    return torch.addmm(classifier.bias, pooled.t(), classifier.weight.flatten(1).t())


def _block(block: BroadcastedBlock, x: Tensor, clips: int) -> Tensor:
    residual = None if block.transition else x
    if block.transition:
        x = _norm(block.f2[1], _pointwise(block.f2[0], x), relu=True)
    frequency, sub_spectral = block.f2[-2:]
    auxiliary = _sub_spectral_norm(sub_spectral, torch.bmm(_band_of(frequency, 0, x.shape[1]), x))
    temporal, norm, activation, pointwise, dropout = block.f1
    mean = auxiliary.mean(dim=1)
    channels, positions = mean.shape
    dilation = temporal.dilation[1] * clips
    row = RowConvolution.apply(mean, temporal.weight.flatten(1), (-dilation, 0, dilation))
    row = activation(_norm(norm, row, relu=False))
    row = _pointwise(pointwise, row.unsqueeze(1)).reshape(channels, -1, clips)
    if dropout.training:
        kept = dropout(row.new_ones(clips, channels, 1, 1))
        row = row * kept.reshape(clips, channels).t().unsqueeze(1)
    summed: Tensor = BroadcastSum.apply(auxiliary, row.reshape(channels, 1, positions), residual)
    return summed


def _pointwise(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    channels_in, height, width = x.shape
    return torch.mm(convolution.weight.flatten(1), x.reshape(channels_in, -1)).reshape(-1, height, width)


def _stem_convolution(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    """(n, 1, mel_bands, frames) -> (channels, bands, frames * n)."""
    clips, _, mel_bands, frames = features.shape
    taps_f, taps_t = convolution.weight.shape[2:]
    stride = convolution.stride[0]
    pad_f, pad_t = convolution.padding
    padded = torch.nn.functional.pad(features[:, 0].permute(1, 2, 0), (0, 0, pad_t, pad_t, pad_f, pad_f))
    # Each padded band once per time tap, so that the inputs of one output band are consecutive rows.
    shifted = torch.stack([padded[:, tap : tap + frames] for tap in range(taps_t)], dim=1).flatten(2)
    bands = (mel_bands + 2 * pad_f - taps_f) // stride + 1
    rows = shifted.flatten(0, 1).unfold(0, taps_f * taps_t, stride * taps_t)[:bands].transpose(1, 2)
    weight = convolution.weight.flatten(1).expand(bands, -1, -1)
    return torch.bmm(weight, rows).transpose(0, 1).contiguous()


def _head_convolution(convolution: nn.Conv2d, x: Tensor, clips: int) -> Tensor:
    channels, height, positions = x.shape
    taps_f, taps_t = convolution.weight.shape[2:]
    pad_t = convolution.padding[1]
    basis = _band_basis(taps_f, height, 1, 0, 1)
    rows = height - taps_f + 1
    weight = convolution.weight[:, 0].transpose(1, 2)  # (channels, taps_t, taps_f)
    band = torch.matmul(weight, basis).reshape(channels, taps_t * rows, height)
    products = torch.bmm(band, x).reshape(channels, taps_t, rows, positions)
    padded = torch.nn.functional.pad(products, (pad_t * clips, pad_t * clips))
    parts = [padded[:, tap, :, tap * clips : tap * clips + positions] for tap in range(taps_t)]
    return torch.stack(parts).sum(dim=0)


def _band_of(convolution: nn.Conv2d, axis: int, size_in: int) -> Tensor:
    """The taps of a depthwise convolution along one axis as (channels, size_out, size_in)."""
    weight = convolution.weight.flatten(1)
    basis = _band_basis(
        weight.shape[1],
        size_in,
        convolution.stride[axis],
        int(convolution.padding[axis]),
        convolution.dilation[axis],
    )
    return torch.mm(weight, basis).reshape(weight.shape[0], -1, size_in)


@lru_cache
def _band_basis(taps: int, size_in: int, stride: int, padding: int, dilation: int) -> Tensor:
    """float32 (taps, size_out * size_in): where each tap of a convolution stands in its matrix."""
    size_out = (size_in + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
    basis = torch.zeros(taps, size_out, size_in)
    for tap in range(taps):
        for row in range(size_out):
            column = row * stride - padding + tap * dilation
            if 0 <= column < size_in:
                basis[tap, row, column] = 1
    return basis.reshape(taps, -1)


def _sub_spectral_norm(layer: SubSpectralNorm, x: Tensor) -> Tensor:
    channels, height, positions = x.shape
    bands = x.reshape(channels * layer.sub_bands, height // layer.sub_bands, positions)
    return _norm(layer.norm, bands, relu=False).reshape(channels, height, positions)


def _norm(layer: nn.BatchNorm2d, x: Tensor, *, relu: bool) -> Tensor:
    """Batch normalisation of each row of (groups, ...), with its running statistics, and a ReLU if wanted."""
    assert layer.running_mean is not None and layer.running_var is not None
    groups = len(layer.weight)
    rows = x.reshape(1, groups, -1)
    if not layer.training:
        y = torch.batch_norm(
            rows, layer.weight, layer.bias, layer.running_mean, layer.running_var, False, 0.0, layer.eps, False
        )
        return (y.relu_() if relu else y).reshape(x.shape)
    count = rows.shape[2]
    y, mean, inverse = torch.native_group_norm(rows, layer.weight, layer.bias, 1, groups, count, groups, layer.eps)
    with torch.no_grad():
        layer.num_batches_tracked.add_(1)
        variance = inverse[0].square().reciprocal_().sub_(layer.eps)
        layer.running_mean.lerp_(mean[0], layer.momentum)
        layer.running_var.lerp_(variance.mul_(count / (count - 1)), layer.momentum)
    return (y.relu_() if relu else y).reshape(x.shape)


class RowConvolution(torch.autograd.Function):
    """Depthwise convolution of (channels, n) with (channels, taps): tap i reads offsets[i] places further on."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, offsets: tuple[int, ...]) -> Tensor:
        ctx.offsets = offsets
        ctx.save_for_backward(x, weight)
        y = torch.zeros_like(x)
        for tap, offset in enumerate(offsets):
            at, source = _overlap(x.shape[1], offset)
            y[:, at].addcmul_(x[:, source], weight[:, tap, None])
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        x_gradient, weight_gradient = torch.zeros_like(x), torch.empty_like(weight)
        for tap, offset in enumerate(ctx.offsets):
            at, source = _overlap(x.shape[1], offset)
            x_gradient[:, source].addcmul_(gradient[:, at], weight[:, tap, None])
            weight_gradient[:, tap] = torch.linalg.vecdot(gradient[:, at], x[:, source])
        return x_gradient, weight_gradient, None


def _overlap(size: int, offset: int) -> tuple[slice, slice]:
    """The places i, and i + offset, for which both lie in 0..size-1."""
    span = max(0, size - abs(offset))
    first = min(size, max(0, -offset))
    return slice(first, first + span), slice(first + offset, first + offset + span) if span else slice(0, 0)


class BroadcastSum(torch.autograd.Function):
    """relu(map + row [+ residual]): map and residual (channels, height, n), row (channels, 1, n)."""

    @staticmethod
    def forward(ctx: Any, map_: Tensor, row: Tensor, residual: Tensor | None) -> Tensor:
        y = map_ + row
        if residual is not None:
            y.add_(residual)
        y.relu_()
        ctx.has_residual = residual is not None
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        masked = torch.ops.aten.threshold_backward(gradient, y, 0)
        return masked, masked.sum(dim=1, keepdim=True), masked if ctx.has_residual else None
