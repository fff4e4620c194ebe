"""`kws prepare`: makes a data set of anyone's recordings."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kws.commands.arguments import add_command, count, positive

if TYPE_CHECKING:
    from kws.commands.arguments import Commands

LAYOUTS = ("word", "word/speaker", "speaker/word")
FORMATS = ("wav", "flac")
DEFAULT_SNR_DB = (20.0, 10.0, 5.0)
SNR_LIMITS_DB = (-30.0, 60.0)


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "prepare", _run, "Cut your recordings to clips of one second that can be trained on."
    )
    parser.add_argument("src", type=Path, metavar="SRC", help="folder of WAV, FLAC, OGG, MP3 or AIFF files, any rate")
    parser.add_argument("--out", type=Path, required=True, metavar="DATA", help="new folder for the clips")
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="how the folders of SRC are nested; in word, file names begin with the speaker, as in anna_nohash_0.wav "
        "(default: found out)",
    )
    parser.add_argument(
        "--noise", type=Path, metavar="FOLDER", help="recordings to lay over copies of training clips (default: none)"
    )
    parser.add_argument(
        "--snr-db",
        type=_levels,
        metavar="A,B",
        help="how much louder than the noise the word is, in dB; a copy for each "
        f"(default with --noise: {','.join(f'{level:g}' for level in DEFAULT_SNR_DB)})",
    )
    parser.add_argument(
        "--rir", type=Path, metavar="FOLDER", help="impulse responses of rooms to put copies into (default: none)"
    )
    parser.add_argument("--format", choices=FORMATS, default="wav", help="of the clips, 16 bit (default: wav)")
    parser.add_argument("--seed", type=count, default=0, metavar="N", help="same seed, same bytes (default: 0)")
    parser.add_argument("--workers", type=positive, metavar="N", help="processes (default: one for each core)")


def _run(options: argparse.Namespace) -> Path:
    if options.snr_db is not None and options.noise is None:
        options.refuse("--snr-db goes with --noise and its folder")
    from kws.prepare import PrepareOptions, prepare
    from kws.prepare_tables import print_prepared

    out: Path = options.out
    chosen = PrepareOptions(
        layout=options.layout,
        noise=options.noise,
        snr_db=(options.snr_db or DEFAULT_SNR_DB) if options.noise else (),
        rir=options.rir,
        suffix=f".{options.format}",
        seed=options.seed,
        workers=options.workers or os.cpu_count() or 1,
    )
    print_prepared(prepare(options.src, out, chosen))
    return out


def _levels(text: str) -> tuple[float, ...]:
    """Distinct as they are written into file names."""
    return tuple(dict.fromkeys(float(f"{_level(part):g}") for part in text.split(",")))


def _level(text: str) -> float:
    try:
        level = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; write --snr-db 20,10,5") from error
    lowest, highest = SNR_LIMITS_DB
    if not math.isfinite(level) or not lowest <= level <= highest:
        raise argparse.ArgumentTypeError(f"{text} is not between {lowest:g} and {highest:g} dB")
    return level
