from __future__ import annotations

import numpy as np
import pytest

from kws.errors import KwsError
from kws.metrics import accuracy, agreement, confusion_matrix, per_class, sqnr_db


def test_confusion_has_targets_in_rows_and_predictions_in_columns() -> None:
    matrix = confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), classes=3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_per_class_figures_are_none_where_there_is_nothing_to_divide_by() -> None:
    first, second, third, fourth = per_class(
        confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), classes=4), ["a", "b", "c", "d"]
    )
    assert (first.clips, first.precision, first.recall) == (2, 0.5, 0.5)
    assert (second.precision, second.recall) == (0.5, 1.0)
    assert (third.precision, third.recall) == (None, 0.0)
    assert (fourth.clips, fourth.precision, fourth.recall) == (0, None, None)


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
