"""What each epoch sees: all keywords, a fresh draw of other words and of silences, augmented, as log-mel features."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kws.audio import PCM16_FULL_SCALE
from kws.augmentation import Augmenter
from kws.augmentation.masks import mask
from kws.config import SILENCE_LABEL, UNKNOWN_LABEL, FeatureConfig, TrainConfig
from kws.dataset import Dataset, Indices
from kws.errors import KwsError
from kws.features import LogMel
from kws.training.processes import Processes

SILENCE_ROW = -1
MIN_CLIPS = 2


@dataclass(frozen=True, kw_only=True)
class Batch:
    """`inputs` log-mel float32 (n, 1, mel_bands, frames), `targets` int64 (n,).

    `share` is what the mean over these clips counts for in the mean over the processes; 1 if all have equally many.
    """

    inputs: Tensor
    targets: Tensor
    share: float


class BatchSource:
    """The batches of one process; together the processes see each clip of an epoch once."""

    def __init__(
        self,
        dataset: Dataset,
        features: FeatureConfig,
        config: TrainConfig,
        device: torch.device,
        processes: Processes | None = None,
    ) -> None:
        self.dataset, self.config, self.device = dataset, config, device
        self.processes = processes or Processes()
        self.split = dataset.splits["training"]
        self.log_mel = LogMel(features).to(device)
        self.augment = Augmenter(dataset.noise_of("training"), features, config, device)
        per_keyword = self.split.clips_per_keyword
        self.unknown_count = round(config.unknown_share * per_keyword) if len(self.split.unknown_rows) else 0
        self.silence_count = round(config.silence_share * per_keyword) if SILENCE_LABEL in dataset.labels else 0
        self.clips_per_epoch = len(self.split.rows) + self.unknown_count + self.silence_count
        self.per_epoch = math.ceil(self.clips_per_epoch / config.batch_clips)
        if self.clips_per_epoch // self.per_epoch < MIN_CLIPS * self.processes.count:
            raise KwsError(
                f"{dataset.root}: {self.clips_per_epoch} clips an epoch in steps of {config.batch_clips} leave a "
                f"process fewer than {MIN_CLIPS}; use fewer processes, a larger --batch-clips or more recordings."
            )
        # A GPU keeps all clips, so that a step waits for nothing but itself.
        self.resident = torch.from_numpy(np.array(dataset.pcm)).to(device) if device.type == "cuda" else None

    def of_epoch(self, epoch: int) -> Iterator[Batch]:
        """The same for the same seed, epoch and number of processes."""
        rng = np.random.default_rng([self.config.seed, epoch])
        rows, targets = self.draw(rng)
        order = rng.permutation(len(rows))
        changes = np.random.default_rng([self.config.seed, epoch, self.processes.rank])
        for chosen in np.array_split(order, self.per_epoch):
            own = chosen[self.processes.rank :: self.processes.count]
            yield Batch(
                inputs=self._inputs(rows[own], changes),
                targets=torch.from_numpy(targets[own]).to(self.device),
                share=len(own) * self.processes.count / len(chosen),
            )

    def draw(self, rng: np.random.Generator) -> tuple[Indices, Indices]:
        """Rows of the data set, SILENCE_ROW for a silence, and their targets: int64 (clips_per_epoch,) each."""
        rows, targets = [self._keywords(rng)], [self.split.targets]
        if self.config.class_balance == "sampling":
            targets = [self._balanced_targets()]
        labels = self.dataset.labels
        if self.unknown_count:
            pool = self.split.unknown_rows
            rows.append(rng.choice(pool, self.unknown_count, replace=self.unknown_count > len(pool)))
            targets.append(np.full(self.unknown_count, labels.index(UNKNOWN_LABEL)))
        if self.silence_count:
            rows.append(np.full(self.silence_count, SILENCE_ROW))
            targets.append(np.full(self.silence_count, labels.index(SILENCE_LABEL)))
        return np.concatenate(rows), np.concatenate(targets).astype(np.int64)

    def _keywords(self, rng: np.random.Generator) -> Indices:
        if self.config.class_balance != "sampling":
            return self.split.rows
        drawn = []
        for target, count in zip(*np.unique(self._balanced_targets(), return_counts=True), strict=True):
            pool = self.split.rows[self.split.targets == target]
            whole = np.tile(pool, count // len(pool))
            drawn.append(np.concatenate([whole, rng.choice(pool, count - len(whole), replace=False)]))
        return np.concatenate(drawn)

    def _balanced_targets(self) -> Indices:
        """As many targets as there are keyword clips, each keyword equally often (up to one), in ascending order."""
        keywords = np.unique(self.split.targets)
        return np.sort(np.resize(keywords, len(self.split.rows)))

    def _inputs(self, rows: Indices, rng: np.random.Generator) -> Tensor:
        is_silence = rows == SILENCE_ROW
        wanted = np.where(is_silence, 0, rows)
        if self.resident is not None:
            pcm = self.resident[torch.from_numpy(wanted).to(self.device)]
        else:
            pcm = torch.from_numpy(self.dataset.pcm[wanted]).to(self.device)
        scale = np.where(is_silence, 0, 1 / PCM16_FULL_SCALE).astype(np.float32)
        samples = pcm.float().mul_(torch.from_numpy(scale).to(self.device)[:, None])
        log_mel = self.log_mel.in_parts(self.augment(samples, is_silence, rng))
        if self.config.mask_bands or self.config.mask_frames:
            log_mel = mask(log_mel, self.config.mask_bands, self.config.mask_frames, rng)
        return log_mel.unsqueeze(1)
