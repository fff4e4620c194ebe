"""The plots of a report, as SVG in a light and a dark form."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kws.pictures import confusion_figure
from kws.report.facts import DeviceFacts, Json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FLOAT = "float"
# Narrow enough for its letters to stay readable where a phone shrinks it to 350 pixels.
WIDTH_INCHES, HEIGHT_INCHES = 5.2, 3.4
NO_FALSE_ACCEPTS = 0.05
HIGHEST_SNR_DB = 20
LARGE_SHARE = 0.3


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours: of letters, of the ground, of thin lines, and of the float and the integer form."""

    ink: str
    paper: str
    line: str
    of_float: str
    of_device: str
    shares: str

    @property
    def settings(self) -> dict[str, Any]:
        """For matplotlib.rc_context."""
        inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
        grounds = ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor")
        return {
            **dict.fromkeys(inked, self.ink),
            **dict.fromkeys(grounds, self.paper),
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": self.line,
            "legend.edgecolor": self.line,
            "image.cmap": self.shares,
            "font.size": 10.0,
            # The same figures give the same bytes.
            "svg.hashsalt": "kws",
        }


LIGHT = Theme(ink="#1c2430", paper="#ffffff", line="#dfe3e8", of_float="#4477aa", of_device="#d9541e", shares="Blues")
DARK = Theme(ink="#e3e8ee", paper="#171c23", line="#333b46", of_float="#77aadd", of_device="#ff8a50", shares="Blues_r")
Draw = Callable[["Figure", Theme], None]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """SVG as data: URIs for a light and a dark page; `alt` says in words what is drawn."""

    alt: str
    light: str
    dark: str


def plot(draw: Draw, alt: str, *, height: float = HEIGHT_INCHES) -> Plot:
    """`draw` fills an empty figure, once for each theme."""
    from matplotlib.figure import Figure

    def drawn(theme: Theme) -> str:
        with _themed(theme):
            figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
            draw(figure, theme)
            return _svg(figure)

    return Plot(alt=alt, light=drawn(LIGHT), dark=drawn(DARK))


def confusion_plot(matrix: Sequence[Sequence[int]], labels: list[str], title: str) -> Plot:
    def drawn(theme: Theme) -> str:
        with _themed(theme, {"axes.grid": False}):
            return _svg(confusion_figure(np.asarray(matrix, np.int64), labels, title, colours=theme.shares))

    return Plot(alt=f"Confusion matrix, {title}", light=drawn(LIGHT), dark=drawn(DARK))


def training_plot(epochs: Sequence[Mapping[str, float]]) -> Plot:
    def draw(figure: Figure, theme: Theme) -> None:
        above, below = figure.subplots(2, 1, sharex=True)
        numbers = [row["epoch"] for row in epochs]
        above.plot(numbers, [row["loss"] for row in epochs], color=theme.of_float)
        above.set_ylabel("training loss")
        below.plot(numbers, [100 * row["validation_accuracy"] for row in epochs], color=theme.of_device)
        below.set_ylabel("validation, %")
        below.set_xlabel("epoch")

    return plot(draw, "Training loss and validation accuracy over the epochs")


def snr_plot(points: Sequence[Json], device: str) -> Plot:
    """Clean stands to the right of the highest SNR."""

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        ordered = sorted(points, key=_snr_place)
        places = [_snr_place(point) for point in ordered]
        for form, colour, marker in ((FLOAT, theme.of_float, "o"), (device, theme.of_device, "s")):
            values = np.array([point["accuracy"][form] for point in ordered])
            ends = np.array([point["accuracy_interval"][form] for point in ordered]).T
            errors = 100 * np.abs(ends - values)
            axes.errorbar(places, 100 * values, yerr=errors, color=colour, marker=marker, capsize=3, label=form)
        names = ["clean" if point["snr_db"] is None else f"{point['snr_db']:g}" for point in ordered]
        axes.set_xticks(places, names)
        axes.set_xlabel("signal to noise, dB")
        axes.set_ylabel("accuracy, %")
        axes.legend()

    return plot(draw, f"Accuracy of float and {device} against the signal-to-noise ratio")


def det_plot(curves: Mapping[str, Sequence[Json]], operating_point: Json | None) -> Plot:
    """False rejects against false accepts an hour; none an hour stands at the left edge."""

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for form, curve in curves.items():
            colour = theme.of_float if form == FLOAT else theme.of_device
            accepts = [max(point["false_accepts_per_hour"], NO_FALSE_ACCEPTS) for point in curve]
            axes.plot(accepts, [100 * point["false_reject_rate"] for point in curve], color=colour, label=form)
        if operating_point is not None:
            at = max(operating_point["false_accepts_per_hour"], NO_FALSE_ACCEPTS)
            share = 100 * operating_point["false_reject_rate"]
            axes.plot([at], [share], "o", color=theme.ink, label="chosen thresholds")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"false accepts an hour (none: {NO_FALSE_ACCEPTS:g})")
        axes.set_ylabel("false rejects, %")
        axes.legend()

    return plot(draw, "Detection error tradeoff: false rejects against false accepts an hour")


