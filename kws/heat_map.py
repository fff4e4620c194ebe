"""Posteriors over time as a picture, and live in the terminal."""

from __future__ import annotations

import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kws.artifact import atomic_file
from kws.detect import Heard
from kws.detector import POSTERIOR_ONE, Event, Posteriors
from kws.errors import KwsError
from kws.pictures import DOTS_PER_INCH, MAX_INCHES
from kws.terminal import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.text import Text

ROW_INCHES = 0.3
INCHES_PER_SECOND = 0.5
LEAST_INCHES = 6.0
MAX_COLUMNS = 4000
MAX_MARKS_WITH_TIME = 60
SHADES = " ░▒▓█"
LIVE_COLUMNS = 60
LABEL_COLUMNS = 16


def draw_posteriors(path: Path, heard: Sequence[Heard], labels: Sequence[str], title: str) -> None:
    """Write `posteriors_figure` of all that was heard as a PNG."""
    times_ms = np.concatenate([part.times_ms for part in heard])
    posteriors = np.concatenate([part.posteriors for part in heard])
    figure = posteriors_figure(times_ms, posteriors, [event for part in heard for event in part.events], labels, title)
    with atomic_file(path) as temporary, warnings.catch_warnings():
        # A label in a script that no font here has is drawn as boxes; its row still says how it fares.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(temporary, format="png", bbox_inches="tight")


def posteriors_figure(
    times_ms: npt.NDArray[np.int64], posteriors: Posteriors, events: Sequence[Event], labels: Sequence[str], title: str
) -> Figure:
    """A row a label and a column an inference, the darker the likelier; events are triangles.

    A column of a long recording stands for several inferences, and is as dark as the likeliest of them.
    """
    from matplotlib.figure import Figure

    first_s, last_s = (float(times_ms[at]) / 1000 for at in (0, -1))
    width = float(np.clip(INCHES_PER_SECOND * (last_s - first_s), LEAST_INCHES, MAX_INCHES))
    figure = Figure(figsize=(width, max(ROW_INCHES * len(labels), 1.0)), dpi=DOTS_PER_INCH)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    edge_s = max(last_s - first_s, 0.1) / max(len(times_ms) - 1, 1) / 2
    axes.imshow(
        _columns(posteriors).T / POSTERIOR_ONE,
        cmap="Blues",
        vmin=0.0,
        vmax=1.0,
        aspect="auto",
        interpolation="nearest",
        extent=(first_s - edge_s, last_s + edge_s, len(labels) - 0.5, -0.5),
    )
    # Labels are no formulas: a lone $ must not stop the drawing.
    axes.set_yticks(range(len(labels)), [visible(label) for label in labels], parse_math=False)
    axes.set_xlabel("end of the window in seconds")
    _mark_events(axes, events)
    axes.set_title(visible(title), pad=12, parse_math=False)
    return figure


def _mark_events(axes: Axes, events: Sequence[Event]) -> None:
    times_s = [event.time_ms / 1000 for event in events]
    axes.scatter(times_s, [event.label for event in events], marker="v", s=36, color="crimson", edgecolors="white")
    if len(events) <= MAX_MARKS_WITH_TIME:
        for event, time_s in zip(events, times_s, strict=True):
            axes.annotate(f"{time_s:.2f}", (time_s, event.label), (4, -3), textcoords="offset points", fontsize=7)


def _columns(posteriors: Posteriors) -> Posteriors:
    """(n, labels) -> at most MAX_COLUMNS rows, each the largest of as many neighbours."""
    merged = -(-len(posteriors) // MAX_COLUMNS)
    starts = np.arange(0, len(posteriors), merged)
    columns: Posteriors = np.maximum.reduceat(posteriors, starts, axis=0)
    return columns


class LiveMap:
    """The last LIVE_COLUMNS inferences as lines of text: a shade for each posterior, events in red."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._names = [f"{visible(label)[:LABEL_COLUMNS]:>{LABEL_COLUMNS}} " for label in labels]
        self._columns: deque[tuple[npt.NDArray[np.uint16], int | None]] = deque(maxlen=LIVE_COLUMNS)

    def add(self, heard: Heard) -> None:
        labels = {event.time_ms: event.label for event in heard.events}
        for time_ms, row in zip(heard.times_ms.tolist(), heard.posteriors, strict=True):
            self._columns.append((row, labels.get(time_ms)))

    def text(self) -> Text:
        from rich.text import Text

        text = Text(no_wrap=True)
        for label, name in enumerate(self._names):
            text.append(name)
            for row, event in self._columns:
                shade = SHADES[min(int(row[label]) * len(SHADES) // POSTERIOR_ONE, len(SHADES) - 1)]
                text.append("▼" if event == label else shade, "bold red" if event == label else "")
            text.append("\n")
        return text


@contextmanager
def live_map(labels: Sequence[str]) -> Iterator[Callable[[Heard], None]]:
    """Yield a function that draws what was heard on the terminal (standard error).

    Raises KwsError if that is no terminal.
    """
    from rich.console import Console
    from rich.live import Live

    if not sys.stderr.isatty():
        raise KwsError("--plot draws into the terminal, and standard error is none; run it in a terminal.")
    drawn = LiveMap(labels)
    live = Live(console=Console(stderr=True), auto_refresh=False, redirect_stdout=sys.stdout.isatty())

    def show(heard: Heard) -> None:
        if len(heard.times_ms):
            drawn.add(heard)
            live.update(drawn.text(), refresh=True)

    with live:
        yield show
