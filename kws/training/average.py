"""The exponential moving average of a network's weights (Polyak averaging), which is what is judged and kept."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from kws.model import BCResNet

WARMUP_STEPS = 10


class WeightAverage:
    """Follows `network`: after each step, average += (1 - decay) * (weights - average), running statistics too.

    The decay grows to its value, so that the random first weights do not linger. With decay 0 `network` is
    its own average.
    """

    def __init__(self, network: BCResNet, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.network = copy.deepcopy(network).requires_grad_(False) if decay else network
        self._pairs = [
            (mine, theirs)
            for mine, theirs in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True)
            if mine.is_floating_point()
        ]

    @torch.no_grad()
    def follow(self) -> None:
        if not self.decay:
            return
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + WARMUP_STEPS))
        averages, weights = [list(tensors) for tensors in zip(*self._pairs, strict=True)]
        torch._foreach_lerp_(averages, weights, 1 - decay)

    def load(self, weights: dict[str, Tensor], steps: int) -> None:
        self.network.load_state_dict(weights)
        self.steps = steps
