"""Who trains, who validates, who tests: speaker-disjoint and stable."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from kws.errors import KwsError

SPLITS = ("training", "validation", "testing")
LIST_FILES = {"validation": "validation_list.txt", "testing": "testing_list.txt"}
LOWER_PERCENT = {"validation": 0.0, "testing": 10.0}
HELD_OUT_PERCENT = 10.0
HASH_BUCKETS = 2**27 - 1


def speaker_of(name: str) -> str:
    """The speaker in `<word>/<speaker>_nohash_<n>.wav`; the whole stem where that mark is missing."""
    return re.sub(r"_nohash_.*$", "", PurePosixPath(name).stem, flags=re.DOTALL)


def hash_percent(speaker: str) -> float:
    """0..100, the position that Speech Commands' own `which_set` gives a speaker (Warden 2018, sec. 7)."""
    digest = int(hashlib.sha1(speaker.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest(), 16)
    return (digest % (HASH_BUCKETS + 1)) * (100.0 / HASH_BUCKETS)


def split_names(root: Path, names: Iterable[str], needed: Collection[str] = SPLITS) -> dict[str, str]:
    """Assign each clip name (`<word>/<file>`) to a split, each of `needed` getting at least one.

    By validation_list.txt and testing_list.txt in `root` where present (a list names clips without regard to
    their file suffix), else by the hash of the speaker, with at least one speaker in each split.
    Raises KwsError if there are too few speakers, or a list leaves a needed split empty.
    """
    names = list(names)
    listed: dict[str, str] = {}
    for split, file in LIST_FILES.items():
        listed |= dict.fromkeys(read_list(root / file), split)
    if listed:
        assigned = {name: listed.get(without_suffix(name), "training") for name in names}
        unlisted = [split for split in LIST_FILES if split in needed and not (root / LIST_FILES[split]).is_file()]
        if unlisted:
            rest = [name for name in names if assigned[name] == "training"]
            assigned |= _split_by_speaker(root, rest, ("training", *unlisted))
        for split in needed:
            if split not in assigned.values():
                raise KwsError(f"{root}: its lists leave no clip for {split}; mend or remove {_list_names()}.")
        return assigned
    return _split_by_speaker(root, names, SPLITS)


def _split_by_speaker(root: Path, names: list[str], splits: tuple[str, ...]) -> dict[str, str]:
    speakers = {speaker_of(name) for name in names}
    if len(speakers) < len(splits):
        raise KwsError(
            f"{root}: {len(speakers)} speaker(s) cannot fill {len(splits)} speaker-disjoint splits; add speakers "
            f"(the part of a file name before _nohash_), or say which clips test in {_list_names()}."
        )
    held_out = splits[1:]
    start = LOWER_PERCENT[held_out[0]]
    ranked = sorted(speakers, key=lambda speaker: ((hash_percent(speaker) - start) % 100.0, speaker))
    split_of: dict[str, str] = {}
    for position, split in enumerate(held_out):
        in_range = sum(0 <= hash_percent(s) - LOWER_PERCENT[split] < HELD_OUT_PERCENT for s in speakers)
        room = len(speakers) - len(split_of) - (len(held_out) - position)
        split_of |= dict.fromkeys(ranked[len(split_of) :][: min(max(in_range, 1), room)], split)
    return {name: split_of.get(speaker_of(name), "training") for name in names}


def read_list(path: Path) -> list[str]:
    """The clips (without suffix) that the list `path` names; none if there is no such file.

    Raises KwsError if it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise KwsError(f"{path}: cannot be read as a list of clips; mend or remove it.") from error
    return [without_suffix(line.strip()) for line in lines if line.strip()]


def without_suffix(name: str) -> str:
    """`<word>/<file>` as lists are compared: without regard to the file's format."""
    return str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).name else name


def _list_names() -> str:
    return " and ".join(sorted(LIST_FILES.values()))
