"""BC-ResNet (Kim et al. 2021, arXiv:2106.04140): the whole network on one screen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kws.config import ModelConfig

STAGE_BLOCKS = (2, 2, 4, 4)
STAGE_WIDTHS = (1.0, 1.5, 2.0, 2.5)
STRIDED_STAGES = (1, 2)
STEM_WIDTH, HEAD_WIDTH = 2, 4
ACTIVATION_LAYERS = {"swish": nn.SiLU, "hardswish": nn.Hardswish, "relu": nn.ReLU}


class SubSpectralNorm(nn.Module):
    """Batch normalisation per channel and frequency sub-band (Chang et al. 2021, arXiv:2103.13620).

    (n, c, f, t) -> the same shape; f must be a multiple of `sub_bands`.
    """

    def __init__(self, channels: int, sub_bands: int) -> None:
        super().__init__()
        self.sub_bands = sub_bands
        self.norm = nn.BatchNorm2d(channels * sub_bands)

    def forward(self, x: Tensor) -> Tensor:
        n, c, f, t = x.shape
        bands: Tensor = self.norm(x.reshape(n, c * self.sub_bands, f // self.sub_bands, t))
        return bands.reshape(n, c, f, t)


class BroadcastedBlock(nn.Module):
    """y = relu([x +] f2(x) + broadcast(f1(mean over frequency of f2(x)))), fig. 2 of the paper.

    A transition block (channels change, frequency may be strided) puts a pointwise convolution in front of f2
    and has no identity shortcut. f1 is temporal, f2 along frequency; both are depthwise.
    """

    def __init__(self, config: ModelConfig, channels_in: int, channels: int, dilation: int, stride: int) -> None:
        super().__init__()
        self.transition = channels_in != channels
        layers: list[nn.Module] = []
        if self.transition:
            layers += [nn.Conv2d(channels_in, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        layers += [
            nn.Conv2d(channels, channels, (3, 1), stride=(stride, 1), padding=(1, 0), groups=channels, bias=False),
            SubSpectralNorm(channels, config.sub_bands),
        ]
        self.f2 = nn.Sequential(*layers)
        self.f1 = nn.Sequential(
            nn.Conv2d(
                channels, channels, (1, 3), padding=(0, dilation), dilation=(1, dilation), groups=channels, bias=False
            ),
            nn.BatchNorm2d(channels),
            ACTIVATION_LAYERS[config.activation](),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.Dropout2d(config.dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        auxiliary = self.f2(x)
        y = auxiliary + self.f1(auxiliary.mean(dim=2, keepdim=True))
        return torch.relu(y if self.transition else y + x)


class BCResNet(nn.Module):
    """float32 log-mel (n, 1, mel_bands, frames) -> logits (n, classes); any number of frames >= 1."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        base = config.base_channels
        stem, head = base * STEM_WIDTH, base * HEAD_WIDTH
        self.stem = nn.Sequential(
            nn.Conv2d(1, stem, 5, stride=(2, 1), padding=2, bias=False), nn.BatchNorm2d(stem), nn.ReLU()
        )
        blocks: list[nn.Module] = []
        channels_in = stem
        for stage, (count, width) in enumerate(zip(STAGE_BLOCKS, STAGE_WIDTHS, strict=True)):
            channels = int(base * width)
            for index in range(count):
                stride = 2 if stage in STRIDED_STAGES and index == 0 else 1
                blocks.append(BroadcastedBlock(config, channels_in, channels, dilation=2**stage, stride=stride))
                channels_in = channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.Conv2d(channels_in, channels_in, 5, padding=(0, 2), groups=channels_in, bias=False),
            nn.Conv2d(channels_in, head, 1, bias=False),
            nn.BatchNorm2d(head),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(head, config.classes, 1),
            nn.Flatten(),
        )

    @property
    def classifier(self) -> nn.Conv2d:
        """The last layer, with a row for each class."""
        layer = self.head[-2]
        assert isinstance(layer, nn.Conv2d)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(x)))
        return logits


def parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, frames: int, mel_bands: int) -> int:
    """Multiply-accumulates of all convolutions for one clip of (mel_bands, frames)."""
    total = 0

    def count(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d)
        total += output[0].numel() * layer.weight[0].numel()

    hooks = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, 1, mel_bands, frames))
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    return total
