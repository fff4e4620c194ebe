"""Which epoch is kept."""

from __future__ import annotations

from collections.abc import Sequence

from kws.config import LATEST
from kws.statistics import wilson_interval


def figure_for(save_best: str) -> str:
    """The validation figure, one of kws.config.FIGURES, that `save_best`, one of BEST_BY, goes by."""
    return "accuracy" if save_best == LATEST else save_best


def is_kept(figures: Sequence[float], save_best: str, clips: int) -> bool:
    """Whether the last of the epochs with these `figures` takes the place of the one kept before.

    By a figure it does if none is better. LATEST asks for less: an accuracy in the 95 % interval of the best, on so
    many validation `clips`. The learning rate falls to zero and the weights are averaged, so of epochs that cannot be
    told apart the later one is the better guess.
    """
    best = max(figures)
    least = wilson_interval(round(best * clips), clips)[0] if save_best == LATEST else best
    return figures[-1] >= least
