"""An inspection as tables on standard output."""

from __future__ import annotations

from collections.abc import Callable

from rich import box
from rich.console import Console
from rich.table import Table

from export.inspection import Inspection, OpReport, slow_groups

# Room for all columns; a narrower terminal wraps lines, which rich would cut.
WIDTH = 160
WORST_LAYERS = 5

_COLUMNS: tuple[tuple[str, Callable[[OpReport], str]], ...] = (
    ("#", lambda op: str(op.index)),
    ("op", lambda op: op.op),
    ("output", lambda op: "x".join(map(str, op.output_shape))),
    ("scale", lambda op: _figure(op.scale, ".4g")),
    ("zero", lambda op: _figure(op.zero_point, "d")),
    ("MACs", lambda op: f"{op.macs:,}" if op.macs else ""),
    ("weight bytes", lambda op: f"{op.weight_bytes:,}" if op.weight_bytes else ""),
    ("M4", lambda op: _instructions(op, "cortex_m4")),
    ("share", lambda op: _figure(op.share, ".1%")),
    ("M55", lambda op: _instructions(op, "cortex_m55")),
    ("slow", lambda op: op.slow),
)
_COMPARED_COLUMNS: tuple[tuple[str, Callable[[OpReport], str]], ...] = (
    ("SQNR dB", lambda op: _figure(op.sqnr_db, ".1f")),
    ("loss dB", lambda op: _figure(op.loss_db, ".1f")),
)
_LEFT_ALIGNED = frozenset({"op", "output", "slow"})


def print_inspection(found: Inspection) -> None:
    """The ops, those that miss CMSIS-NN's fast kernels, the layers that lose most to rounding, and the totals."""
    console = Console(highlight=False, width=WIDTH)
    console.print(_op_table(found))
    console.print(_slow_table(found))
    if found.compared_clips:
        console.print(_worst_table(found))
    console.print(_summary_table(found))


def _op_table(found: Inspection) -> Table:
    columns = (*_COLUMNS[:-1], *(_COMPARED_COLUMNS if found.compared_clips else ()), _COLUMNS[-1])
    table = _table("Ops; instructions are estimates, * outside the shapes that were measured, ? never measured")
    for heading, _ in columns:
        table.add_column(heading, justify="left" if heading in _LEFT_ALIGNED else "right", no_wrap=True)
    for op in found.ops:
        table.add_row(*(cell(op) for _, cell in columns))
    return table


def _slow_table(found: Inspection) -> Table:
    table = _table("Outside the fast CMSIS-NN kernels (Cortex-M4)")
    for heading in ("op", "count", "instructions", "share"):
        table.add_column(heading, justify="left" if heading == "op" else "right")
    for name, count, instructions, share in slow_groups(found.ops):
        table.add_row(name, str(count), f"{instructions:,}", f"{share:.1%}")
    return table


def _worst_table(found: Inspection) -> Table:
    table = _table(f"Where rounding loses most, {found.compared_clips} validation clips")
    for heading in ("#", "op", "output", "SQNR dB", "loss dB"):
        table.add_column(heading, justify="left" if heading in _LEFT_ALIGNED else "right")
    known = [op for op in found.ops if op.loss_db is not None]
    for op in sorted(known, key=lambda op: -(op.loss_db or 0.0))[:WORST_LAYERS]:
        shape = "x".join(map(str, op.output_shape))
        table.add_row(str(op.index), op.op, shape, _figure(op.sqnr_db, ".1f"), _figure(op.loss_db, ".1f"))
    return table


def _summary_table(found: Inspection) -> Table:
    table = _table("Total")
    table.show_header = False
    table.add_column("")
    table.add_column("", justify="right")
    sizes = found.bytes
    table.add_row("ops", f"{len(found.ops)}")
    table.add_row("MACs", f"{found.macs:,}")
    for name, core in (("M4", "cortex_m4"), ("M55", "cortex_m55")):
        instructions = found.instructions[core]
        table.add_row(f"instructions on Cortex-{name}, estimated", f"{instructions:,}" if instructions else "?")
    table.add_row("  of them outside the measured shapes", f"{found.extrapolated_share:.1%}")
    if found.unmeasured_ops:
        table.add_row("  without ops that were never measured", f"{found.unmeasured_ops}")
    table.add_row("file", f"{sizes.file:,} bytes")
    for part in ("weights", "biases", "quantization", "structure"):
        table.add_row(f"  {part}", f"{getattr(sizes, part):,} bytes")
    table.add_row("arena on this 64-bit host, measured", f"{found.arena_bytes:,} bytes")
    table.add_row("arena on Cortex-M4, computed", f"{found.arena_32_bit_bytes:,} bytes")
    table.add_row("arena on Cortex-M55, computed", f"{found.arena_m55_bytes:,} bytes")
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)


def _instructions(op: OpReport, core: str) -> str:
    if op.instructions is None:
        return "?"
    return f"{op.instructions[core]:,}{'*' if op.is_extrapolated else ''}"


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
