"""Moving a word in time, and speaking it faster or slower."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def shift(samples: Tensor, places: np.ndarray, reach: int) -> Tensor:
    """float32 (n, samples), each moved by its own of `places` (n,), at most `reach` either way, filled with zeros.

    Positive places move a word to an earlier time.
    """
    padded = torch.nn.functional.pad(samples, (reach, reach))
    starts = torch.from_numpy(places + reach).to(samples.device)
    rows = torch.arange(len(samples), device=samples.device)
    return padded.unfold(1, samples.shape[1], 1)[rows, starts]


def change_speed(samples: Tensor, factors: np.ndarray) -> Tensor:
    """float32 (n, samples), each spoken `factors` (n,) times as fast and high, about its middle; zeros fill the ends.

    Pitch and resonances move with the speed, as those of shorter and longer vocal tracts do. Linear interpolation.
    """
    length = samples.shape[1]
    middle = (length - 1) / 2
    steps = torch.arange(length, device=samples.device, dtype=torch.float32) - middle
    positions = torch.from_numpy(factors.astype(np.float32)).to(samples.device)[:, None] * steps + (middle + 1)
    positions.clamp_(0, length + 1)  # of a clip with one zero before it and two behind
    whole = positions.floor()
    fraction = positions - whole
    index = whole.long()
    padded = torch.nn.functional.pad(samples, (1, 2))
    before, after = padded.gather(1, index), padded.gather(1, index + 1)
    return torch.lerp(before, after, fraction)
