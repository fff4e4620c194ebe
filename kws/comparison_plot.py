"""Accuracy of several builds against what they cost, drawn with matplotlib."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kws.benchmark import FLOAT, Benchmark
from kws.statistics import CONFIDENCE
from kws.terminal import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_INCHES = (4.2, 4.0)
DOTS_PER_INCH = 120
MAX_NAME_CHARACTERS = 28
COLOURS = 10  # of matplotlib's cycle; behind them the next mark begins
MARKS = "osD^v"

_Cost = Callable[[Benchmark], float]
_PANELS: tuple[tuple[str, _Cost], ...] = (
    (".tflite, kB", lambda result: result.costs.model_bytes / 1e3),
    ("instructions on Cortex-M4, millions", lambda result: result.costs.estimated_instructions["cortex_m4"] / 1e6),
    ("arena on Cortex-M4, kB", lambda result: result.costs.arena["cortex_m4"] / 1e3),
)


def draw_comparison(results: Mapping[str, Benchmark], paths: Sequence[Path]) -> None:
    """Write `comparison_figure` to each of `paths`, in the format that its suffix says; the same bytes on each call."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "kws"}), warnings.catch_warnings():
        # A name in a script that no font here has is drawn as boxes; the table says it, too.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            comparison_figure(results).savefig(path, metadata=metadata)


def comparison_figure(results: Mapping[str, Benchmark]) -> Figure:
    """A panel each for size, instructions and arena: the device's accuracy with its interval, float's as a hollow
    mark. A build of unknown instructions is not in their panel."""
    from matplotlib.figure import Figure

    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * len(_PANELS), height), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    for axes, (label, cost) in zip(panels, _PANELS, strict=True):
        _draw_panel(axes, results, cost)
        axes.set_xlabel(label)
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.margins(x=0.15)
    panels[0].set_ylabel(f"accuracy, % ({CONFIDENCE:.0%} interval)")
    handles, names = panels[0].get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda index: names[index] == FLOAT)
    legend = figure.legend(
        [handles[index] for index in order],
        [names[index] for index in order],
        loc="outside lower center",
        ncols=min(4, len(names)),
        frameon=False,
    )
    for text in legend.get_texts():
        # Names of folders are no formulas: a lone $ must not stop the drawing.
        text.set_parse_math(False)
    return figure


def _draw_panel(axes: Axes, results: Mapping[str, Benchmark], cost: _Cost) -> None:
    for index, (name, result) in enumerate(results.items()):
        place, device = cost(result), result.device
        colour, mark = f"C{index % COLOURS}", MARKS[index // COLOURS % len(MARKS)]
        if place == 0:
            continue
        accuracy = 100 * result.accuracy[device]
        low, high = (100 * end for end in result.accuracy_interval[device])
        spread = [[max(accuracy - low, 0.0)], [max(high - accuracy, 0.0)]]
        # A label that begins with an underscore, as a folder's name may, would be left out of the legend.
        label = f"{device}: {_shortened(visible(name))}"
        axes.errorbar([place], [accuracy], yerr=spread, fmt=mark, color=colour, capsize=3, label=label)
        axes.plot([place], [100 * result.accuracy[FLOAT]], mark, markersize=9, fillstyle="none", color=colour)
    if results:
        axes.plot([], [], "o", markersize=9, fillstyle="none", color="0.5", label=FLOAT)


def _shortened(name: str) -> str:
    return name if len(name) <= MAX_NAME_CHARACTERS else name[: MAX_NAME_CHARACTERS - 1] + "…"
