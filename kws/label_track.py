"""Labels of a recording, as Audacity exports them: a line a word with start and end in seconds and the label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from kws.artifact import write_text
from kws.errors import KwsError
from kws.spotting import Word
from kws.terminal import visible

SHAPE = "START<TAB>END<TAB>LABEL, with times in seconds"


def read_labels(path: Path) -> list[Word]:
    """Lines that begin with a backslash (frequencies, which Audacity writes for some labels) are passed over.

    Raises KwsError, naming the line, for one that is no label, or if there is none at all.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise KwsError(f"{path}: no such file; give the labels of the recording as {SHAPE}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise KwsError(f"{path}: cannot be read as text; save the labels as UTF-8, {SHAPE}.") from error
    entries = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("\\")]
    if not entries:
        raise KwsError(f"{path}: holds no label; write a line for each word: {SHAPE}.")
    return [_word(line, f"{path}:{number}") for number, line in entries]


def write_labels(path: Path, words: Sequence[Word]) -> None:
    rows = [f"{word.start_ms / 1000:.3f}\t{word.end_ms / 1000:.3f}\t{visible(word.label)}\n" for word in words]
    write_text(path, "".join(rows))


def check_labels(path: Path, words: Sequence[Word], keywords: Sequence[str], recording: Path, length_ms: int) -> None:
    """Raises KwsError unless the words lie in the recording and one of them, at least, is a keyword."""
    last = max(words, key=lambda word: word.end_ms)
    if last.end_ms > length_ms + 1:
        raise KwsError(
            f"{path}: its labels reach to {last.end_ms / 1000:.2f} s, but {recording} ends at "
            f"{length_ms / 1000:.2f} s; give the labels of this recording."
        )
    found = sorted({word.label for word in words})
    if not set(found) & set(keywords):
        raise KwsError(
            f"{path}: names {', '.join(map(visible, found))}, but the model listens for "
            f"{', '.join(map(visible, keywords))}; give labels with its keywords."
        )


def _word(line: str, where: str) -> Word:
    parts = line.split("\t")
    try:
        start_s, end_s = float(parts[0]), float(parts[1])
        label = parts[2].strip()
    except (IndexError, ValueError) as error:
        raise KwsError(f"{where}: is not {SHAPE}; mend the line.") from error
    if not label or not 0 <= start_s <= end_s or not math.isfinite(end_s):
        raise KwsError(f"{where}: must have a label, and a start at or before its end, neither below 0; mend the line.")
    return Word(label=label, start_ms=round(start_s * 1000), end_ms=round(end_s * 1000))
