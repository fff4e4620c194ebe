"""`kws fetch`: brings a public data set."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from kws.commands.arguments import add_command

if TYPE_CHECKING:
    from kws.commands.arguments import Commands

NAMES = ("speech-commands-v2", "speech-commands-v1")


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "fetch", _run, "Download a public data set of spoken words, checked and unpacked.")
    parser.add_argument(
        "name",
        choices=NAMES,
        metavar="NAME",
        help=f"one of {', '.join(NAMES)}: 2.5 and 1.6 GB to download, 3.5 and 2.2 GB on disk",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DATA", help="new folder for the clips")
    parser.add_argument(
        "--archive",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="an archive that is already here, checked all the same; may be given twice (default: download all)",
    )
    parser.add_argument(
        "--no-official-test",
        action="store_true",
        help="leave out the test clips of the 12-class task (default: fetch them too)",
    )


def _run(options: argparse.Namespace) -> Path:
    from kws.fetch import DATA_SETS, fetch
    from kws.progress import note

    archives = DATA_SETS[options.name]
    if options.no_official_test:
        archives = archives[:1]
    out: Path = fetch(archives, options.out, given=options.archive)
    train = f"kws train {shlex.quote(str(out))} --out RUN"
    note(f"The 12-class task: {train} --words yes,no,up,down,left,right,on,off,stop,go")
    note(f"Every word a class: {train} --no-silence")
    return out
