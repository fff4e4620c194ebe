"""Keyword spotting networks from the literature, small, in the forms in which people train them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _conv_norm(layer: nn.Conv1d | nn.Conv2d, activation: nn.Module | None = None) -> nn.Sequential:
    norm = nn.BatchNorm1d if isinstance(layer, nn.Conv1d) else nn.BatchNorm2d
    return nn.Sequential(layer, norm(layer.out_channels), *([activation] if activation else []))


class DsCnn(nn.Module):
    """Zhang et al. 2017 (arXiv:1711.07128): (n, 1, bands, frames), depthwise separable, ReLU6, average pool, Linear."""

    def __init__(self, classes: int = 6, channels: int = 16) -> None:
        super().__init__()
        stem = nn.Conv2d(1, channels, (10, 4), (2, 2), padding=(5, 1), bias=False)
        blocks: list[nn.Module] = [_conv_norm(stem, nn.ReLU6())]
        for _ in range(2):
            depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
            blocks += [_conv_norm(depthwise, nn.ReLU6()), _conv_norm(nn.Conv2d(channels, channels, 1), nn.ReLU6())]
        self.body = nn.Sequential(*blocks, nn.AvgPool2d(2, padding=1), nn.Dropout(0.2))
        self.head = nn.LazyLinear(classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.body(x), 1))


class _MatchboxBlock(nn.Module):
    def __init__(self, channels_in: int, channels: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        depthwise = nn.Conv1d(
            channels_in, channels_in, kernel, padding=padding, dilation=dilation, groups=channels_in, bias=False
        )
        self.separable = nn.Sequential(depthwise, _conv_norm(nn.Conv1d(channels_in, channels, 1, bias=False)))
        self.skip = _conv_norm(nn.Conv1d(channels_in, channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.separable(x) + self.skip(x))


class MatchboxNet(nn.Module):
    """Majumdar and Ginsburg 2020 (arXiv:2004.08531): (n, bands, frames), separable 1-D convolutions, dilation."""

    def __init__(self, classes: int = 6, bands: int = 20, channels: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv_norm(nn.Conv1d(bands, channels, 11, stride=2, padding=5, bias=False), nn.ReLU()),
            _MatchboxBlock(channels, channels, 13),
            _MatchboxBlock(channels, 24, 15, dilation=2),
            _conv_norm(nn.Conv1d(24, 24, 1, bias=False), nn.ReLU()),
        )
        self.head = nn.Conv1d(24, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean(dim=2, keepdim=True)).squeeze(2)


class _TemporalBlock(nn.Module):
    def __init__(self, channels_in: int, channels: int, activation: nn.Module) -> None:
        super().__init__()
        self.first = _conv_norm(nn.Conv2d(channels_in, channels, (1, 9), (1, 2), (0, 4), bias=False), activation)
        self.second = _conv_norm(nn.Conv2d(channels, channels, (1, 9), 1, (0, 4), bias=False))
        self.skip = _conv_norm(nn.Conv2d(channels_in, channels, 1, (1, 2), bias=False), activation)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.second(self.first(x)) + self.skip(x))


class TcResNet(nn.Module):
    """Choi et al. 2019 (arXiv:1904.03814): (n, 1, bands, frames), the bands made channels, temporal convolutions."""

    def __init__(self, classes: int = 6, bands: int = 20, activation: nn.Module | None = None) -> None:
        super().__init__()
        activation = activation or nn.ReLU()
        self.body = nn.Sequential(
            nn.Conv2d(bands, 8, (1, 3), padding=(0, 1), bias=False),
            _TemporalBlock(8, 12, activation),
            _TemporalBlock(12, 16, activation),
            nn.AdaptiveAvgPool2d(1),
        )
        self.head = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.transpose(1, 2)).flatten(1))


class GatedNet(nn.Module):
    """MobileNetV3's gate (arXiv:1905.02244) and its relatives: hard-swish, hard-sigmoid, SiLU, max pool; 1-D."""

    def __init__(self, classes: int = 6, bands: int = 20) -> None:
        super().__init__()
        self.stem = _conv_norm(nn.Conv1d(bands, 16, 5, padding=2), nn.Hardswish())
        self.pool = nn.MaxPool1d(3, 2, padding=1)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool1d(1), nn.Conv1d(16, 8, 1), nn.ReLU(), nn.Conv1d(8, 16, 1), nn.Hardsigmoid()
        )
        self.narrow = _conv_norm(nn.Conv1d(16, 16, 3), nn.SiLU())
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(torch.relu(self.stem(x)))
        y = self.narrow(y * self.gate(y))
        return torch.softmax(self.head(torch.cat([y.mean(2), y.amax(2)], 1)), 1)
