"""What became of the recordings, for the terminal; prepare.json has every file."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

from kws.prepare import Prepared, words_of
from kws.terminal import visible

if TYPE_CHECKING:
    from rich.table import Table

PLAIN_WIDTH = 120


def print_prepared(prepared: Prepared) -> None:
    """A row a word, and why recordings were dropped, on standard output."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    console.print(_word_table(prepared))
    if prepared.dropped:
        console.print(_dropped_table(prepared))


def _word_table(prepared: Prepared) -> Table:
    columns = ("recordings", "clips", "speakers", "copies")
    table = _table(f"{len(prepared.clips)} clips, {len(prepared.copies)} copies for training", "word", *columns)
    for word, counts in words_of(prepared).items():
        table.add_row(_visible(word), *[str(counts[column]) for column in columns])
    if prepared.shortened:
        table.caption = f"{prepared.shortened} longer than a second: the loudest second of each"
    return table


def _dropped_table(prepared: Prepared) -> Table:
    table = _table("Dropped", "why", "files", "for example")
    first = {one.reason: one for one in reversed(prepared.dropped)}
    for reason, count in Counter(one.reason for one in prepared.dropped).most_common():
        table.add_row(reason, str(count), _visible(f"{first[reason].source}: {first[reason].detail}"))
    return table


def _table(title: str, *headings: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption_justify="left")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("word", "why", "for example") else "right")
    return table


def _visible(text: str) -> str:
    """Names of files come from strangers: no control characters for the terminal, no markup for the table."""
    from rich.markup import escape

    return escape(visible(text))
