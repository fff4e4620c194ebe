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
    if block.transition:
        pointwise, norm, _ = _layers(block.f2[:-2])
        x = _norm_relu(norm, _pointwise(pointwise, x))
    convolution, sub_spectral = _layers(block.f2[-2:])
    taps, norm, stride = convolution.weight.flatten(1), sub_spectral.norm, convolution.stride[0]
    if not norm.training:
        y = _norm(norm, convolve_rows(x, taps, stride))
        y = y + _temporal_branch(block.f1, _mean_row(y), clips).unsqueeze(1)
        return torch.relu_(y if block.transition else y.add_(x))
    y, row, mean, inverse = FrequencyBranch.apply(  # type: ignore[no-untyped-call]
        x, taps, norm.weight, norm.bias, stride, norm.eps, not block.transition
    )
    _track(norm, mean, inverse, y.numel() // len(norm.weight))
    row = _temporal_branch(block.f1, row, clips).unsqueeze(1)
    shortcut = None if block.transition else x.detach()
    summed: Tensor = BroadcastSum.apply(y, row, shortcut)  # type: ignore[no-untyped-call]
    return summed


def _temporal_branch(layers: nn.Module, row: Tensor, clips: int) -> Tensor:
    """(channels, time * clips) -> the same shape."""
    depthwise, norm, activation, pointwise, dropout = _layers(layers)
    taps: Tensor = depthwise.weight.flatten(1)
    offsets = _time_offsets(taps.shape[1], depthwise.dilation[1], depthwise.padding[1], clips)
    row = RowConvolution.apply(row, taps, offsets)  # type: ignore[no-untyped-call]
    row = torch.mm(pointwise.weight.flatten(1), activation(_norm(norm, row)))
    if not dropout.training:
        return row
    channels = len(row)
    kept: Tensor = dropout(row.new_ones(clips, channels, 1, 1)).reshape(clips, channels).t()
    return (row.reshape(channels, -1, clips) * kept.unsqueeze(1)).reshape(channels, -1)


def _stem_convolution(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    """(n, 1, mel_bands, frames) -> (channels, bands, frames * n)."""
    clips, _, mel_bands, frames = features.shape
    taps_f, taps_t = convolution.weight.shape[2:]
    (stride, _), (pad_f, pad_t) = convolution.stride, _paddings(convolution)
    # Each band once per time tap, so that the inputs of an output band are consecutive rows and never copied.
    rows = features.new_zeros(mel_bands + 2 * pad_f, taps_t, frames * clips)
    innermost = features.flatten(1).t().reshape(mel_bands, frames * clips)
    for tap, offset in enumerate(_time_offsets(taps_t, 1, pad_t, clips)):
        at, source = _overlap(frames * clips, offset)
        rows[pad_f : pad_f + mel_bands, tap, at] = innermost[:, source]
    bands = (mel_bands + 2 * pad_f - taps_f) // stride + 1
    inputs = rows.flatten(0, 1).unfold(0, taps_f * taps_t, stride * taps_t)[:bands].transpose(1, 2)
    convolved: Tensor = BandProducts.apply(inputs, convolution.weight.flatten(1))  # type: ignore[no-untyped-call]
    return convolved


def _head_convolution(convolution: nn.Conv2d, x: Tensor, clips: int) -> Tensor:
    """Depthwise, along frequency for each time tap and then the sum of the shifted results."""
    channels, height, positions = x.shape
    taps_f, taps_t = convolution.weight.shape[2:]
    bands = torch.matmul(convolution.weight[:, 0].transpose(1, 2), _band_basis(taps_f, height, 1, 0).to(x.dtype))
    products = torch.bmm(bands.reshape(channels, -1, height), x).reshape(channels, taps_t, -1, positions)
    offsets = _time_offsets(taps_t, 1, _paddings(convolution)[1], clips)
    summed: Tensor = ShiftedSum.apply(products, offsets)  # type: ignore[no-untyped-call]
    return summed


def _time_offsets(taps: int, dilation: int, padding: int, clips: int) -> tuple[int, ...]:
    """How many places on in (time * clips) each tap of a convolution along time reads."""
    return tuple((tap * dilation - padding) * clips for tap in range(taps))


def _mean_row(x: Tensor) -> Tensor:
    """(channels, height, n) -> (channels, n), a matrix product being the fastest mean."""
    channels, height, _ = x.shape
    return torch.bmm(x.new_full((1, 1, height), 1 / height).expand(channels, -1, -1), x).squeeze(1)


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
    if not layer.training:
        statistics = layer.running_mean, layer.running_var
        rows = x.reshape(1, groups, -1)
        y = torch.batch_norm(rows, layer.weight, layer.bias, *statistics, False, 0.0, layer.eps, False)
        return y.reshape(x.shape)
    # Over one "clip" with a group per channel, group normalisation is batch normalisation.
    count = x.numel() // groups
    y, mean, inverse = torch.native_group_norm(x, layer.weight, layer.bias, 1, groups, count, groups, layer.eps)
    _track(layer, mean[0].detach(), inverse[0].detach(), count)
    return y


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


class BandProducts(torch.autograd.Function):
    """inputs (bands, k, n), which need no gradient, by one weight (channels, k) -> (channels, bands, n)."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return torch.bmm(weight.expand(len(inputs), -1, -1), inputs).transpose(0, 1).contiguous()

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
            at, source = _overlap(x.shape[3], offset)
            y[..., at] += x[:, tap, :, source]
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        channels, rows, positions = gradient.shape
        x_gradient = gradient.new_zeros(channels, len(ctx.offsets), rows, positions)
        for tap, offset in enumerate(ctx.offsets):
            at, source = _overlap(positions, offset)
            x_gradient[:, tap, :, source] = gradient[..., at]
        return x_gradient, None


def _overlap(size: int, offset: int) -> tuple[slice, slice]:
    """The places i, and i + offset, where both lie in 0..size-1."""
    span = max(0, size - abs(offset))
    first, source = (0, offset) if offset > 0 else (-offset, 0)
    return slice(first, first + span), slice(source, source + span)


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
        z = convolve_rows(x, taps, stride)
        groups = len(weight)
        y, mean, inverse = torch.native_group_norm(z, weight, bias, 1, groups, z.numel() // groups, groups, eps)
        ctx.save_for_backward(x, taps, weight, z, mean, inverse)
        ctx.stride, ctx.shortcut = stride, shortcut
        statistics = mean[0], inverse[0]
        ctx.mark_non_differentiable(*statistics)
        return y, _mean_row(y), *statistics

    @staticmethod
    def backward(ctx: Any, map_gradient: Tensor, mean_gradient: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        x, taps, weight, z, mean, inverse = ctx.saved_tensors
        groups, rows, stride = len(weight), z.shape[1], ctx.stride
        gradient, weight_gradient, bias_gradient = torch.ops.aten.native_group_norm_backward(
            torch.add(map_gradient, mean_gradient.unsqueeze(1), alpha=1 / rows),
            *(z, mean, inverse, weight, 1, groups, z.numel() // groups, groups, [True, True, True]),
        )
        before, centre, after = taps.t()[..., None, None]
        if ctx.shortcut:
            x_gradient = torch.addcmul(map_gradient, gradient, centre)
        else:
            x_gradient = torch.zeros_like(x)
            torch.mul(gradient, centre, out=x_gradient[:, ::stride])
        x_gradient[:, stride - 1 :: stride][:, : rows - 1].addcmul_(gradient[:, 1:], before)
        following = x_gradient[:, 1::stride]
        following.addcmul_(gradient[:, : following.shape[1]], after)
        # Of all products of a row with a row, a tap's gradient is the sum of those that it joins.
        basis = _band_basis(taps.shape[1], x.shape[1], stride, 1).to(x.dtype)
        taps_gradient = torch.mm(torch.bmm(gradient, x.transpose(1, 2)).flatten(1), basis.t())
        return x_gradient, taps_gradient, weight_gradient, bias_gradient, None, None, None


def convolve_rows(x: Tensor, taps: Tensor, stride: int) -> Tensor:
    """(channels, height, n) by (channels, 3) along the height, with a row of zeros at each end."""
    before, centre, after = taps.t()[..., None, None]
    y: Tensor = x[:, ::stride] * centre
    y[:, 1:].addcmul_(x[:, stride - 1 :: stride][:, : y.shape[1] - 1], before)
    following = x[:, 1::stride]
    y[:, : following.shape[1]].addcmul_(following, after)
    return y


class BroadcastSum(torch.autograd.Function):
    """relu(map + row [+ shortcut]), in place of the map: map and shortcut (channels, height, n), row (channels, 1, n).

    The gradient of the shortcut is that of the map; FrequencyBranch, where both begin, adds it.
    """

    @staticmethod
    def forward(ctx: Any, map_: Tensor, row: Tensor, shortcut: Tensor | None) -> Tensor:
        ctx.mark_dirty(map_)
        map_.add_(row)
        if shortcut is not None:
            map_.add_(shortcut)
        map_.relu_()
        ctx.save_for_backward(map_)
        return map_

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        masked = torch.ops.aten.threshold_backward(gradient, y, 0)
        return masked, _mean_row(masked).mul_(masked.shape[1]).unsqueeze(1), None
