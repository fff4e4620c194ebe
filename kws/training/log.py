"""RUN/training.csv: the figures of each epoch, written as they come, so that a killed run leaves what it did.

    log = TrainingLog(out / LOG_NAME)                      # or, with --resume:
    log = TrainingLog.resume(out / LOG_NAME, epochs_done)
    log.epoch({"epoch": 1, "loss": 2.3, "validation_accuracy": 0.4})
    log.close()

Numbers are written so that they read back exactly. The same as JSON is in `metrics.json` once a run has ended.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from kws.artifact import make_folder, write_text
from kws.errors import KwsError

LOG_NAME = "training.csv"
REMEDY = "train again without --resume"
Figures = dict[str, float | int]


class TrainingLog:
    """A header and one row an epoch. `history` holds the rows, those read on resuming included."""

    def __init__(self, path: Path) -> None:
        """Begin anew: replaces `path`. Raises KwsError if its folder cannot be written."""
        make_folder(path.parent)
        self.path = path
        self.history: list[Figures] = []
        self._stream = path.open("w", encoding="utf-8", newline="")

    @classmethod
    def resume(cls, path: Path, epochs_done: int) -> TrainingLog:
        """Go on after epoch `epochs_done`; later rows, and a row that was being written, are cut off.

        Raises KwsError if `path` is missing or damaged, or lacks one of those epochs.
        """
        history = _read(path, epochs_done)
        write_text(path, "".join(_line(row) for row in _rows(history)))
        log = cls.__new__(cls)
        log.path, log.history = path, history
        log._stream = path.open("a", encoding="utf-8", newline="")
        return log

    def epoch(self, figures: Mapping[str, float | int]) -> None:
        """Append a row and flush it. `figures` has "epoch", counted from 1, and the same names each time.

        Raises KwsError if the names are others than those that the file has, OSError if the disk is full.
        """
        if self.history and list(figures) != list(self.history[0]):
            raise KwsError(
                f"{self.path}: has the columns {', '.join(self.history[0])}, "
                f"but this training gives {', '.join(figures)}; {REMEDY}."
            )
        added = _rows([dict(figures)])[1 if self.history else 0 :]
        try:
            self._stream.write("".join(_line(row) for row in added))
            self._stream.flush()
        except OSError as error:
            # Closing tries to write once more what stayed in the buffer.
            with contextlib.suppress(OSError):
                self._stream.close()
            error.filename = str(self.path)
            raise
        self.history.append(dict(figures))

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _rows(history: list[Figures]) -> list[list[str]]:
    """The header and a row for each."""
    if not history:
        return []
    return [list(history[0]), *([_text(value) for value in figures.values()] for figures in history)]


def _line(texts: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(texts)
    return buffer.getvalue()


def _text(value: float | int) -> str:
    return str(int(value)) if isinstance(value, int) else repr(float(value))


def _number(text: str) -> float | int:
    try:
        return int(text)
    except ValueError:
        return float(text)


def read_log(path: Path) -> list[Figures]:
    """All epochs of a training that has ended. Raises KwsError if `path` cannot be read or holds no such log."""
    remedy = "train again, or take the file away"
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines(), strict=True))
        return [{name: _number(value) for name, value in row.items()} for row in rows]
    except OSError as error:
        raise KwsError(f"{path}: cannot be read ({error.strerror}); {remedy}.") from error
    except (UnicodeDecodeError, csv.Error, ValueError, TypeError) as error:
        raise KwsError(f"{path}: is no log of a training; {remedy}.") from error


def _read(path: Path, epochs_done: int) -> list[Figures]:
    if epochs_done == 0:
        return []
    try:
        # A row without its line end was being written when the run was killed.
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    except FileNotFoundError as error:
        raise KwsError(f"{path}: no such file, though {epochs_done} epochs were trained; {REMEDY}.") from error
    except UnicodeDecodeError as error:
        raise KwsError(f"{path}: is no text; {REMEDY}.") from error
    header, *rows = list(csv.reader(whole.splitlines())) or [[]]
    if len(rows) < epochs_done:
        raise KwsError(f"{path}: has {len(rows)} of the {epochs_done} epochs that were trained; {REMEDY}.")
    try:
        history = [dict(zip(header, map(_number, row), strict=True)) for row in rows[:epochs_done]]
    except ValueError as error:
        raise KwsError(f"{path}: has a row that is not one number a column; {REMEDY}.") from error
    if [figures.get("epoch") for figures in history] != list(range(1, epochs_done + 1)):
        raise KwsError(f"{path}: its epochs are not 1 to {epochs_done} in order; {REMEDY}.")
    return history