def score_plot(scores: Json, form: str) -> Plot:
    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        bins = len(scores["right"])
        lows = np.arange(bins) / bins
        for name, colour in (("right", theme.of_float), ("wrong", theme.of_device)):
            counts = np.array(scores[name], float)
            axes.bar(
                lows, np.where(counts > 0, counts, np.nan), 1 / bins, align="edge", color=colour, alpha=0.7, label=name
            )
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.5)
        axes.set_xlim(0, 1)
        axes.set_xlabel(f"posterior of the answer, {form}")
        axes.set_ylabel("clips")
        axes.legend()

    return plot(draw, f"Histogram of the winning posteriors of {form}, right and wrong answers")


def calibration_plot(calibration: Mapping[str, Json], device: str) -> Plot:
    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=theme.ink, linestyle=":", linewidth=1)
        for form, colour, marker in ((FLOAT, theme.of_float, "o"), (device, theme.of_device, "s")):
            bins = [one for one in calibration[form]["bins"] if one["clips"]]
            axes.plot(
                [one["confidence"] for one in bins],
                [one["accuracy"] for one in bins],
                marker=marker,
                color=colour,
                label=form,
            )
        axes.set_xlabel("mean posterior of the answer")
        axes.set_ylabel("share that is right")
        axes.legend()

    return plot(draw, "Share of right answers against the posterior that the model gave them")


def layer_plot(device: DeviceFacts) -> Plot:
    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        known = [(layer.index, layer.sqnr_db) for layer in device.layers if layer.sqnr_db is not None]
        axes.plot([at for at, _ in known], [sqnr for _, sqnr in known], ".-", color=theme.of_device, linewidth=0.8)
        axes.set_xlabel("op")
        axes.set_ylabel("SQNR, dB")

    return plot(draw, "Signal-to-quantization-noise ratio of each op's output")


def memory_plot(device: DeviceFacts) -> Plot:
    """A box for each tensor: the ops that need it from left to right, its bytes upwards; large ones stand out."""

    def draw(figure: Figure, theme: Theme) -> None:
        from matplotlib.collections import PatchCollection
        from matplotlib.patches import Rectangle

        axes = figure.subplots()
        boxes = [
            Rectangle((box.first - 0.5, box.offset / 1024), box.last - box.first + 1, box.size_bytes / 1024)
            for box in device.memory
        ]
        large = LARGE_SHARE * max(device.head_bytes, 1)
        colours = [theme.of_device if box.size_bytes >= large else theme.of_float for box in device.memory]
        axes.add_collection(PatchCollection(boxes, facecolor=colours, edgecolor=theme.paper, linewidth=0.4, alpha=0.85))
        last = max((box.last for box in device.memory), default=1)
        axes.set_xlim(-1, last + 1)
        axes.set_ylim(0, 1.05 * max(device.head_bytes, 1) / 1024)
        axes.set_xlabel("op")
        axes.set_ylabel("arena, KiB")

    return plot(draw, "Which bytes of the arena each tensor takes while the ops run")


def parts_plot(flash: Mapping[str, int], ram: Mapping[str, int]) -> Plot:
    def draw(figure: Figure, theme: Theme) -> None:
        for axes, parts, colour, title in zip(
            figure.subplots(2, 1), (flash, ram), (theme.of_float, theme.of_device), ("flash", "RAM"), strict=True
        ):
            names = list(parts)[::-1]
            bars = axes.barh(names, [parts[name] / 1024 for name in names], color=colour)
            axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
            axes.margins(x=0.15)
            axes.set_xlabel(f"{title}, KiB")

    return plot(draw, "Flash and RAM by part", height=1.2 + 0.28 * (len(flash) + len(ram)))


def _snr_place(point: Json) -> float:
    return HIGHEST_SNR_DB + 5.0 if point["snr_db"] is None else float(point["snr_db"])


@contextmanager
def _themed(theme: Theme, changes: Mapping[str, Any] | None = None) -> Iterator[None]:
    import matplotlib

    settings: Any = theme.settings | dict(changes or {})
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A label in a script that no font here has is drawn as boxes; the table beneath has it in letters.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _svg(figure: Figure) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
