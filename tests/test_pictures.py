from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from kws.pictures import confusion_figure, draw_confusion
from kws.training.tracking import write_extra_files

MATRIX = np.array([[6, 2, 0], [0, 5, 0], [0, 0, 0]])
LABELS = ["yes", "نعم", "none"]


def pixels_of(path: Path, share: float) -> int:
    """How many pixels have just the colour of that share of a row."""
    from matplotlib.image import imread

    image = np.rint(imread(path)[..., :3] * 255).astype(int)
    colour = np.array(matplotlib.colormaps["Blues"](share, bytes=True)[:3], int)
    return int((image == colour).all(axis=2).sum())


def test_rows_are_what_was_said_and_the_darker_the_larger_their_share(tmp_path: Path) -> None:
    draw_confusion(tmp_path / "confusion.png", MATRIX, LABELS, "test")
    by_share = {share: pixels_of(tmp_path / "confusion.png", share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)}
    cell = by_share[1.0]
    assert cell > 500
    assert by_share[0.25] == pytest.approx(cell, rel=0.2)
    assert by_share[0.75] == pytest.approx(cell, rel=0.2)
    assert by_share[0.0] == pytest.approx(6 * cell, rel=0.2)
    assert by_share[0.5] == 0


def test_cells_say_the_clips_and_rows_their_recall() -> None:
    axes = confusion_figure(MATRIX, LABELS, "test").axes[0]
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "6"),
        ((1, 0), "2"),
        ((1, 1), "5"),
    }
    assert [text.get_text() for text in axes.get_xticklabels()] == LABELS
    assert [text.get_text() for text in axes.get_yticklabels()] == LABELS
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("heard", "said")
    recalls = axes.child_axes[0]
    assert [text.get_text() for text in recalls.get_yticklabels()] == ["75.0% of 8", "100.0% of 5", "no clips"]


def test_a_label_is_no_formula_and_no_second_line(tmp_path: Path) -> None:
    labels = [r"$\nosuch$", "a\nb", "w" * 60]
    axes = confusion_figure(MATRIX, labels, r"$\nosuch$").axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [r"$\nosuch$", r"a\nb", "w" * 23 + "…"]
    draw_confusion(tmp_path / "confusion.png", MATRIX, labels, r"$\nosuch$")
    assert pixels_of(tmp_path / "confusion.png", 1.0) > 500


def test_labels_in_arabic_have_their_letters_and_others_give_no_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        confusion_figure(MATRIX, ["لا", "نعم", "أربعة"], "صوت").savefig(tmp_path / "arabic.png")
        draw_confusion(tmp_path / "confusion.png", MATRIX, ["\U0001d573", "はい", "no"], "test")


@pytest.mark.parametrize(("classes", "least_pixels"), [(1, 100), (35, 35 * 30), (300, 2000)])
def test_the_picture_of_many_classes_stays_of_a_size_to_be_opened(
    tmp_path: Path, classes: int, least_pixels: int
) -> None:
    from matplotlib.image import imread

    labels = [f"word{index}" for index in range(classes)]
    draw_confusion(tmp_path / "confusion.png", np.eye(classes, dtype=np.int64), labels, "test")
    height, width = imread(tmp_path / "confusion.png").shape[:2]
    assert least_pixels < height < 5000
    assert least_pixels < width < 5000


def test_labels_are_written_one_a_line(tmp_path: Path) -> None:
    files = write_extra_files(tmp_path, ["نعم", "a\nb", "no"], MATRIX, "test")
    assert [file.name for file in files] == ["labels.txt", "confusion.png"]
    assert (tmp_path / "labels.txt").read_text(encoding="utf-8") == "نعم\na\\nb\nno\n"
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
