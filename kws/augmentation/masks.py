"""SpecAugment (Park et al. 2019, arXiv:1904.08779) on log-mel features, without time warping."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MASKS_EACH = 2


def mask(log_mel: Tensor, bands: int, frames: int, rng: np.random.Generator) -> Tensor:
    """float32 (n, mel_bands, frames): MASKS_EACH stretches of fewer than `bands` bands and as many of fewer than
    `frames` frames take the mean of their clip, each clip with stretches of its own. 0 masks nothing."""
    n, height, width = log_mel.shape
    hidden = _stretches(n, height, bands, rng)[:, :, None] | _stretches(n, width, frames, rng)[:, None, :]
    mean = log_mel.mean(dim=(1, 2), keepdim=True)
    return torch.where(torch.from_numpy(hidden).to(log_mel.device), mean, log_mel)


def _stretches(n: int, size: int, limit: int, rng: np.random.Generator) -> np.ndarray:
    """bool (n, size)."""
    lengths = rng.integers(0, max(1, min(limit, size)), (n, MASKS_EACH, 1))
    starts = rng.integers(0, size - lengths + 1)
    place = np.arange(size)
    return np.asarray(((place >= starts) & (place < starts + lengths)).any(axis=1))
