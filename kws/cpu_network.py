"""The BC-ResNet of kws.model computed for a CPU: the same function of the same modules, in less time.

Maps are (channels, frequency, time * clips), clips innermost. So every convolution is a matrix product over long
contiguous rows, or a sum of shifted rows, and every normalised group is one row. PyTorch's kernels for depthwise
convolution and batch normalisation, which the modules call, take most of the time of training otherwise.
`Function.apply` has no types in PyTorch, hence the ignored checks.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from kws.model import BCResNet, BroadcastedBlock


def forward(network: BCResNet, features: Tensor) -> Tensor:
    """float32 log-mel (n, 1, mel_bands, frames) -> logits (n, classes), as `network(features)`.

    Equal up to float rounding in gradients and running statistics too, and in dropout for the same random state.
    """
    clips = len(features)
    convolution, norm, _ = _layers(network.stem)
    x = _norm_relu(norm, _stem_convolution(convolution, features))
    for block in _layers(network.blocks):
        x = _block(block, x, clips)
    depthwise, pointwise, norm, _, _, classifier, _ = _layers(network.head)
    x = _norm_relu(norm, _pointwise(pointwise, _head_convolution(depthwise, x, clips)))
    pooled = x.reshape(len(x), -1, clips).mean(dim=1)
    return torch.addmm(classifier.bias, pooled.t(), classifier.weight.flatten(1).t())


def _block(block: BroadcastedBlock, x: Tensor, clips: int) -> Tensor:
    shortcut = None if block.transition else x
    if block.transition:
        pointwise, norm, _ = _layers(block.f2[:-2])
        x = _norm_relu(norm, _pointwise(pointwise, x))
    frequency, sub_spectral = _layers(block.f2[-2:])
    auxiliary = _norm(sub_spectral.norm, _frequency_convolution(frequency, x))
    row = _temporal_branch(block.f1, auxiliary.mean(dim=1), clips)
    summed: Tensor = BroadcastSum.apply(auxiliary, row.unsqueeze(1), shortcut)  # type: ignore[no-untyped-call]
    return summed


def _temporal_branch(layers: nn.Module, row: Tensor, clips: int) -> Tensor:
    """(channels, time * clips) -> the same shape."""
    depthwise, norm, activation, pointwise, dropout = _layers(layers)
    taps: Tensor = depthwise.weight.flatten(1)
    step = depthwise.dilation[1] * clips
    offsets = tuple(tap * step - depthwise.padding[1] * clips for tap in range(taps.shape[1]))
    row = RowConvolution.apply(row, taps, offsets)  # type: ignore[no-untyped-call]
    row = torch.mm(pointwise.weight.flatten(1), activation(_norm(norm, row)))
    if not dropout.training:
        return row
    channels = len(row)
    kept: Tensor = dropout(row.new_ones(clips, channels, 1, 1)).reshape(clips, channels).t()
    return (row.reshape(channels, -1, clips) * kept.unsqueeze(1)).reshape(channels, -1)


def _stem_convolution(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    """(n, 1, mel_bands, frames) -> (channels, bands, frames * n)."""
    mel_bands, frames = features.shape[2:]
    taps_f, taps_t = convolution.weight.shape[2:]
    (stride, _), (pad_f, pad_t) = convolution.stride, _paddings(convolution)
    padded = nn.functional.pad(features[:, 0].permute(1, 2, 0), (0, 0, pad_t, pad_t, pad_f, pad_f))
    # Each band once per time tap, so that the inputs of an output band are consecutive rows and never copied.
    rows = torch.stack([padded[:, tap : tap + frames] for tap in range(taps_t)], dim=1).flatten(2).flatten(0, 1)
    bands = (mel_bands + 2 * pad_f - taps_f) // stride + 1
    inputs = rows.unfold(0, taps_f * taps_t, stride * taps_t)[:bands].transpose(1, 2)
    return torch.bmm(convolution.weight.flatten(1).expand(bands, -1, -1), inputs).transpose(0, 1).contiguous()


def _head_convolution(convolution: nn.Conv2d, x: Tensor, clips: int) -> Tensor:
    """Depthwise, along frequency for each time tap and then the sum of the shifted results."""
    channels, height, positions = x.shape
    taps_f, taps_t = convolution.weight.shape[2:]
    margin = _paddings(convolution)[1] * clips
    bands = torch.matmul(convolution.weight[:, 0].transpose(1, 2), _band_basis(taps_f, height, 1, 0).to(x.dtype))
    products = torch.bmm(bands.reshape(channels, -1, height), x).reshape(channels, taps_t, -1, positions)
    padded = nn.functional.pad(products, (margin, margin))
    return torch.stack([padded[:, tap, :, tap * clips :][..., :positions] for tap in range(taps_t)]).sum(dim=0)


def _frequency_convolution(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """Depthwise along frequency: a banded matrix (height_out, height) for each channel."""
    taps = convolution.weight.flatten(1)
    basis = _band_basis(taps.shape[1], x.shape[1], convolution.stride[0], _paddings(convolution)[0]).to(x.dtype)
    return torch.bmm(torch.mm(taps, basis).reshape(len(x), -1, x.shape[1]), x)


def _pointwise(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return torch.mm(convolution.weight.flatten(1), x.flatten(1)).reshape(-1, *x.shape[1:])


def _paddings(convolution: nn.Conv2d) -> tuple[int, int]:
    assert not isinstance(convolution.padding, str)
    height, width = convolution.padding
    return height, width


def _layers(sequence: nn.Module) -> list[Any]:
    return list(sequence.children())


@lru_cache
def _band_basis(taps: int, size_in: int, stride: int, padding: int) -> Tensor:
    """float32 (taps, size_out * size_in): where each tap of a convolution stands in its banded matrix."""
    size_out = (size_in + 2 * padding - taps) // stride + 1
    source = torch.arange(size_out) * stride - padding + torch.arange(taps)[:, None]
    return (source[..., None] == torch.arange(size_in)).float().flatten(1)


def _norm(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch normalisation of (channels, ...), each channel in as many equal groups as the layer has per channel."""
    groups = len(layer.weight)
    rows = x.reshape(1, groups, -1)
    if not layer.training:
        statistics = layer.running_mean, layer.running_var
        y = torch.batch_norm(rows, layer.weight, layer.bias, *statistics, False, 0.0, layer.eps, False)
        return y.reshape(x.shape)
    # Over one "clip" with a group per channel, group normalisation is batch normalisation.
    count = rows.shape[2]
    y, mean, inverse = torch.native_group_norm(rows, layer.weight, layer.bias, 1, groups, count, groups, layer.eps)
    _track(layer, mean[0].detach(), inverse[0].detach(), count)
    return y.reshape(x.shape)


