"""Smallest and largest values, of whole tensors and by channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Range:
    """Smallest and largest value of a tensor."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class ChannelRange:
    """Smallest and largest value of a tensor in each channel (axis 1), e.g. (1, channels, 1, 1)."""

    low: FloatArray
    high: FloatArray

    @staticmethod
    def of(array: FloatArray) -> ChannelRange:
        others = tuple(axis for axis in range(array.ndim) if axis != 1)
        return ChannelRange(array.min(axis=others, keepdims=True), array.max(axis=others, keepdims=True))

    @property
    def whole(self) -> Range:
        return Range(float(self.low.min()), float(self.high.max()))

    def union(self, other: ChannelRange) -> ChannelRange:
        return ChannelRange(np.minimum(self.low, other.low), np.maximum(self.high, other.high))
