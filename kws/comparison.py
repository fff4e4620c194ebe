"""Several builds on the same clips: one table, and accuracy drawn against what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from kws.artifact import atomic_folder, write_json
from kws.benchmark import FLOAT, Benchmark
from kws.benchmark_tables import label_text, report_console, table
from kws.errors import KwsError
from kws.statistics import CONFIDENCE

SCHEMA = 1
JSON_NAME, PLOT_STEM = "comparison.json", "comparison"


def report_names(builds: Sequence[Path]) -> list[str]:
    """A name for each of `builds` by which its report is found: its folder's, with that of the folder above where two
    are equal, and a number where those are, too. Raises KwsError for a build that is there twice."""
    folders = [build.resolve() for build in builds]
    for index, folder in enumerate(folders):
        if folder in folders[:index]:
            raise KwsError(f"{builds[index]}: is given twice; name each build once.")
    shared = [sum(other.name.casefold() == folder.name.casefold() for other in folders) > 1 for folder in folders]
    wanted = [
        f"{folder.parent.name}-{folder.name}" if is_shared else folder.name
        for folder, is_shared in zip(folders, shared, strict=True)
    ]
    names: list[str] = []
    for name in wanted:
        taken = {one.casefold() for one in names}
        numbered = (f"{name}-{number}" for number in range(2, len(wanted) + 2))
        names.append(next(free for free in (name, *numbered) if free.casefold() not in taken))
    return names


def comparison(results: Mapping[str, Benchmark]) -> dict[str, Any]:
    """What comparison.json holds of `results` by report name, each judged on the same clips."""
    first = next(iter(results.values()))
    return {
        "schema": SCHEMA,
        "labels": sorted(first.labels),
        "clips": first.clips,
        "builds": [_summary(name, result) for name, result in results.items()],
    }


def write_comparison(out: Path, results: Mapping[str, Benchmark]) -> None:
    """Write comparison.json, and as PNG and SVG accuracy against size and cost, to the folder `out`."""
    from kws.comparison_plot import draw_comparison

    with atomic_folder(out) as folder:
        write_json(folder / JSON_NAME, comparison(results))
        draw_comparison(results, [folder / f"{PLOT_STEM}.{suffix}" for suffix in ("png", "svg")])


def print_comparison(results: Mapping[str, Benchmark]) -> None:
    report_console().print(_comparison_table(results))


def _summary(name: str, result: Benchmark) -> dict[str, Any]:
    report = result.as_json()
    kept = ("accuracy", "accuracy_interval", "macro_f1", "agreement", "sqnr_db", "mcnemar", "model_bytes")
    costs = ("arena_bytes", "arena", "macs", "params", "estimated_instructions")
    return {"name": name, "device": result.device} | {key: report[key] for key in (*kept, *costs)}


def _comparison_table(results: Mapping[str, Benchmark]) -> Table:
    first = next(iter(results.values()))
    title = f"{len(results)} builds on the same {first.clips} clips"
    headings = ("form", "float", "device", "interval", "change", "same answer", "bytes", "arena", "instr.")
    made = table(title, "build", *headings)
    made.caption = (
        f"accuracy of the device with its {CONFIDENCE:.0%} interval, and its change from float in points; bytes of the "
        "model, and of the arena on Cortex-M4; instructions there"
    )
    for name, result in results.items():
        costs, device = result.costs, result.device
        low, high = result.accuracy_interval[device]
        instructions = costs.estimated_instructions["cortex_m4"]
        made.add_row(
            label_text(name),
            device,
            f"{result.accuracy[FLOAT]:.2%}",
            f"{result.accuracy[device]:.2%}",
            f"{100 * low:.1f} .. {100 * high:.1f}",
            f"{-100 * result.mcnemar.drop + 0.0:+.2f}",
            f"{result.agreement:.2%}",
            f"{costs.model_bytes:,}",
            f"{costs.arena['cortex_m4']:,}",
            f"{instructions / 1e6:.1f} M" if instructions else "?",
        )
    return made