def _norm_relu(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return torch.relu_(_norm(layer, x))


def _track(layer: nn.BatchNorm2d, mean: Tensor, inverse: Tensor, count: int) -> None:
    """Move the running statistics towards a batch's mean and 1 / sqrt(variance + eps), of `count` values each."""
    assert layer.running_mean is not None and layer.running_var is not None
    assert layer.num_batches_tracked is not None and layer.momentum is not None
    unbiased = (inverse.square().reciprocal() - layer.eps) * (count / (count - 1))
    layer.num_batches_tracked.add_(1)
    layer.running_mean.lerp_(mean, layer.momentum)
    layer.running_var.lerp_(unbiased, layer.momentum)


class RowConvolution(torch.autograd.Function):
    """Depthwise convolution of (channels, n) by (channels, taps): tap i reads offsets[i] places on, 0 outside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, offsets: tuple[int, ...]) -> Tensor:
        ctx.offsets = offsets
        ctx.save_for_backward(x, taps)
        y = torch.zeros_like(x)
        for tap, offset in enumerate(offsets):
            at, source = _overlap(x.shape[1], offset)
            y[:, at].addcmul_(x[:, source], taps[:, tap, None])
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, taps = ctx.saved_tensors
        x_gradient, taps_gradient = torch.zeros_like(x), torch.empty_like(taps)
        for tap, offset in enumerate(ctx.offsets):
            at, source = _overlap(x.shape[1], offset)
            x_gradient[:, source].addcmul_(gradient[:, at], taps[:, tap, None])
            taps_gradient[:, tap] = torch.linalg.vecdot(gradient[:, at], x[:, source])
        return x_gradient, taps_gradient, None


def _overlap(size: int, offset: int) -> tuple[slice, slice]:
    """The places i, and i + offset, where both lie in 0..size-1."""
    span = max(0, size - abs(offset))
    first, source = (0, offset) if offset > 0 else (-offset, 0)
    return slice(first, first + span), slice(source, source + span)


class BroadcastSum(torch.autograd.Function):
    """relu(map + row [+ shortcut]): map and shortcut (channels, height, n), row (channels, 1, n)."""

    @staticmethod
    def forward(ctx: Any, map_: Tensor, row: Tensor, shortcut: Tensor | None) -> Tensor:
        y = map_ + row
        if shortcut is not None:
            y.add_(shortcut)
        y.relu_()
        ctx.has_shortcut = shortcut is not None
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        masked = torch.ops.aten.threshold_backward(gradient, y, 0)
        return masked, masked.sum(dim=1, keepdim=True), masked if ctx.has_shortcut else None
