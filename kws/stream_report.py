"""What a streaming evaluation found: as JSON, and as tables for the terminal."""

from __future__ import annotations

import dataclasses
import functools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kws.detector import DetectorParams
from kws.spotting import Spotted, causes, percentile_ms
from kws.statistics import poisson_interval, wilson_interval
from kws.terminal import visible
from kws.thresholds import DetPoint, Judged, best_point

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = 1
TARGETS_PER_HOUR = (0.1, 0.5, 1.0, 2.0, 5.0)
MAX_CAUSES_SHOWN = 8
PLAIN_WIDTH = 120


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamReport:
    """`judged` holds the integer form first, then float; `tuned_on` is None if thresholds were chosen on the very
    recording that judges them. Rates of misses are 0..1."""

    labels: list[str]
    form: str
    runtime: str
    share_within_a_step: float
    judged: dict[str, Judged]
    tuning: Judged
    chosen: DetectorParams | None
    target: float
    base: DetectorParams
    negative_speech_seconds: float
    distinct_negative_clips: int
    origin: dict[str, Any]
    tuned_on: dict[str, Any] | None

    @property
    def hours(self) -> float:
        return self.judged[self.form].hours

    @functools.cached_property
    def spotted(self) -> Spotted | None:
        """At the chosen thresholds."""
        return None if self.chosen is None else self.judged[self.form].run(self.chosen)

    def targets(self) -> list[dict[str, Any]]:
        """For each rate that one could want: the threshold chosen for it, and what it gives where it is judged."""
        rows = []
        of_threshold = {point.threshold_q15: point for point in self.judged[self.form].points}
        for target in sorted({*TARGETS_PER_HOUR, self.target}):
            chosen = best_point(self.tuning.points, target * self.tuning.hours)
            found = None if chosen is None else of_threshold[chosen.threshold_q15].spotted
            rows.append(
                {
                    "false_accepts_per_hour": target,
                    "threshold": None if chosen is None else chosen.threshold,
                    "measured_false_accepts_per_hour": found and len(found.false_accepts) / self.hours,
                    "false_reject_rate": found and found.false_reject_rate,
                }
            )
        return rows

    def per_keyword(self) -> list[dict[str, Any]]:
        if self.chosen is None or self.spotted is None:
            return []
        params, spotted = self.chosen, self.spotted
        rows = []
        for label in self.judged[self.form].keywords:
            heard = [(word, event) for word, event in spotted.heard if word.label == label]
            rows.append(
                {
                    "label": label,
                    "words": len(heard) + sum(word.label == label for word in spotted.missed),
                    "hits": len(heard),
                    "false_accepts": sum(self.labels[event.label] == label for event, _ in spotted.false_accepts),
                    "threshold": params.thresholds.get(label, params.threshold),
                    "latency_median_ms": percentile_ms([event.time_ms - word.end_ms for word, event in heard], 50),
                }
            )
        return rows

    def operating_point(self) -> dict[str, Any] | None:
        """None if no thresholds keep to the target."""
        if self.chosen is None or self.spotted is None:
            return None
        spotted, count = self.spotted, len(self.spotted.false_accepts)
        latencies = spotted.latencies_ms()
        return {
            "threshold": self.chosen.threshold,
            "thresholds": dict(self.chosen.thresholds),
            "false_accepts_per_hour": count / self.hours,
            "false_accepts_interval": [bound / self.hours for bound in poisson_interval(count)],
            "false_reject_rate": spotted.false_reject_rate,
            "false_reject_interval": list(wilson_interval(len(spotted.missed), spotted.words)),
            "latency_ms": {
                "median": percentile_ms(latencies, 50),
                "p90": percentile_ms(latencies, 90),
                "max": max(latencies, default=None),
            },
        }

    def causes(self) -> list[tuple[str, str, int]]:
        return [] if self.spotted is None else causes(self.spotted, self.labels)

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "labels": self.labels,
            "hours": self.hours,
            "words": len(self.judged[self.form].track.keywords),
            "negative_speech_seconds": self.negative_speech_seconds,
            "distinct_negative_clips": self.distinct_negative_clips,
            "form": self.form,
            "runtime": self.runtime,
            "share_within_a_step_of_tflm": self.share_within_a_step,
            "target_false_accepts_per_hour": self.target,
            "detector": dataclasses.asdict(self.base if self.chosen is None else self.chosen),
            "det": {form: [_point(point, of.hours) for point in of.points] for form, of in self.judged.items()},
            "operating_point": self.operating_point(),
            "targets": self.targets(),
            "per_keyword": self.per_keyword(),
            "false_accept_causes": [
                {"label": label, "heard_during": said, "count": count} for label, said, count in self.causes()
            ],
            "scene": self.origin,
            "thresholds_chosen_on": self.tuned_on,
        }


