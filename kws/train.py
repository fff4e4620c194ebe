"""The training loop: a folder of words in, a checkpoint and its metrics out."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kws import cpu_network
from kws.artifact import make_folder, write_json
from kws.audio import to_float
from kws.augment import Augmenter
from kws.checkpoint import Checkpoint, save_checkpoint
from kws.config import SILENCE_LABEL, UNKNOWN_LABEL, FeatureConfig, ModelConfig, TrainConfig, to_dict
from kws.dataset import Dataset, Indices, load_dataset
from kws.errors import KwsError
from kws.features import LogMel, features_of_clips
from kws.metrics import accuracy, confusion_matrix, per_class
from kws.model import BCResNet, count_macs, parameter_count
from kws.progress import note, track

CHECKPOINT_NAME = "checkpoint.pt"
METRICS_NAME = "metrics.json"
CLIPS_AT_ONCE = 128
SILENCE_ROW = -1


@dataclass(frozen=True, kw_only=True)
class Held:
    """A split that is only evaluated: log-mel float32 (n, 1, mel_bands, frames) and int64 targets (n,)."""

    features: Tensor
    targets: Indices

    @staticmethod
    def of(dataset: Dataset, split: str, features: FeatureConfig, device: torch.device) -> Held:
        clips = dataset.evaluation_clips(split)
        return Held(features=torch.from_numpy(features_of_clips(clips.pcm, features)).to(device), targets=clips.targets)


def train(
    data: Path,
    out: Path,
    *,
    words: Sequence[str] | None,
    model_name: str,
    config: TrainConfig,
    device_name: str,
    activation: str = "swish",
    features: FeatureConfig | None = None,
    silence: bool = True,
) -> Path:
    """Train on `data`, keep the epoch with the best validation accuracy, judge it once on the test split.

    Without `silence` there is no class for it; background noise is mixed in all the same.
    Writes `out`/checkpoint.pt and `out`/metrics.json and returns the former. Raises KwsError for unusable data,
    an unavailable device, an unwritable folder, or a loss that diverges.
    """
    make_folder(out)
    device = choose_device(device_name)
    features = features or FeatureConfig()
    dataset = load_dataset(data, words, features, silence=silence)
    torch.manual_seed(config.seed)
    torch.set_flush_denormal(True)
    network = BCResNet(
        ModelConfig(name=model_name, classes=len(dataset.labels), activation=activation, mel_bands=features.mel_bands)
    )
    note(f"Training {model_name} on {_summary(dataset)}, for {config.epochs} epochs on {device}.")
    started = time.monotonic()
    history = list(_fit(network.to(device), dataset, features, config, device))
    test = Held.of(dataset, "testing", features, device)
    checkpoint = Checkpoint(
        labels=dataset.labels, features=features, model=network.config, train=config, weights=network.state_dict()
    )
    save_checkpoint(out / CHECKPOINT_NAME, checkpoint)
    metrics = _metrics(network.cpu(), dataset.labels, test, features) | {
        "validation": {"accuracy": max(epoch["validation_accuracy"] for epoch in history)},
        "training": {"clips_per_epoch": history[-1]["clips"], "seconds": round(time.monotonic() - started, 1)},
        "features": to_dict(features),
        "model": to_dict(network.config),
        "train": to_dict(config),
        "history": history,
    }
    write_json(out / METRICS_NAME, metrics)
    return out / CHECKPOINT_NAME


def choose_device(name: str) -> torch.device:
    """ "auto" is the GPU if there is one. Raises KwsError if the named device is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[name]:
        raise KwsError(f"--device {name}: PyTorch finds no such device here; use --device auto or cpu.")
    return torch.device(name)


