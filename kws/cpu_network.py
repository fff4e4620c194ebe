"""The BC-ResNet of kws.model computed for a CPU: the same function of the same modules, in less time.

Maps are (channels, frequency, time * clips), clips innermost. So every convolution is a matrix product over long
contiguous rows, or a sum of shifted rows, and every normalised group is one row. PyTorch's kernels for depthwise
convolution and batch normalisation, which the modules call, take most of the time of training otherwise.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kws.cpu_ops import (
    BandProducts,
    BroadcastSum,
    FrequencyBranch,
    NormRelu,
    RowConvolution,
    ShiftedSum,
    band_basis,
    convolve_rows,
    group_norm,
    mean_row,
    overlap,
)
from kws.model import BCResNet, BroadcastedBlock


def forward(network: BCResNet, features: Tensor) -> Tensor:
    """float32 log-mel (n, 1, mel_bands, frames) -> logits (n, classes), as `network(features)`.

    Equal up to float rounding in gradients and running statistics too, and in dropout for the same random state.
    """
    clips, moments = len(features), Moments()
    convolution, norm, _ = _layers(network.stem)
    x = _norm_relu(norm, _stem_convolution(convolution, features), moments)
    for block in _layers(network.blocks):
        x = _block(block, x, clips, moments)
    depthwise, pointwise, norm, _, _, classifier, _ = _layers(network.head)
    x = _norm_relu(norm, _pointwise(pointwise, _head_convolution(depthwise, x, clips)), moments)
    moments.track()
    pooled = x.reshape(len(x), -1, clips).mean(dim=1)
    return torch.addmm(classifier.bias, pooled.t(), classifier.weight.flatten(1).t())


def _block(block: BroadcastedBlock, x: Tensor, clips: int, moments: Moments) -> Tensor:
    *widening, convolution, sub_spectral = _layers(block.f2)
    if widening:
        pointwise, norm, _ = widening
        x = _norm_relu(norm, _pointwise(pointwise, x), moments)
    taps, norm, stride = convolution.weight.flatten(1), sub_spectral.norm, convolution.stride[0]
    if not norm.training:
        y = _norm(norm, convolve_rows(x, taps, stride), moments)
        y = y + _temporal_branch(block.f1, mean_row(y), clips, moments).unsqueeze(1)
        return torch.relu_(y if block.transition else y.add_(x))
    y, row, mean, inverse = FrequencyBranch.apply(  # type: ignore[no-untyped-call]
        x, taps, norm.weight, norm.bias, stride, norm.eps, not block.transition
    )
    moments.add(norm, mean, inverse, y)
    row = _temporal_branch(block.f1, row, clips, moments)
    shortcut = None if block.transition else x.detach()
    summed: Tensor = BroadcastSum.apply(y, row, shortcut)  # type: ignore[no-untyped-call]
    return summed


def _temporal_branch(layers: nn.Module, row: Tensor, clips: int, moments: Moments) -> Tensor:
    """(channels, time * clips) -> the same shape."""
    depthwise, norm, activation, pointwise, dropout = _layers(layers)
    taps: Tensor = depthwise.weight.flatten(1)
    offsets = _time_offsets(taps.shape[1], depthwise.dilation[1], depthwise.padding[1], clips)
    row = RowConvolution.apply(row, taps, offsets)  # type: ignore[no-untyped-call]
    row = torch.mm(pointwise.weight.flatten(1), activation(_norm(norm, row, moments)))
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
        at, source = overlap(frames * clips, offset)
        rows[pad_f : pad_f + mel_bands, tap, at] = innermost[:, source]
    bands = (mel_bands + 2 * pad_f - taps_f) // stride + 1
    inputs = rows.flatten(0, 1).unfold(0, taps_f * taps_t, stride * taps_t)[:bands].transpose(1, 2)
    convolved: Tensor = BandProducts.apply(inputs, convolution.weight.flatten(1))  # type: ignore[no-untyped-call]
    return convolved


def _head_convolution(convolution: nn.Conv2d, x: Tensor, clips: int) -> Tensor:
    """Depthwise, along frequency for each time tap and then the sum of the shifted results."""
    channels, height, positions = x.shape
    taps_f, taps_t = convolution.weight.shape[2:]
    bands = torch.matmul(convolution.weight[:, 0].transpose(1, 2), band_basis(taps_f, height, 1, 0).to(x.dtype))
    products = torch.bmm(bands.reshape(channels, -1, height), x).reshape(channels, taps_t, -1, positions)
    offsets = _time_offsets(taps_t, 1, _paddings(convolution)[1], clips)
    summed: Tensor = ShiftedSum.apply(products, offsets)  # type: ignore[no-untyped-call]
    return summed


def _time_offsets(taps: int, dilation: int, padding: int, clips: int) -> tuple[int, ...]:
    """How many places on in (time * clips) each tap of a convolution along time reads."""
    return tuple((tap * dilation - padding) * clips for tap in range(taps))


def _pointwise(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return torch.mm(convolution.weight.flatten(1), x.flatten(1)).reshape(-1, *x.shape[1:])


def _paddings(convolution: nn.Conv2d) -> tuple[int, int]:
    assert not isinstance(convolution.padding, str)
    height, width = convolution.padding
    return height, width


def _layers(sequence: nn.Module) -> list[Any]:
    return list(sequence.children())


def _norm(layer: nn.BatchNorm2d, x: Tensor, moments: Moments) -> Tensor:
    """Batch normalisation of (channels, ...), each channel in as many equal groups as the layer has per channel."""
    if not layer.training:
        statistics = layer.running_mean, layer.running_var
        rows = x.reshape(1, len(layer.weight), -1)
        y = torch.batch_norm(rows, layer.weight, layer.bias, *statistics, False, 0.0, layer.eps, False)
        return y.reshape(x.shape)
    y, mean, inverse = group_norm(x, layer.weight, layer.bias, layer.eps)
    moments.add(layer, mean[0].detach(), inverse[0].detach(), x)
    return y


def _norm_relu(layer: nn.BatchNorm2d, x: Tensor, moments: Moments) -> Tensor:
    if not layer.training:
        return torch.relu_(_norm(layer, x, moments))
    y, mean, inverse = NormRelu.apply(x, layer.weight, layer.bias, layer.eps)  # type: ignore[no-untyped-call]
    moments.add(layer, mean, inverse, x)
    normed: Tensor = y
    return normed


class Moments:
    """The mean and variance of a batch in each norm, which move all running statistics at once.

    The norms of a BC-ResNet have one momentum and one eps.
    """

    def __init__(self) -> None:
        self.norms: list[nn.BatchNorm2d] = []
        self.means: list[Tensor] = []
        self.inverses: list[Tensor] = []
        self.unbiased: list[float] = []

    def add(self, norm: nn.BatchNorm2d, mean: Tensor, inverse: Tensor, x: Tensor) -> None:
        """Of the groups of x, which `norm` normalises: mean and 1 / sqrt(variance + eps), (groups,) each."""
        count = x.numel() // mean.numel()
        self.norms.append(norm)
        self.means.append(mean)
        self.inverses.append(inverse)
        self.unbiased.append(count / (count - 1))

    @torch.no_grad()
    def track(self) -> None:
        if not self.norms:
            return
        momentum, eps = self.norms[0].momentum, self.norms[0].eps
        variances = torch._foreach_reciprocal(torch._foreach_mul(self.inverses, self.inverses))
        torch._foreach_sub_(variances, eps)
        torch._foreach_mul_(variances, self.unbiased)
        torch._foreach_lerp_([_buffer(norm.running_mean) for norm in self.norms], self.means, momentum)
        torch._foreach_lerp_([_buffer(norm.running_var) for norm in self.norms], variances, momentum)
        torch._foreach_add_([_buffer(norm.num_batches_tracked) for norm in self.norms], 1)


def _buffer(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor
