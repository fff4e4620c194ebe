"""A benchmark as tables on standard output; its JSON has the whole matrices and lists."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kws.benchmark import FLOAT, Benchmark
from kws.statistics import CONFIDENCE, Interval
from kws.terminal import visible

PLAIN_WIDTH = 120
MAX_CONFUSIONS = 10
MAX_DISAGREEMENTS = 5
CORES = {"cortex_m4": "Cortex-M4", "cortex_m55": "Cortex-M55"}

_WORDS = frozenset({"", "class", "said", "heard", "clip", "mostly heard as", "build", "form"})


def print_benchmark(result: Benchmark) -> None:
    """From the details to the whole, which then stands last on the screen."""
    console = report_console()
    tables = [_class_table(result), _worst_table(result), _confusion_table(result), _disagreement_table(result)]
    tables += [_snr_table(result), _cost_table(result), _summary_table(result)]
    for table in tables:
        if table.row_count:
            console.print(table)
    console.print(paired_sentence(result))


def report_console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def paired_sentence(result: Benchmark) -> Text:
    """McNemar's test in plain words."""
    test, device = result.mcnemar, result.device
    low, high = (-100 * end for end in reversed(test.drop_interval))
    interval = f"{CONFIDENCE:.0%} interval {low:+.2f} .. {high:+.2f}"
    change = f"{device} - float is {-100 * test.drop + 0.0:+.2f} points, {interval}."
    if not test.float_only_right and not test.device_only_right:
        return Text(f"Of {result.clips} clips float and {device} are right on the same ones: {change}")
    verdict = "as chance alone would give" if test.p_value >= 1 - CONFIDENCE else "more than chance alone would give"
    return Text(
        f"Of {result.clips} clips {test.float_only_right} are right in float alone and {test.device_only_right} in "
        f"{device} alone, {verdict} (McNemar's exact test, p = {_p_value(test.p_value)}): {change}"
    )


def table(title: str, *headings: str) -> Table:
    """Columns of words on the left, of numbers on the right."""
    made = Table(title=title, title_justify="left", caption_justify="left")
    for heading in headings:
        made.add_column(heading, justify="left" if heading in _WORDS else "right", overflow="fold")
    return made


def label_text(label: str) -> Text:
    return Text(visible(label))


def _interval(interval: Interval) -> str:
    return f"{100 * interval[0]:.1f} .. {100 * interval[1]:.1f} %"


def _class_table(result: Benchmark) -> Table:
    figures = ("recall", "precision", "f1")
    forms = tuple(result.per_class)
    made = table(
        "Per class", "class", "clips", *[f"{form} {name.replace('f1', 'F1')}" for name in figures for form in forms]
    )
    for of_float, of_device in zip(*result.per_class.values(), strict=True):
        cells = [_percent(one[name]) for name in figures for one in (of_float, of_device)]
        made.add_row(label_text(of_float["label"]), str(of_float["clips"]), *cells)
    return made


def _worst_table(result: Benchmark) -> Table:
    made = table(f"Worst classes of {result.device}", "class", "recall", "F1", "mostly heard as")
    for one in result.worst_classes:
        if one["f1"] < 1:
            heard = label_text(one["most_heard_as"]) if one["most_heard_as"] is not None else Text("-")
            made.add_row(label_text(one["label"]), _percent(one["recall"]), _percent(one["f1"]), heard)
    return made


def _confusion_table(result: Benchmark) -> Table:
    made = table("Confusion, the commonest first", "said", "heard", *result.confusion)
    counts = np.array(list(result.confusion.values()))
    pairs = [(said, heard) for said, heard in np.argwhere(counts.any(axis=0)).tolist() if said != heard]
    ranked = sorted(pairs, key=lambda pair: (-int(counts[:, pair[0], pair[1]].max()), pair))
    for said, heard in ranked[:MAX_CONFUSIONS]:
        cells = [str(count) for count in counts[:, said, heard].tolist()]
        made.add_row(label_text(result.labels[said]), label_text(result.labels[heard]), *cells)
    if len(ranked) > MAX_CONFUSIONS:
        made.caption = f"and {len(ranked) - MAX_CONFUSIONS} rarer pairs"
    return made


def _disagreement_table(result: Benchmark) -> Table:
    forms = (FLOAT, result.device)
    made = table(f"Clips that {FLOAT} and {result.device} answer differently", "clip", "said", *forms)
    for one in result.disagreements[:MAX_DISAGREEMENTS]:
        answers = [label_text(one[form]).append(f" {one[f'{form}_score']:.2f}") for form in forms]
        made.add_row(label_text(one["clip"]), label_text(one["label"]), *answers)
    if len(result.disagreements) > MAX_DISAGREEMENTS:
        made.caption = f"and {len(result.disagreements) - MAX_DISAGREEMENTS} more"
    return made


def _snr_table(result: Benchmark) -> Table:
    if not result.snr:
        return table("")
    headings = ["clean" if point.snr_db is None else f"{point.snr_db:g} dB" for point in result.snr]
    made = table(f"Accuracy under noise, {result.snr[0].clips} clips with a word", "", *headings)
    for form in result.snr[0].accuracy:
        made.add_row(form, *[f"{point.accuracy[form]:.1%}" for point in result.snr])
        made.add_row("", *[_interval(point.accuracy_interval[form]) for point in result.snr], style="dim")
    return made


def _cost_table(result: Benchmark) -> Table:
    costs = result.costs
    made = table("Cost", "", result.device)
    made.add_row("model", f"{costs.model_bytes:,} bytes")
    made.add_row("arena on a 64-bit host, measured", f"{costs.arena_bytes:,} bytes")
    for core, name in CORES.items():
        made.add_row(f"arena, {name}, computed", f"{costs.arena[core]:,} bytes")
    for core, name in CORES.items():
        made.add_row(f"instructions, {name}, estimated", _count(costs.estimated_instructions[core]))
    unmeasured = costs.estimated_instructions["unmeasured_ops"]
    if unmeasured:
        made.add_row("  without ops that were never measured", f"{unmeasured:,}")
    for name, count in (("MACs of the network", costs.macs), ("parameters of the network", costs.params)):
        if count is not None:
            made.add_row(name, f"{count:,}")
    return made


def _summary_table(result: Benchmark) -> Table:
    made = table(f"{result.clips} test clips", "", *result.forms)
    made.add_row("accuracy", *[f"{value:.2%}" for value in result.accuracy.values()])
    intervals = [_interval(interval) for interval in result.accuracy_interval.values()]
    made.add_row(f"{CONFIDENCE:.0%} interval", *intervals, style="dim")
    made.add_row("macro F1", *[f"{value:.2%}" for value in result.macro_f1.values()])
    made.add_row("same answer as float", *_but_float(result, lambda form: f"{result.agreements[form]:.2%}"))
    made.add_row("logit SQNR", *_but_float(result, lambda form: _sqnr(result.sqnrs_db[form])))
    errors = {form: f"{found['ece']:.1%}" for form, found in result.calibration.items()}
    made.add_row("calibration error of the scores", *[errors.get(form, "") for form in result.forms])
    return made


def _count(instructions: int) -> str:
    return f"{instructions:,}" if instructions else "?"


def _but_float(result: Benchmark, cell: Callable[[str], str]) -> list[str]:
    return ["" if form == FLOAT else cell(form) for form in result.forms]


def _sqnr(value_db: float) -> str:
    return f"{value_db:.1f} dB" if np.isfinite(value_db) else "equal"


def _p_value(value: float) -> str:
    return f"{value:.2g}" if value >= 0.0001 else f"{value:.0e}"


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{fraction:.1%}"
