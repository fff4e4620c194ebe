"""The parts of a report: pictures, and the numbers behind them in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kws.report import plots
from kws.report.facts import DeviceFacts, Json, ReportFacts
from kws.report.plots import FLOAT, Plot
from kws.terminal import visible

# Longer tables are folded up.
OPEN_ROWS = 14
DEVICE_NAMES = {"cortex_m4": "Cortex-M4", "cortex_m55": "Cortex-M55"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text under `headings`; the first `words` columns are text, the others numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1

    @property
    def is_long(self) -> bool:
        return len(self.rows) > OPEN_ROWS


@dataclass(frozen=True, kw_only=True)
class Section:
    title: str
    text: str
    plots: Sequence[Plot]
    table: Table

    @property
    def is_wide(self) -> bool:
        return len(self.plots) != 1


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One of the figures that a user decides by: its value, and what it says in small letters."""

    name: str
    value: str
    note: str


def summary(facts: ReportFacts) -> list[Figure]:
    found, device = facts.benchmark, facts.device_form
    low, high = found["accuracy_interval"][device]
    test = found["mcnemar"]
    instructions = found["estimated_instructions"]["cortex_m4"]
    return [
        Figure(
            name=f"Accuracy, {device}",
            value=_percent(found["accuracy"][device]),
            note=f"95 % interval {_percent(low)} to {_percent(high)}, {found['clips']:,} clips",
        ),
        Figure(
            name=f"Lost by {device}",
            value=f"{100 * test['drop']:.2f} points",
            note=f"float {_percent(found['accuracy'][FLOAT])}, same answer on {_percent(found['agreement'])}, "
            f"McNemar p = {test['p_value']:.2g}",
        ),
        _false_rejects(facts.stream),
        Figure(
            name="Memory",
            value=f"{found['arena']['cortex_m4'] / 1024:.1f} KiB of arena",
            note=f"Cortex-M4; the model takes {found['model_bytes'] / 1024:.1f} KiB of flash",
        ),
        Figure(
            name="Work",
            value=f"{instructions / 1e6:.1f} M instructions",
            note="an inference on Cortex-M4, estimated",
        ),
    ]


def sections(facts: ReportFacts) -> list[Section]:
    """In the order of the page; what was not measured has none."""
    made = [
        _training(facts.training),
        _classes(facts),
        _disagreements(facts),
        _stream(facts.stream),
        _noise(facts),
        _scores(facts),
        _layers(facts.device),
        _memory(facts.device),
        _parts(facts.device),
    ]
    return [section for section in made if section is not None]


def _false_rejects(stream: Json | None) -> Figure:
    name = "Missed words in running sound"
    if stream is None:
        return Figure(name=name, value="not measured", note="kws benchmark --stream measures it")
    point = stream["operating_point"]
    if point is None:
        target = stream["target_false_accepts_per_hour"]
        return Figure(name=name, value="-", note=f"no thresholds keep to {target:g} false accepts an hour")
    return Figure(
        name=name,
        value=_percent(point["false_reject_rate"]),
        note=f"at {point['false_accepts_per_hour']:.2g} false accepts an hour, {stream['hours']:.2g} h of sound",
    )


def _training(epochs: Sequence[Mapping[str, float]]) -> Section | None:
    if not epochs:
        return None
    rows = [
        [
            f"{row['epoch']:.0f}",
            f"{row['loss']:.4f}",
            _percent(row["validation_accuracy"]),
            f"{row['learning_rate']:.2g}",
        ]
        for row in epochs
    ]
    return Section(
        title="Training",
        text="The loss on training clips as they were augmented, and the accuracy on the validation split.",
        plots=[plots.training_plot(epochs)],
        table=Table(headings=["epoch", "loss", "validation accuracy", "learning rate"], rows=rows, words=0),
    )


def _classes(facts: ReportFacts) -> Section:
    found, forms = facts.benchmark, (FLOAT, facts.device_form)
    labels = [str(label) for label in found["labels"]]
    rows = []
    for index, label in enumerate(labels):
        figures = [found["per_class"][form][index] for form in forms]
        names = ("recall", "precision", "f1")
        rows.append(
            [visible(label), str(figures[0]["clips"]), *[_share(one[name]) for name in names for one in figures]]
        )
    headings = ["class", "clips", *[f"{name}, {form}" for name in ("recall", "precision", "F1") for form in forms]]
    return Section(
        title="Classes",
        text="Rows are what was said, columns what was heard.",
        plots=[
            plots.confusion_plot(found["confusion"][form], labels, f"{form}: {_percent(found['accuracy'][form])}")
            for form in forms
        ],
        table=Table(headings=headings, rows=rows),
    )


def _disagreements(facts: ReportFacts) -> Section:
    device, found = facts.device_form, facts.benchmark["disagreements"]
    rows = [
        [
            *[visible(one[name]) for name in ("clip", "label", FLOAT)],
            visible(one[device]),
            *[f"{one[f'{form}_score']:.2f}" for form in (FLOAT, device)],
        ]
        for one in found
    ]
    return Section(
        title=f"Clips that {device} answers otherwise than float",
        text=f"{len(found)} of {facts.benchmark['clips']:,} clips.",
        plots=[],
        table=Table(headings=["clip", "said", FLOAT, device, "score, float", f"score, {device}"], rows=rows, words=4),
    )


