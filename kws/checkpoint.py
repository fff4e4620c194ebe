"""Weights, labels and configs in one file that loads without pickle (`torch.load(..., weights_only=True)`)."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kws.artifact import atomic_file, tool_versions
from kws.config import FeatureConfig, ModelConfig, TrainConfig, from_dict, to_dict
from kws.errors import KwsError
from kws.model import BCResNet
from kws.pretrained import NAMES

CHECKPOINT_SCHEMA = 2
CHECKPOINT_NAME = "checkpoint.pt"
REMEDY = "train again with kws train"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    labels: list[str]
    features: FeatureConfig
    model: ModelConfig
    train: TrainConfig
    weights: dict[str, Tensor]

    def build(self) -> BCResNet:
        """The network with these weights, in evaluation mode."""
        network = BCResNet(self.model)
        network.load_state_dict(self.weights)
        return network.eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    content = {
        "schema": CHECKPOINT_SCHEMA,
        "versions": tool_versions(),
        "labels": list(checkpoint.labels),
        "features": to_dict(checkpoint.features),
        "model": to_dict(checkpoint.model),
        "train": to_dict(checkpoint.train),
        "weights": {name: tensor.detach().cpu().clone() for name, tensor in checkpoint.weights.items()},
    }
    write_tensors(path, content)


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """Replace `path` at once, so that a kill or a full disk leaves what was there."""
    # Into memory first: on a full disk torch's own writer raises no OSError that names the cause.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_file(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint written by `save_checkpoint`.

    Raises KwsError if the file is missing, truncated, no checkpoint, of another version, or its weights do not
    fit its model or are not finite.
    """
    if not path.is_file():
        raise KwsError(f"{path}: no such checkpoint; train one, or name one that comes with kws: {', '.join(NAMES)}.")
    content = read_tensors(path, CHECKPOINT_SCHEMA, "checkpoint", REMEDY)
    labels = content.get("labels")
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise KwsError(f"{path}: names no labels; {REMEDY}.")
    model = from_dict(ModelConfig, content.get("model", {}), str(path))
    checkpoint = Checkpoint(
        labels=labels,
        features=from_dict(FeatureConfig, content.get("features", {}), str(path)),
        model=model,
        train=from_dict(TrainConfig, content.get("train", {}), str(path)),
        weights=content.get("weights", {}),
    )
    if model.classes != len(labels):
        raise KwsError(f"{path}: has {len(labels)} labels for {model.classes} classes; {REMEDY}.")
    try:
        network = checkpoint.build()
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise KwsError(f"{path}: its weights do not fit {model.name}; {REMEDY}.") from error
    if not all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values()):
        raise KwsError(f"{path}: its weights hold NaN or infinity; {REMEDY} at a lower learning rate.")
    return checkpoint


def read_tensors(path: Path, schema: int, kind: str, remedy: str) -> dict[str, Any]:
    """What `write_tensors` wrote, loaded without pickle. Raises KwsError if it is no such `kind` of file."""
    if not path.is_file():
        raise KwsError(f"{path}: no such {kind}; {remedy}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a damaged or hostile file
        raise KwsError(f"{path}: is no {kind}, or damaged; {remedy}.") from error
    if not isinstance(content, dict) or content.get("schema") != schema:
        raise KwsError(f"{path}: was written by another version of kws or another program; {remedy}.")
    return content
