"""One training, epoch by epoch."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kws.artifact import sha256_file, write_json
from kws.checkpoint import CHECKPOINT_NAME, Checkpoint, save_checkpoint
from kws.config import FIGURES, FeatureConfig, ModelConfig, TrainConfig, to_dict
from kws.dataset import Dataset
from kws.errors import KwsError
from kws.metrics import ClassFigures, Figures, confusion_matrix, summary
from kws.model import BCResNet, count_macs, parameter_count
from kws.progress import track
from kws.training.average import WeightAverage
from kws.training.batches import Batch, BatchSource
from kws.training.choice import figure_for, is_kept
from kws.training.evaluate import Held, logits_of, predict
from kws.training.loss import Loss, class_weights
from kws.training.processes import Processes
from kws.training.recipe import learning_rate
from kws.training.records import Records
from kws.training.start import Start, start_from
from kws.training.state import TrainingState, load_state, remove_state, save_state
from kws.training.teacher import load_teacher
from kws.training.tracking import Tracker

METRICS_NAME = "metrics.json"


def train_step(
    forward: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, batch: Batch, teacher: BCResNet | None = None
) -> Tensor:
    """One step of the optimizer on one batch; its mean loss, float32 ()."""
    optimizer.zero_grad(set_to_none=True)
    taught = None
    if teacher is not None:
        with torch.no_grad():
            taught = logits_of(teacher, batch.inputs)
    with torch.autocast(batch.inputs.device.type, dtype=torch.bfloat16, enabled=loss.config.precision == "bfloat16"):
        logits = forward(batch.inputs)
    value: Tensor = loss(logits.float(), batch.targets, taught) * batch.share
    value.backward()  # type: ignore[no-untyped-call]  # PyTorch's own signature has no types.
    optimizer.step()
    return value.detach()


def optimizer_of(network: BCResNet, config: TrainConfig) -> torch.optim.Optimizer:
    """For a learning rate that is set before each step."""
    momentum, decay = config.momentum, config.weight_decay
    return torch.optim.SGD(network.parameters(), lr=0.0, momentum=momentum, weight_decay=decay, fused=True)


class Forward(nn.Module):
    """A network by the fastest way on its device, as a module that can be distributed."""

    def __init__(self, network: BCResNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        return logits_of(self.network, features)


def compile_for_gpu(module: nn.Module) -> None:
    """From now on `module` runs as few kernels, which CUDA graphs start together (torch.compile's "reduce-overhead").

    BC-ResNet's own are so many and so small that a GPU waits for each to be started. A number of clips is compiled when
    it first comes, in a minute or so; an epoch has two. Results are the same up to rounding.
    """
    module.compile(mode="reduce-overhead", dynamic=False)


class Run:
    """One training: `fit` it, then `finish` it; or `resume` it first."""

    def __init__(
        self,
        dataset: Dataset,
        features: FeatureConfig,
        model: ModelConfig,
        config: TrainConfig,
        device: torch.device,
        processes: Processes,
        out: Path,
        teacher: Path | None = None,
        tracker: Tracker | None = None,
        start: Start | None = None,
        compiled: bool = False,
    ) -> None:
        self.dataset, self.features, self.config, self.out = dataset, features, config, out
        self.device, self.processes = device, processes
        self.taught_by = sha256_file(teacher)[:16] if teacher and teacher.is_file() else "nobody"
        self.teacher = load_teacher(teacher, dataset.labels, features, device) if teacher else None
        torch.manual_seed(config.seed)
        self.network = BCResNet(model).to(device)
        self.start = start
        self.known = start_from(self.network, dataset.labels, start) if start else []
        self.forward = processes.distribute(Forward(self.network), device)
        self.compiled = compiled
        if compiled:
            compile_for_gpu(self.forward)
        self.average = WeightAverage(self.network, config.average_decay)
        self.optimizer = optimizer_of(self.network, config)
        self.batches = BatchSource(dataset, features, config, device, processes)
        self.loss = Loss(config, self._class_weights())
        self.validation = Held.of(dataset, "validation", features, device)
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch = 0
        self.tracking_run = ""
        self.identity = self._identity()
        self.records = Records(out, processes.is_writer, tracker)

    def resume(self) -> None:
        state = load_state(self.out, self.identity)
        self.network.load_state_dict(state.network)
        self.average.load(state.average, state.average_steps)
        self.optimizer.load_state_dict(state.optimizer)
        self.history, self.best, self.best_epoch = state.history, state.best, state.best_epoch
        self.tracking_run = state.tracking_run

    def fit(self) -> None:
        """All epochs that are left."""
        done = len(self.history)
        self.records.start(self._parameters(), done, self.tracking_run)
        self.records.say(self._beginning())
        try:
            for epoch in track(range(done, self.config.epochs), "Training", self.config.epochs - done):
                if self.config.patience and self._epochs_without_better() >= self.config.patience:
                    self.records.say(f"Stopped: no better for {self.config.patience} epochs.")
                    break
                self.history.append(self._epoch(epoch))
                self.records.epoch(self.history[-1])
                self._keep()
        except KeyboardInterrupt as interrupt:
            self.records.abort()
            raise KeyboardInterrupt(self._interrupted()) from interrupt
        except BaseException:
            self.records.abort()
            raise

    def finish(self) -> Path:
        """Judge the epoch that is kept on the test split and write what it found."""
        self.network.load_state_dict(self.best)
        test = Held.of(self.dataset, "testing", self.features, self.device)
        predictions = self._predict(self.network, test)
        figures, labels = summary(test.targets, predictions, self.dataset.labels), self.dataset.labels
        if self.processes.is_writer:
            write_json(self.out / METRICS_NAME, self._metrics(figures))
            self.records.finish(
                {f"test_{name}": value for name, value in figures.averages().items()},
                [self.out / CHECKPOINT_NAME, self.out / METRICS_NAME],
                labels,
                confusion_matrix(test.targets, predictions, len(labels)),
                f"{self.network.config.name}, {figures.clips} test clips",
            )
            remove_state(self.out)
        self.processes.wait()
        return self.out / CHECKPOINT_NAME

    def _epoch(self, epoch: int) -> dict[str, Any]:
        started = time.monotonic()
        torch.manual_seed(self._seed_of(epoch))
        self.network.train()
        losses, rate = [], 0.0
        for step, batch in enumerate(self.batches.of_epoch(epoch)):
            rate = learning_rate(epoch * self.batches.per_epoch + step, self.batches.per_epoch, self.config)
            self.optimizer.param_groups[0]["lr"] = rate
            losses.append(train_step(self.forward, self.optimizer, self.loss, batch, self.teacher))
            self.average.follow()
        mean_loss = float(self.processes.sum(torch.stack(losses).mean())) / self.processes.count
        if not math.isfinite(mean_loss):
            raise KwsError(self._diverged(epoch))
        predictions = self._predict(self.average.network, self.validation)
        figures = summary(self.validation.targets, predictions, self.dataset.labels)
        self.records.say(f"epoch {epoch + 1:3d}  loss {mean_loss:.4f}  validation {figures.accuracy:.2%}")
        return {
            "epoch": epoch + 1,
            "loss": mean_loss,
            **{f"validation_{name}": figures.by(name) for name in FIGURES},
            "learning_rate": rate,
            "clips": self.batches.clips_per_epoch,
            "seconds": round(time.monotonic() - started, 3),
        }

    def _validation_figures(self) -> list[float]:
        """That by which the epoch is chosen that is kept, of each epoch."""
        return [epoch[f"validation_{figure_for(self.config.save_best)}"] for epoch in self.history]

    def _epochs_without_better(self) -> int:
        figures = self._validation_figures()
        return len(figures) - 1 - figures.index(max(figures)) if figures else 0

    def _keep(self) -> None:
        """The weights to be kept so far, and the state to resume from."""
        if is_kept(self._validation_figures(), self.config.save_best, len(self.validation.targets)):
            self.best = {name: value.cpu().clone() for name, value in self.average.network.state_dict().items()}
            self.best_epoch = len(self.history)
        if not self.processes.is_writer:
            return
        if self.best_epoch == len(self.history):
            save_checkpoint(self.out / CHECKPOINT_NAME, self._checkpoint())
        state = TrainingState(
            identity=self.identity,
            network=self.network.state_dict(),
            average=self.average.network.state_dict(),
            average_steps=self.average.steps,
            optimizer=self.optimizer.state_dict(),
            best=self.best,
            best_epoch=self.best_epoch,
            history=self.history,
            tracking_run=self.records.tracker.run_id,
        )
        save_state(self.out, state)

    def _predict(self, network: BCResNet, held: Held) -> np.ndarray:
        """All processes together, all with the weights of the first."""
        self.processes.share(network)
        own = slice(self.processes.rank, None, self.processes.count)
        predictions = np.zeros_like(held.targets)
        predictions[own] = predict(network, held.features[own])
        return self.processes.sum(torch.from_numpy(predictions).to(self.device)).cpu().numpy()

    def _class_weights(self) -> Tensor | None:
        if self.config.class_balance != "weights":
            return None
        _, targets = self.batches.draw(np.random.default_rng(self.config.seed))
        return class_weights(targets, len(self.dataset.labels)).to(self.device)

    def _seed_of(self, epoch: int) -> int:
        seeds = np.random.SeedSequence([self.config.seed, epoch, self.processes.rank])
        return int(seeds.generate_state(1)[0])

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            labels=self.dataset.labels,
            features=self.features,
            model=self.network.config,
            train=self.config,
            weights=self.best,
        )

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a run to be the same."""
        return {
            "model": self.network.config.name,
            "labels": list(self.dataset.labels),
            "data": self.dataset.fingerprint(),
            "processes": self.processes.count,
            "teacher": self.taught_by,
            "compiled": self.compiled,
            "start": self.start.sha256[:16] if self.start else "random weights",
            **to_dict(self.network.config),
            **to_dict(self.features),
            **to_dict(self.config),
        }

    def _parameters(self) -> dict[str, Any]:
        return {
            "model": to_dict(self.network.config),
            "features": to_dict(self.features),
            "train": to_dict(self.config),
            "start": self.identity["start"],
            "teacher": self.identity["teacher"],
            "labels": self.dataset.labels,
            "processes": self.processes.count,
        }

    def _metrics(self, figures: Figures) -> dict[str, Any]:
        best = self.history[self.best_epoch - 1]
        return {
            "test": figures.averages()
            | {"clips": figures.clips, "per_class": {f.label: _of_class(f) for f in figures.per_class}},
            "validation": {name: best[f"validation_{name}"] for name in FIGURES},
            "best_epoch": self.best_epoch,
            "training": {
                "clips_per_epoch": self.batches.clips_per_epoch,
                "seconds": round(sum(epoch["seconds"] for epoch in self.history), 1),
            },
            "start": self.identity["start"],
            "teacher": self.identity["teacher"],
            "params": parameter_count(self.network),
            "macs": count_macs(self.network.cpu(), self.features.frames, self.features.mel_bands),
            "labels": self.dataset.labels,
            "features": to_dict(self.features),
            "model": to_dict(self.network.config),
            "train": to_dict(self.config),
            "history": self.history,
        }

    def _beginning(self) -> str:
        splits = self.dataset.splits.items()
        counts = ", ".join(f"{len(split.rows) + len(split.unknown_rows)} {name}" for name, split in splits)
        where = f"{self.device}" + (f", {self.processes.count} processes" if self.processes.count > 1 else "")
        from_epoch = f" from epoch {len(self.history) + 1} on" if self.history else ""
        beginning = f"Starting from {self.start.path}, which knows {self._known_words()}.\n" if self.start else ""
        return (
            f"{beginning}Training {self.network.config.name} on {len(self.dataset.labels)} classes ({counts} clips), "
            f"for {self.config.epochs} epochs{from_epoch} on {where}."
        )

    def _known_words(self) -> str:
        if len(self.known) in (0, len(self.dataset.labels)):
            return "all of these labels" if self.known else "none of these labels"
        return f"{', '.join(self.known)} of these labels"

    def _interrupted(self) -> str:
        if not self.history:
            return "Interrupted before the first epoch was done; nothing was written."
        return (
            f"Interrupted after epoch {len(self.history)} of {self.config.epochs}; the same command with --resume "
            f"goes on from there, and {self.out / CHECKPOINT_NAME} has the best so far (epoch {self.best_epoch})."
        )

    def _diverged(self, epoch: int) -> str:
        kept = f"{self.out / CHECKPOINT_NAME} keeps epoch {self.best_epoch}" if self.best_epoch else "nothing is kept"
        return (
            f"The loss is no longer finite in epoch {epoch + 1}; check the data, or lower --peak-learning-rate "
            f"(it was {self.config.peak_learning_rate:g}); {kept}."
        )


def _of_class(figures: ClassFigures) -> dict[str, float | int | None]:
    return {name: value for name, value in vars(figures).items() if name != "label"}