def learning_rate(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Linear warm-up to the peak, then a cosine down to zero at the last step."""
    warmup = max(1, round(config.effective_warmup_epochs * steps_per_epoch))
    total = config.epochs * steps_per_epoch
    if step < warmup:
        return config.peak_learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return config.peak_learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def predict(network: BCResNet, features: Tensor) -> Indices:
    """The winning class of each clip, int64 (n,), in evaluation mode."""
    network.eval()
    with torch.inference_mode():
        parts = [_logits(network, part).argmax(dim=1).cpu() for part in torch.split(features, CLIPS_AT_ONCE)]
    winners: Indices = torch.cat(parts).numpy()
    return winners


def train_step(network: BCResNet, optimizer: torch.optim.Optimizer, features: Tensor, targets: Tensor) -> Tensor:
    """One step of the optimizer on one batch; its mean cross-entropy, float32 ()."""
    loss = torch.nn.functional.cross_entropy(_logits(network, features), targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # PyTorch's own signature has no types.
    optimizer.step()
    return loss.detach()


def _logits(network: BCResNet, features: Tensor) -> Tensor:
    return cpu_network.forward(network, features) if features.device.type == "cpu" else network(features)


def _fit(
    network: BCResNet, dataset: Dataset, features: FeatureConfig, config: TrainConfig, device: torch.device
) -> Iterator[dict[str, Any]]:
    """Train in place, yielding each epoch's figures; `network` ends with the best epoch's weights."""
    validation = Held.of(dataset, "validation", features, device)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.0, momentum=config.momentum, weight_decay=config.weight_decay
    )
    batches = BatchSource(dataset, features, config, device)
    best_accuracy, best_weights = -1.0, network.state_dict()
    for epoch in track(range(config.epochs), "Training", config.epochs):
        losses = []
        network.train()
        for step, (inputs, targets) in enumerate(batches.of_epoch(epoch)):
            optimizer.param_groups[0]["lr"] = learning_rate(epoch * batches.per_epoch + step, batches.per_epoch, config)
            losses.append(train_step(network, optimizer, inputs, targets))
        mean_loss = float(torch.stack(losses).mean())
        if not math.isfinite(mean_loss):
            raise KwsError(f"The loss is no longer finite in epoch {epoch + 1}; check the data, or lower the rate.")
        validation_accuracy = accuracy(validation.targets, predict(network, validation.features))
        if validation_accuracy >= best_accuracy:
            best_accuracy, best_weights = validation_accuracy, copy.deepcopy(network.state_dict())
        note(f"epoch {epoch + 1:3d}  loss {mean_loss:.4f}  validation {validation_accuracy:.2%}")
        yield {
            "epoch": epoch + 1,
            "loss": mean_loss,
            "validation_accuracy": validation_accuracy,
            "clips": batches.clips_per_epoch,
        }
    network.load_state_dict(best_weights)


class BatchSource:
    """Augmented log-mel batches: each epoch all keywords, and a fresh draw of other words and of silences."""

    def __init__(self, dataset: Dataset, features: FeatureConfig, config: TrainConfig, device: torch.device) -> None:
        self.dataset, self.config, self.device = dataset, config, device
        self.split = dataset.splits["training"]
        self.log_mel = LogMel(features).to(device)
        self.augment = Augmenter(dataset.noise_of("training"), features, config, device)
        per_keyword = self.split.clips_per_keyword
        self.unknown_count = round(config.unknown_share * per_keyword) if len(self.split.unknown_rows) else 0
        self.silence_count = round(config.silence_share * per_keyword) if SILENCE_LABEL in dataset.labels else 0
        self.clips_per_epoch = len(self.split.rows) + self.unknown_count + self.silence_count
        self.per_epoch = math.ceil(self.clips_per_epoch / config.batch_clips)

    def of_epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (log-mel (n, 1, mel_bands, frames), int64 targets (n,)); the same for the same seed and epoch."""
        rng = np.random.default_rng([self.config.seed, epoch])
        rows, targets = self._draw(rng)
        for chosen in np.array_split(rng.permutation(len(rows)), self.per_epoch):
            is_silence = rows[chosen] == SILENCE_ROW
            pcm = self.dataset.pcm[np.where(is_silence, 0, rows[chosen])]
            samples = torch.from_numpy(to_float(pcm) * ~is_silence[:, None]).to(self.device)
            augmented = self.augment(samples, torch.from_numpy(is_silence), rng)
            yield self.log_mel(augmented).unsqueeze(1), torch.from_numpy(targets[chosen]).to(self.device)

    def _draw(self, rng: np.random.Generator) -> tuple[Indices, Indices]:
        rows, targets = [self.split.rows], [self.split.targets]
        labels = self.dataset.labels
        if self.unknown_count:
            pool = self.split.unknown_rows
            rows.append(rng.choice(pool, self.unknown_count, replace=self.unknown_count > len(pool)))
            targets.append(np.full(self.unknown_count, labels.index(UNKNOWN_LABEL)))
        if self.silence_count:
            rows.append(np.full(self.silence_count, SILENCE_ROW))
            targets.append(np.full(self.silence_count, labels.index(SILENCE_LABEL)))
        return np.concatenate(rows), np.concatenate(targets).astype(np.int64)


def _metrics(network: BCResNet, labels: list[str], test: Held, features: FeatureConfig) -> dict[str, Any]:
    predictions = predict(network, test.features.cpu())
    matrix = confusion_matrix(test.targets, predictions, len(labels))
    return {
        "test": {
            "accuracy": accuracy(test.targets, predictions),
            "clips": len(test.targets),
            "per_class": {f.label: {"clips": f.clips, "recall": f.recall} for f in per_class(matrix, labels)},
        },
        "params": parameter_count(network),
        "macs": count_macs(network, features.frames, features.mel_bands),
        "labels": labels,
    }


def _summary(dataset: Dataset) -> str:
    counts = ", ".join(f"{len(split.rows) + len(split.unknown_rows)} {name}" for name, split in dataset.splits.items())
    return f"{len(dataset.labels)} classes ({counts} clips)"
