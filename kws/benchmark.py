"""What float and integers answer on the same clips, side by side: as figures, and as a table for the terminal."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kws.metrics import Indices, accuracy, agreement, confusion_matrix, per_class, sqnr_db
from kws.terminal import visible

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

FLOAT = "float"
MAX_CONFUSIONS = 20
PLAIN_WIDTH = 120
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Figures of one build on one list of clips; accuracies and agreement are fractions, sizes bytes.

    The keys are "float" and what the device computes with, "int8" or "int16". `estimated_instructions` of one inference
    by core, and "unmeasured_ops" that they leave out.
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

    @property
    def forms(self) -> tuple[str, ...]:
        return tuple(self.accuracy)

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
    """`logits` has float32 (n, classes) for "float" and, dequantized, "int8" or "int16"; `targets` int64 (n,)."""
    _, integer = forms = tuple(logits)
    winners = {form: logits[form].argmax(axis=1) for form in forms}
    matrices = {form: confusion_matrix(targets, winners[form], len(labels)) for form in forms}
    differing = np.flatnonzero(winners[FLOAT] != winners[integer]).tolist()
    return Benchmark(
        labels=labels,
        clips=len(targets),
        accuracy={form: accuracy(targets, winners[form]) for form in forms},
        agreement=agreement(logits[FLOAT], logits[integer]),
        sqnr_db=sqnr_db(logits[FLOAT], logits[integer]),
        per_class={form: [dataclasses.asdict(f) for f in per_class(matrices[form], labels)] for form in forms},
        confusion={form: matrices[form].tolist() for form in forms},
        disagreements=[
            {"clip": clip_names[i], "label": labels[targets[i]]} | {form: labels[winners[form][i]] for form in forms}
            for i in differing
        ],
        model_bytes=model_bytes,
        arena_bytes=arena_bytes,
        estimated_instructions=estimated_instructions,
    )


def print_tables(result: Benchmark) -> None:
    """Per-class figures, the commonest confusions and the summary on standard output; JSON has the whole matrices."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    for table in (_class_table(result), _confusion_table(result), _summary_table(result)):
        console.print(table)


def _class_table(result: Benchmark) -> Table:
    headings = [f"{form} {figure}" for figure in ("recall", "precision") for form in result.forms]
    table = _table("Per class", "class", "clips", *headings)
    for of_float, of_integer in zip(*result.per_class.values(), strict=True):
        cells = [_percent(f[figure]) for figure in ("recall", "precision") for f in (of_float, of_integer)]
        table.add_row(_visible(of_float["label"]), str(of_float["clips"]), *cells)
    return table


def _confusion_table(result: Benchmark) -> Table:
    table = _table("Confusion, the commonest first", "said", "heard", *result.forms)
    pairs = [
        (said, heard) for said in range(len(result.labels)) for heard in range(len(result.labels)) if said != heard
    ]
    counts = {pair: [result.confusion[form][pair[0]][pair[1]] for form in result.forms] for pair in pairs}
    ranked = sorted((pair for pair in pairs if any(counts[pair])), key=lambda pair: (-max(counts[pair]), pair))
    for said, heard in ranked[:MAX_CONFUSIONS]:
        table.add_row(_visible(result.labels[said]), _visible(result.labels[heard]), *map(str, counts[said, heard]))
    if len(ranked) > MAX_CONFUSIONS:
        table.caption = f"and {len(ranked) - MAX_CONFUSIONS} rarer pairs"
    return table


def _summary_table(result: Benchmark) -> Table:
    table = _table(f"{result.clips} test clips", "", *result.forms)
    table.add_row("accuracy", *[f"{result.accuracy[form]:.2%}" for form in result.forms])
    table.add_row("same answer as float", "", f"{result.agreement:.2%}")
    table.add_row("logit SQNR", "", f"{result.sqnr_db:.1f} dB")
    table.add_row("model", "", f"{result.model_bytes:,} bytes")
    table.add_row("arena", "", f"{result.arena_bytes:,} bytes")
    for core, name in (("cortex_m4", "Cortex-M4"), ("cortex_m55", "Cortex-M55")):
        instructions = result.estimated_instructions[core]
        table.add_row(f"instructions, {name}, estimated", "", f"{instructions:,}" if instructions else "?")
    unmeasured = result.estimated_instructions["unmeasured_ops"]
    if unmeasured:
        table.add_row("  without ops that were never measured", "", f"{unmeasured:,}")
    return table


def _table(title: str, *headings: str) -> Table:
    """Columns of words on the left, of numbers on the right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption_justify="left")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("", "class", "said", "heard") else "right")
    return table


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{fraction:.1%}"


def _visible(label: str) -> Text:
    """A label as no markup."""
    from rich.text import Text

    return Text(visible(label))
