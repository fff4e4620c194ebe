"""A trained model that training starts from, to learn other words with what it knows of speech."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kws.artifact import sha256_file
from kws.checkpoint import Checkpoint, load_checkpoint
from kws.config import FeatureConfig, ModelConfig
from kws.errors import KwsError
from kws.model import BCResNet


@dataclass(frozen=True, eq=False)
class Start:
    """A checkpoint and the file that it came from."""

    path: Path
    checkpoint: Checkpoint
    sha256: str


def load_start(path: Path) -> Start:
    """Raises KwsError if `path` is no checkpoint (see `load_checkpoint`)."""
    return Start(path, load_checkpoint(path), sha256_file(path))


def features_for(start: Start | None, wanted: FeatureConfig | None) -> FeatureConfig:
    """`wanted`, or those of the model that training starts from. Raises KwsError if these are others."""
    if start is None:
        return wanted or FeatureConfig()
    if wanted not in (None, start.checkpoint.features):
        raise KwsError(f"{start.path}: was trained on other features; leave out --hop-ms, or train without --init.")
    return start.checkpoint.features


def model_for(
    start: Start | None, classes: int, features: FeatureConfig, name: str | None, activation: str | None
) -> ModelConfig:
    """The model named, or that of `start`. Its weights fit with each activation, but not another width.

    Raises KwsError for a `name` that is not that of `start`.
    """
    if start and name not in (None, start.checkpoint.model.name):
        raise KwsError(f"{start.path}: is a {start.checkpoint.model.name}, not a {name}; leave out --model.")
    model = start.checkpoint.model if start else ModelConfig(classes=classes)
    return replace(
        model,
        name=name or model.name,
        activation=activation or model.activation,
        classes=classes,
        mel_bands=features.mel_bands,
    )


def start_from(network: BCResNet, labels: list[str], start: Start) -> list[str]:
    """Give `network`, which answers `labels`, the weights of `start`: of the classifier only the rows of labels that
    both know, which are returned; its other rows stay as they are."""
    other = start.checkpoint.build()
    shared = [label for label in labels if label in start.checkpoint.labels]
    mine = [labels.index(label) for label in shared]
    theirs = [start.checkpoint.labels.index(label) for label in shared]
    with torch.no_grad():
        for own, given in zip(network.classifier.parameters(), other.classifier.parameters(), strict=True):
            rows = own.clone()
            rows[mine] = given[theirs].to(own.device)
            given.data = rows.cpu()
    network.load_state_dict(other.state_dict())
    return shared