def _stream(stream: Json | None) -> Section | None:
    if stream is None:
        return None
    point = stream["operating_point"]
    text = f"{stream['hours']:.2g} h of sound with {stream['words']} keywords. {_at_thresholds(stream)}"
    curves = stream["det"]
    rows = [
        [form, f"{one['threshold']:.5f}", f"{one['false_accepts_per_hour']:.2f}", _percent(one["false_reject_rate"])]
        for form, curve in curves.items()
        for one in curve
    ]
    return Section(
        title="Running sound",
        text=text,
        plots=[plots.det_plot(curves, point)],
        table=Table(headings=["form", "threshold", "false accepts an hour", "false rejects"], rows=rows),
    )


def _at_thresholds(stream: Json) -> str:
    point = stream["operating_point"]
    if point is None:
        return f"No thresholds keep to {stream['target_false_accepts_per_hour']:g} false accepts an hour."
    low, high = point["false_accepts_interval"]
    latency = point["latency_ms"]
    return (
        f"With the chosen thresholds {point['false_accepts_per_hour']:.2g} false accepts an hour "
        f"(95 % interval {low:.2g} to {high:.2g}), {_percent(point['false_reject_rate'])} of the words missed; "
        f"an event comes {_milliseconds(latency['median'])} after the end of its word (median; nine in ten within "
        f"{_milliseconds(latency['p90'])})."
    )


def _noise(facts: ReportFacts) -> Section | None:
    points, device = facts.benchmark["snr"], facts.device_form
    if not points:
        return None
    rows = [
        [
            "clean" if point["snr_db"] is None else f"{point['snr_db']:g} dB",
            str(point["clips"]),
            *[
                f"{_percent(point['accuracy'][form])} ({_span(point['accuracy_interval'][form])})"
                for form in (FLOAT, device)
            ],
        ]
        for point in points
    ]
    return Section(
        title="Noise",
        text="The test clips with the data's background noise mixed in; bars and brackets are 95 % intervals.",
        plots=[plots.snr_plot(points, device)],
        table=Table(headings=["signal to noise", "clips", FLOAT, device], rows=rows),
    )


def _scores(facts: ReportFacts) -> Section:
    found, device = facts.benchmark, facts.device_form
    calibration = found["calibration"]
    rows = [
        [
            form,
            f"{one['low']:.1f} to {one['high']:.1f}",
            str(one["clips"]),
            _share(one["confidence"]),
            _share(one["accuracy"]),
        ]
        for form in (FLOAT, device)
        for one in calibration[form]["bins"]
    ]
    errors = ", ".join(f"{form} {calibration[form]['ece']:.3f}" for form in (FLOAT, device))
    return Section(
        title="Scores",
        text=f"How sure the model is, and how often it is right then. Expected calibration error: {errors}.",
        plots=[
            *[plots.score_plot(found["scores"][form], form) for form in (FLOAT, device)],
            plots.calibration_plot(calibration, device),
        ],
        table=Table(headings=["form", "posterior", "clips", "mean posterior", "right"], rows=rows, words=2),
    )


def _layers(device: DeviceFacts) -> Section | None:
    if not device.compared_clips:
        return None
    rows = [
        [str(layer.index), layer.op, _shape(layer.shape), "-" if layer.sqnr_db is None else f"{layer.sqnr_db:.1f}"]
        for layer in device.layers
    ]
    return Section(
        title="Rounding, layer by layer",
        text=f"Each op's output against its float tensor, on {device.compared_clips} of the test clips.",
        plots=[plots.layer_plot(device)],
        table=Table(headings=["op", "kind", "output", "SQNR, dB"], rows=rows, words=3),
    )


def _memory(device: DeviceFacts) -> Section:
    ordered = sorted(device.memory, key=lambda box: (box.first, box.offset))
    rows = [[box.name, f"{box.size_bytes:,}", f"{box.offset:,}", f"{box.first}", f"{box.last}"] for box in ordered]
    return Section(
        title="Memory over the ops",
        text=f"On {DEVICE_NAMES[device.core]} activations and scratch buffers take {device.head_bytes:,} bytes of the "
        f"arena, TFLM's records of ops and tensors {device.bookkeeping_bytes:,} more. Boxes over each other share "
        "bytes: rows that are taken out of a map or joined to one, a sum that overwrites what it is made of.",
        plots=[plots.memory_plot(device)],
        table=Table(headings=["tensor", "bytes", "offset", "first op", "last op"], rows=rows),
    )


def _parts(device: DeviceFacts) -> Section:
    rows = [[part, "flash", f"{size:,}"] for part, size in device.flash.items()]
    rows += [[part, "RAM", f"{size:,}"] for part, size in device.ram.items()]
    return Section(
        title="Flash and RAM by part",
        text=f"On {DEVICE_NAMES[device.core]}.",
        plots=[plots.parts_plot(device.flash, device.ram)],
        table=Table(headings=["part", "memory", "bytes"], rows=rows, words=2),
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _span(interval: Sequence[float]) -> str:
    return " .. ".join(f"{100 * end:.1f}" for end in interval)


def _share(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f} %"


def _milliseconds(value: Any) -> str:
    return "-" if value is None else f"{value:.0f} ms"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
