"""A larger trained model that a smaller one learns from."""

from __future__ import annotations

from pathlib import Path

import torch

from kws.checkpoint import load_checkpoint
from kws.config import FeatureConfig
from kws.errors import KwsError
from kws.model import BCResNet


def load_teacher(path: Path, labels: list[str], features: FeatureConfig, device: torch.device) -> BCResNet:
    """The network of a checkpoint, in evaluation mode. Raises KwsError if it hears or answers something else."""
    checkpoint = load_checkpoint(path)
    if checkpoint.labels != labels:
        raise KwsError(
            f"{path}: answers {', '.join(checkpoint.labels)}, but the data set has {', '.join(labels)}; "
            f"train the teacher on the same words."
        )
    if checkpoint.features != features:
        raise KwsError(f"{path}: was trained on other features; train the teacher with the same --hop-ms.")
    return checkpoint.build().requires_grad_(False).to(device)