def print_report(report: StreamReport) -> None:
    """The trade-off, the keywords and the causes of false accepts at the chosen thresholds, on standard output."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    for table in (_targets_table(report), _keyword_table(report), _cause_table(report)):
        if table is not None:
            console.print(table)
    for line in _sentences(report):
        console.print(line, markup=False)


def _point(point: DetPoint, hours: float) -> dict[str, Any]:
    accepts, misses = len(point.spotted.false_accepts), len(point.spotted.missed)
    return {
        "threshold": point.threshold,
        "false_accepts_per_hour": accepts / hours,
        "false_accepts": accepts,
        "false_reject_rate": point.spotted.false_reject_rate,
        "false_rejects": misses,
    }


def _targets_table(report: StreamReport) -> Table:
    words = len(report.judged[report.form].track.keywords)
    title = f"{report.hours:.3g} hours, {words} keywords, one threshold for all"
    table = _table(title, "false accepts an hour: wanted", "threshold", "measured", "missed")
    for row in report.targets():
        missed, measured = row["false_reject_rate"], row["measured_false_accepts_per_hour"]
        cells = ["-"] * 3 if missed is None else [f"{row['threshold']:.5f}", f"{measured:.3g}", f"{missed:.1%}"]
        table.add_row(f"{row['false_accepts_per_hour']:g}", *cells)
    return table


def _keyword_table(report: StreamReport) -> Table | None:
    from rich.text import Text

    if report.chosen is None:
        return None
    headings = ("said", "heard", "false accepts", "threshold", "median latency")
    table = _table(f"At {report.target:g} false accepts an hour, as in detector.json", "keyword", *headings)
    for row in report.per_keyword():
        latency = row["latency_median_ms"]
        table.add_row(
            Text(visible(row["label"])),
            str(row["words"]),
            str(row["hits"]),
            str(row["false_accepts"]),
            f"{row['threshold']:.5f}",
            "-" if latency is None else f"{latency:.0f} ms",
        )
    return table


def _cause_table(report: StreamReport) -> Table | None:
    from rich.text import Text

    found = report.causes()
    if not found:
        return None
    table = _table("False accepts", "event", "during", "count")
    for label, said, count in found[:MAX_CAUSES_SHOWN]:
        table.add_row(Text(visible(label)), Text(visible(said)), str(count))
    if len(found) > MAX_CAUSES_SHOWN:
        table.caption = f"and {len(found) - MAX_CAUSES_SHOWN} rarer kinds"
    return table


def _sentences(report: StreamReport) -> list[str]:
    """The figures with their intervals, and what the reader must know to trust them."""
    lines = []
    at = report.operating_point()
    if at is not None:
        (low, high), (least, most) = at["false_accepts_interval"], at["false_reject_interval"]
        latency = at["latency_ms"]
        lines.append(
            f"False accepts an hour: {at['false_accepts_per_hour']:.3g} (95 %: {low:.2g} to {high:.2g}). "
            f"Missed: {at['false_reject_rate']:.1%} ({least:.1%} to {most:.1%})."
        )
        if latency["median"] is not None:
            lines.append(f"From word end to event: median {latency['median']:.0f} ms, 90 % {latency['p90']:.0f} ms.")
    if report.target * report.hours < 1:
        lines.append(f"{report.hours:.3g} hours are too few to tell {report.target:g} false accepts an hour from none.")
    lines.append(_material_sentence(report))
    if report.origin.get("noise") == "synthetic":
        lines.append("The data has no background noise, so the noise here is synthetic.")
    lines.append(
        "Thresholds were chosen on other speakers: a scene of the validation split."
        if report.tuned_on is not None
        else "Thresholds were chosen on this very recording, so these figures flatter them."
    )
    lines.append(
        f"The {report.form} model ran under {report.runtime}; on a sample {report.share_within_a_step:.2%} of its "
        "logits are within a step of TFLM's."
    )
    return lines


def _material_sentence(report: StreamReport) -> str:
    seconds, clips = report.negative_speech_seconds, report.distinct_negative_clips
    if not clips:
        return "Nothing but keywords is said here, so a false accept is a keyword taken for another, or noise."
    what = "words" if "recording" in report.origin else "different clips"
    return f"Other speech: {seconds:.0f} s, of {clips} {what}."


def _table(title: str, *headings: str) -> Table:
    """Columns of words on the left, of numbers on the right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption_justify="left")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("keyword", "event", "during") else "right")
    return table
