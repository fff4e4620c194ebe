"""The command line: parses, calls one function, prints the path it wrote. Heavy imports wait for their command."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kws import __version__
from kws.commands import benchmark, detect, fetch, headers, inspect, prepare, quantize, synth, train, verify
from kws.errors import KwsError

COMMANDS = (fetch, synth, prepare, train, quantize, verify, benchmark, detect, inspect, headers)
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run `kws`; returns the exit code: 0, 1 (the work failed, with one sentence on standard error) or 2 (usage)."""
    _settle_environment()
    options = _parser().parse_args(argv)
    try:
        written: Path | None = options.run(options)
        if written is not None:
            print(f"Wrote {written}")
    except KwsError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(_os_sentence(error))
    except MemoryError:
        return _fail("Out of memory; close other programs, or use fewer clips or a smaller model.")
    except KeyboardInterrupt as interrupt:
        return _fail(str(interrupt) or "Interrupted; nothing was written.", EXIT_INTERRUPTED)
    return EXIT_OK


def _settle_environment() -> None:
    """Before torch and tensorflow load: idle OpenMP threads must sleep, or a second busy program slows training
    several times over; tensorflow keeps its start-up chatter to itself."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _fail(sentence: str, code: int = EXIT_FAILED) -> int:
    print(f"kws: {sentence}", file=sys.stderr)
    return code


def _os_sentence(error: OSError) -> str:
    where = error.filename or "the output folder"
    remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the path and its rights"
    return f"{where}: {error.strerror or error}; {remedy} and run the command again."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kws",
        description="From a folder of spoken words to microcontroller firmware that spots them.",
        epilog="In this order: fetch, synth or prepare (your own recordings), train, quantize, headers; verify, "
        "benchmark and inspect judge, detect listens.",
    )
    parser.add_argument("--version", action="version", version=f"kws {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")

    for command in COMMANDS:
        command.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
