"""The confusion matrix as a picture, drawn with matplotlib."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kws.artifact import atomic_file
from kws.metrics import Indices, per_class
from kws.terminal import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONFUSION_NAME = "confusion.png"
CELL_INCHES = 0.34
MAX_INCHES = 40.0
MIN_CELL_WITH_COUNT = 0.15
DOTS_PER_INCH = 100
MAX_LABEL_CHARACTERS = 24
DARK_CELL = 0.55
POINTS_PER_INCH = 72


def draw_confusion(path: Path, matrix: Indices, labels: list[str], title: str) -> None:
    """Write `confusion_figure` as a PNG."""
    figure = confusion_figure(matrix, labels, title)
    with atomic_file(path) as temporary, warnings.catch_warnings():
        # A label in a script that no font here has is drawn as boxes; its row still says how it fares.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(temporary, format="png", bbox_inches="tight")


def confusion_figure(matrix: Indices, labels: list[str], title: str, *, colours: str = "Blues") -> Figure:
    """Of `matrix` int64 (classes, classes): rows are what was said, columns what was heard.

    Cells hold clips, and their colour (of matplotlib's colour map `colours`) is their share of the row; each row ends
    with its recall.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    cell = min(CELL_INCHES, MAX_INCHES / len(labels))
    side = max(cell * len(labels), 1.0)
    figure = Figure(figsize=(side, side), dpi=DOTS_PER_INCH)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap=colours, vmin=0.0, vmax=1.0, aspect="equal")
    font_points = min(10.0, 0.5 * cell * POINTS_PER_INCH)
    _write_labels(axes, labels, font_points)
    _write_recalls(axes, matrix, labels, font_points)
    if cell >= MIN_CELL_WITH_COUNT:
        _write_counts(axes, matrix, colormaps[colours](share), 0.8 * font_points)
    axes.set_title(visible(title), pad=12, parse_math=False)
    return figure


def _write_labels(axes: Axes, labels: list[str], font_points: float) -> None:
    names = [_shortened(visible(label)) for label in labels]
    places = range(len(labels))
    # Labels are no formulas: a lone $ must not stop the drawing.
    axes.set_xticks(places, names, rotation=90, fontsize=font_points, parse_math=False)
    axes.set_yticks(places, names, fontsize=font_points, parse_math=False)
    axes.set_xlabel("heard")
    axes.set_ylabel("said")
    axes.set_xticks(np.arange(len(labels) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(labels) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.5)
    axes.tick_params(which="minor", length=0)


def _write_recalls(axes: Axes, matrix: Indices, labels: list[str], font_points: float) -> None:
    beside = axes.secondary_yaxis("right")
    texts = [
        "no clips" if one.recall is None else f"{one.recall:.1%} of {one.clips}" for one in per_class(matrix, labels)
    ]
    beside.set_yticks(range(len(labels)), texts, fontsize=font_points)
    beside.set_ylabel("recall", labelpad=8)


def _write_counts(axes: Axes, matrix: Indices, cells: npt.NDArray[np.float64], font_points: float) -> None:
    """`cells` is the colour of each, RGBA 0..1 (classes, classes, 4)."""
    for row, column in np.argwhere(matrix > 0).tolist():
        axes.text(
            column,
            row,
            str(matrix[row, column]),
            ha="center",
            va="center",
            fontsize=font_points,
            color="white" if cells[row, column, :3].mean() < DARK_CELL else "black",
        )


def _shortened(label: str) -> str:
    return label if len(label) <= MAX_LABEL_CHARACTERS else label[: MAX_LABEL_CHARACTERS - 1] + "…"
