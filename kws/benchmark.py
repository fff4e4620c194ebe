"""What float and int8 answer on the same clips, side by side: as figures, and as a table for the terminal."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.metrics import Indices, accuracy, agreement, confusion_matrix, per_class, sqnr_db

FORMS = ("float", "int8")
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Figures of one build on one list of clips; accuracies and agreement are fractions, sizes bytes.

    `estimated_instructions` of one inference by core, and "unmeasured_ops" that they leave out.
    """

    labels: list[str]
    clips: int
    accuracy: dict[str, float]
    agreement: float
    sqnr_db: float
    per_class: dict[str, list[dict[str, Any]]]
    confusion: dict[str, list[list[int]]]
    disagreements: list[dict[str, str]]
    model_bytes: int
    arena_bytes: int
    estimated_instructions: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """JSON has no infinity: an SQNR without any noise is null."""
        values = dataclasses.asdict(self)
        return values | {"sqnr_db": self.sqnr_db if np.isfinite(self.sqnr_db) else None}


def compare(
    logits: dict[str, Logits],
    targets: Indices,
    *,
    labels: list[str],
    clip_names: list[str],
    model_bytes: int,
    arena_bytes: int,
    estimated_instructions: dict[str, int],
) -> Benchmark:
    """`logits` has float32 (n, classes) for "float" and, dequantized, for "int8"; `targets` int64 (n,)."""
    winners = {form: logits[form].argmax(axis=1) for form in FORMS}
    matrices = {form: confusion_matrix(targets, winners[form], len(labels)) for form in FORMS}
    differing = np.flatnonzero(winners["float"] != winners["int8"]).tolist()
    return Benchmark(
        labels=labels,
        clips=len(targets),
        accuracy={form: accuracy(targets, winners[form]) for form in FORMS},
        agreement=agreement(logits["float"], logits["int8"]),
        sqnr_db=sqnr_db(logits["float"], logits["int8"]),
        per_class={form: [dataclasses.asdict(f) for f in per_class(matrices[form], labels)] for form in FORMS},
        confusion={form: matrices[form].tolist() for form in FORMS},
        disagreements=[
            {"clip": clip_names[i], "label": labels[targets[i]]} | {form: labels[winners[form][i]] for form in FORMS}
            for i in differing
        ],
        model_bytes=model_bytes,
        arena_bytes=arena_bytes,
        estimated_instructions=estimated_instructions,
    )


def print_tables(result: Benchmark) -> None:
    """Summary, per-class figures and both confusion matrices on standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, width=None if _is_terminal() else 120)

    classes = Table("class", title="Per class", title_justify="left")
    for heading in ("clips", "float recall", "int8 recall", "float precision", "int8 precision"):
        classes.add_column(heading, justify="right")
    for of_float, of_int8 in zip(result.per_class["float"], result.per_class["int8"], strict=True):
        cells = [_percent(f[figure]) for figure in ("recall", "precision") for f in (of_float, of_int8)]
        classes.add_row(Text(_visible(of_float["label"])), str(of_float["clips"]), *cells)
    console.print(classes)

    for form in FORMS:
        confusion = Table(title=f"Confusion, {form}: a row is what was said", title_justify="left")
        confusion.add_column("")
        for index in range(len(result.labels)):
            confusion.add_column(str(index), justify="right")
        for index, (label, row) in enumerate(zip(result.labels, result.confusion[form], strict=True)):
            confusion.add_row(Text(f"{index} {_visible(label)}"), *[str(count or ".") for count in row])
        console.print(confusion)

    summary = Table("", title=f"{result.clips} test clips", title_justify="left")
    for form in FORMS:
        summary.add_column(form, justify="right")
    summary.add_row("accuracy", *[f"{result.accuracy[form]:.2%}" for form in FORMS])
    summary.add_row("same answer as float", "", f"{result.agreement:.2%}")
    summary.add_row("logit SQNR", "", f"{result.sqnr_db:.1f} dB")
    summary.add_row("model", "", f"{result.model_bytes:,} bytes")
    summary.add_row("arena", "", f"{result.arena_bytes:,} bytes")
    for core, name in (("cortex_m4", "Cortex-M4"), ("cortex_m55", "Cortex-M55")):
        summary.add_row(f"instructions, {name}, estimated", "", f"{result.estimated_instructions[core]:,}")
    console.print(summary)


def _is_terminal() -> bool:
    import sys

    return sys.stdout.isatty()


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{fraction:.1%}"


def _visible(label: str) -> str:
    """A label with control characters escaped: it comes from a folder name and must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in label)
