"""What training makes small."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kws.config import TrainConfig
from kws.metrics import Indices


def class_weights(targets: Indices, classes: int) -> Tensor:
    """float32 (classes,): inversely proportional to the clips of each class in `targets`, 1 on the mean clip."""
    counts = np.bincount(targets, minlength=classes)
    weights = len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return torch.from_numpy(weights.astype(np.float32))


class Loss:
    """Cross-entropy with label smoothing and class weights; beside a teacher's logits also the distance from them."""

    def __init__(self, config: TrainConfig, weights: Tensor | None = None) -> None:
        self.config, self.weights = config, weights

    def __call__(self, logits: Tensor, targets: Tensor, teacher: Tensor | None = None) -> Tensor:
        """float32 (n, classes), int64 (n,), and the teacher's logits (n, classes) -> float32 ().

        With a teacher: Hinton et al. 2015, arXiv:1503.02531, eq. 1 and sec. 2, soft targets times temperature ** 2.
        """
        hard = F.cross_entropy(logits, targets, weight=self.weights, label_smoothing=self.config.label_smoothing)
        if teacher is None:
            return hard
        share, temperature = self.config.teacher_weight, self.config.teacher_temperature
        soft = F.kl_div(
            F.log_softmax(logits / temperature, dim=1),
            F.log_softmax(teacher / temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - share) * hard + share * temperature**2 * soft
