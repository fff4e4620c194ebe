from __future__ import annotations

import numpy as np
import pytest

from kws.config import FIGURES
from kws.errors import KwsError
from kws.metrics import accuracy, agreement, confusion_matrix, per_class, sqnr_db, summary


def test_confusion_has_targets_in_rows_and_predictions_in_columns() -> None:
    matrix = confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), classes=3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_per_class_figures_are_none_where_there_is_nothing_to_divide_by() -> None:
    first, second, third, fourth = per_class(
        confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), classes=4), ["a", "b", "c", "d"]
    )
    assert (first.clips, first.precision, first.recall, first.f1) == (2, 0.5, 0.5, 0.5)
    assert (second.precision, second.recall, second.f1) == (0.5, 1.0, pytest.approx(2 / 3))
    assert (third.precision, third.recall, third.f1) == (None, 0.0, 0.0)
    assert (fourth.clips, fourth.precision, fourth.recall, fourth.f1) == (0, None, None, None)


def test_averages_are_those_worked_out_by_hand() -> None:
    # a: 4 clips, 3 hit, 4 predicted. b: 2 clips, 1 hit, 2 predicted. c: 1 clip, 1 hit, 1 predicted.
    figures = summary(np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 0, 1, 2]), ["a", "b", "c"])
    assert figures.clips == 7
    assert figures.accuracy == pytest.approx(5 / 7)
    assert figures.precision == figures.recall == figures.f1 == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert figures.weighted_precision == figures.weighted_f1 == pytest.approx((4 * 3 / 4 + 2 / 2 + 1) / 7)


def test_macro_and_weighted_averages_are_no_two_names_of_one_thing() -> None:
    # a: 8 clips, 6 hit, 6 predicted. b: 2 clips, 2 hit, 4 predicted.
    figures = summary(np.array([0] * 8 + [1] * 2), np.array([0] * 6 + [1] * 4), ["a", "b"])
    assert figures.recall == pytest.approx((6 / 8 + 1) / 2)
    assert figures.precision == pytest.approx((1 + 2 / 4) / 2)
    assert figures.f1 == pytest.approx((12 / 14 + 4 / 6) / 2)
    assert figures.weighted_precision == pytest.approx((8 * 1 + 2 * 2 / 4) / 10)
    assert figures.weighted_f1 == pytest.approx((8 * 12 / 14 + 2 * 4 / 6) / 10)


def test_a_class_never_predicted_counts_zero_and_one_without_clips_not_at_all() -> None:
    # b is never predicted; c has no clip, but one clip of b is taken for it; d appears nowhere.
    figures = summary(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 2]), ["a", "b", "c", "d"])
    assert figures.precision == pytest.approx((2 / 3 + 0) / 2)
    assert figures.recall == pytest.approx((1 + 0) / 2)
    assert figures.f1 == pytest.approx((4 / 5 + 0) / 2)
    assert [one.clips for one in figures.per_class] == [2, 2, 0, 0]


def test_the_figure_to_choose_by_is_the_one_named() -> None:
    figures = summary(np.array([0] * 8 + [1] * 2), np.array([0] * 6 + [1] * 4), ["a", "b"])
    assert [figures.by(name) for name in FIGURES] == [0.8, figures.f1, figures.recall, figures.precision]
    assert len({figures.by(name) for name in FIGURES}) == 4
    with pytest.raises(KwsError, match="'loss' to choose by: take one of accuracy, f1, recall, precision"):
        figures.by("loss")


def test_no_clips_have_no_figures() -> None:
    with pytest.raises(ValueError, match="no clips"):
        summary(np.array([], np.int64), np.array([], np.int64), ["a"])


def test_accuracy_is_a_fraction_and_undefined_for_no_clips() -> None:
    assert accuracy(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 0])) == 0.75
    with pytest.raises(ValueError, match="no clips"):
        accuracy(np.array([]), np.array([]))


def test_agreement_counts_equal_winners_only() -> None:
    assert agreement([[1, 2], [5, 0]], [[0, 9], [1, 2]]) == 0.5


def test_sqnr_is_in_decibels_of_the_reference() -> None:
    assert sqnr_db([10.0, 10.0], [11.0, 9.0]) == pytest.approx(20.0)
    assert sqnr_db([1.0], [1.0]) == float("inf")
    with pytest.raises(KwsError, match="all zero"):
        sqnr_db([0.0], [1.0])
    with pytest.raises(KwsError, match="cannot be compared"):
        sqnr_db([1.0, 2.0], [1.0])
