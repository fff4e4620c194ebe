"""A split that is only judged."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kws import cpu_network
from kws.config import FeatureConfig
from kws.dataset import Dataset, Indices
from kws.features import features_of_clips
from kws.model import BCResNet

CLIPS_AT_ONCE = 128


@dataclass(frozen=True, kw_only=True)
class Held:
    """A split that is only evaluated: log-mel float32 (n, 1, mel_bands, frames) and int64 targets (n,)."""

    features: Tensor
    targets: Indices

    @staticmethod
    def of(dataset: Dataset, split: str, features: FeatureConfig, device: torch.device) -> Held:
        clips = dataset.evaluation_clips(split)
        return Held(features=torch.from_numpy(features_of_clips(clips.pcm, features)).to(device), targets=clips.targets)


def predict(network: BCResNet, features: Tensor) -> Indices:
    """The winning class of each clip, int64 (n,), in evaluation mode."""
    network.eval()
    with torch.inference_mode():
        parts = [logits_of(network, part).argmax(dim=1).cpu() for part in torch.split(features, CLIPS_AT_ONCE)]
    winners: Indices = torch.cat(parts).numpy()
    return winners


def logits_of(network: BCResNet, features: Tensor) -> Tensor:
    """float32 log-mel (n, 1, mel_bands, frames) -> logits (n, classes), by the fastest way on their device."""
    return cpu_network.forward(network, features) if features.device.type == "cpu" else network(features)
