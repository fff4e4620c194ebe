from __future__ import annotations

from collections.abc import Sequence

import pytest

from kws.config import FIGURES, LATEST
from kws.training.choice import figure_for, is_kept


def kept_epoch(figures: Sequence[float], save_best: str, clips: int) -> int:
    """The epoch, counted from 1, that a run with these validation figures ends up with."""
    kept = [epoch for epoch in range(1, len(figures) + 1) if is_kept(figures[:epoch], save_best, clips)]
    return kept[-1]


@pytest.mark.parametrize("save_best", FIGURES)
def test_by_a_figure_the_best_epoch_is_kept_and_of_equals_the_latest(save_best: str) -> None:
    assert figure_for(save_best) == save_best
    assert kept_epoch([0.5, 0.9, 0.8, 0.9, 0.89], save_best, clips=30) == 4


def test_few_validation_clips_do_not_keep_an_early_epoch_that_was_lucky_with_them() -> None:
    assert figure_for(LATEST) == "accuracy"
    assert kept_epoch([28 / 30, 30 / 30, 27 / 30], LATEST, clips=30) == 3


def test_an_epoch_that_validation_shows_to_be_worse_is_not_kept() -> None:
    assert kept_epoch([0.5, 0.95, 0.80], LATEST, clips=570) == 2
    # 541 of 570 are right: the 95 % interval of Wilson ends at 92.8 %.
    assert kept_epoch([541 / 570, 530 / 570], LATEST, clips=570) == 2
    assert kept_epoch([541 / 570, 528 / 570], LATEST, clips=570) == 1
