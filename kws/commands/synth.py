"""`kws synth`: speaks a data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kws.commands.arguments import add_command, count, words

if TYPE_CHECKING:
    from kws.commands.arguments import Commands


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "synth", _run, "Speak words with synthetic voices: data for trying the tool.")
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder for the clips, one folder a word")
    parser.add_argument("--words", type=words, metavar="A,B", help="words to speak (default: 10 commands, 10 others)")
    parser.add_argument("--seed", type=count, default=0, metavar="N", help="same seed, same bytes (default: 0)")


def _run(options: argparse.Namespace) -> Path:
    from kws.progress import bar
    from kws.synth import DEFAULT_WORDS, synthesize

    out: Path = options.out
    with bar("Speaking") as progress:
        synthesize(out, words=options.words or DEFAULT_WORDS, seed=options.seed, progress=progress)
    return out
