"""BC-ResNet-1 trained the plain way, as arXiv:2106.04140 describes it: one clip after the other, PyTorch's modules.

Nothing here comes from `kws`, so that its training is measured against something that does not share its choices.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchaudio.transforms import MelSpectrogram

RATE_HZ = CLIP_SAMPLES = 16_000
SHIFT_SAMPLES = 1_600
NOISE_PROBABILITY, NOISE_LEVEL = 0.8, 0.1
# Table 1 of the paper for tau = 1: channels, blocks, stride along frequency, dilation along time.
STAGES = ((8, 2, 1, 1), (12, 2, 2, 2), (16, 4, 2, 4), (20, 4, 1, 8))


class SubBandNorm(nn.Module):
    def __init__(self, channels: int, bands: int = 5) -> None:
        super().__init__()
        self.bands = bands
        self.norm = nn.BatchNorm2d(channels * bands)

    def forward(self, x: Tensor) -> Tensor:
        clips, channels, height, width = x.shape
        grouped: Tensor = self.norm(x.view(clips, channels * self.bands, height // self.bands, width))
        return grouped.view(clips, channels, height, width)


class Block(nn.Module):
    """Section 3.2: a 2-D part along frequency, its mean through a 1-D part along time, added back to every row."""

    def __init__(self, width_in: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.widens = width_in != width
        widen = [nn.Conv2d(width_in, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()] if self.widens else []
        self.widen = nn.Sequential(*widen)
        self.frequency = nn.Conv2d(width, width, (3, 1), (stride, 1), (1, 0), groups=width, bias=False)
        self.sub_bands = SubBandNorm(width)
        self.time = nn.Conv2d(width, width, (1, 3), 1, (0, dilation), (1, dilation), groups=width, bias=False)
        self.rest = nn.Sequential(
            nn.BatchNorm2d(width), nn.SiLU(), nn.Conv2d(width, width, 1, bias=False), nn.Dropout2d(0.1)
        )

    def forward(self, x: Tensor) -> Tensor:
        two_d = self.sub_bands(self.frequency(self.widen(x)))
        y = two_d + self.rest(self.time(two_d.mean(2, keepdim=True)))
        return nn.functional.relu(y if self.widens else y + x)


def plain_network(classes: int) -> nn.Sequential:
    """Log-mel (n, 1, 40, frames) -> logits (n, classes)."""
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 5, (2, 1), 2, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    width_in = 16
    for width, blocks, stride, dilation in STAGES:
        for index in range(blocks):
            layers.append(Block(width_in, width, stride if index == 0 else 1, dilation))
            width_in = width
    layers += [nn.Conv2d(20, 20, 5, padding=(0, 2), groups=20, bias=False), nn.Conv2d(20, 32, 1, bias=False)]
    layers += [nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(32, classes, 1), nn.Flatten()]
    return nn.Sequential(*layers)


class Clips(Dataset[tuple[Tensor, int]]):
    """One clip at a time: read the file, shift it, add noise, log-mel."""

    def __init__(self, files: list[Path], targets: list[int], noises: list[Path]) -> None:
        self.files, self.targets = files, targets
        self.noises = [self._read(path) for path in noises]
        self.mel = MelSpectrogram(RATE_HZ, n_fft=512, win_length=480, hop_length=160, n_mels=40, center=False)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        samples = np.zeros(CLIP_SAMPLES + 2 * SHIFT_SAMPLES, np.float32)
        clip = self._read(self.files[index])[:CLIP_SAMPLES]
        samples[SHIFT_SAMPLES : SHIFT_SAMPLES + len(clip)] = clip
        start = np.random.randint(2 * SHIFT_SAMPLES + 1)
        samples = samples[start : start + CLIP_SAMPLES]
        if self.noises and np.random.rand() < NOISE_PROBABILITY:
            noise = self.noises[np.random.randint(len(self.noises))]
            start = np.random.randint(len(noise) - CLIP_SAMPLES + 1)
            samples = samples + noise[start : start + CLIP_SAMPLES] * np.float32(np.random.rand() * NOISE_LEVEL)
        return (self.mel(torch.from_numpy(samples)) + 1e-6).log().unsqueeze(0), self.targets[index]

    @staticmethod
    def _read(path: Path) -> np.ndarray:
        samples, rate_hz = soundfile.read(path, dtype="float32")
        assert rate_hz == RATE_HZ and samples.ndim == 1, f"{path} is not mono at {RATE_HZ} Hz"
        return samples


def plain_steps(clips: Clips, classes: int, batch_clips: int, device: torch.device) -> Iterator[int]:
    """Train for ever, yielding the clips of each step after it."""
    network = plain_network(classes).to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    loader = DataLoader(clips, batch_clips, shuffle=True, drop_last=len(clips) > batch_clips)
    while True:
        for features, targets in loader:
            loss = nn.functional.cross_entropy(network(features.to(device)), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield len(targets)
