"""Anyone's recordings: which file says which word, and who speaks."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kws.config import NOISE_FOLDER
from kws.errors import KwsError
from kws.splits import speaker_of
from kws.words import same_word_key, word_problem

LAYOUTS = ("word", "word/speaker", "speaker/word")
# What libsndfile reads, and what people record with but it does not.
READABLE_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64")
FOREIGN_SUFFIXES = (".m4a", ".mp4", ".aac", ".wma", ".webm", ".amr", ".3gp", ".ape")
# Folders deeper than this are not looked into, so that a link to a folder above ends somewhere.
MAX_DEPTH = 4
MAX_SPEAKER_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One file; `source` is its path below the folder that was scanned."""

    path: Path
    source: str
    word: str
    speaker: str


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A file that gives no clip, and why: `reason` in a word or two, `detail` for the person who mends it."""

    source: str
    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """`recordings` sorted by their source; `nameless` is how many of them do not say who speaks."""

    layout: str
    recordings: list[Recording]
    noise: list[Path]
    dropped: list[Dropped]
    nameless: int


def find_recordings(root: Path, layout: str | None) -> Found:
    """List the audio files of `root`; `layout` is one of LAYOUTS, None to find out.

    Names that begin with "_" or "." are passed over, but for `_background_noise_`. In layout `word` the speaker is what
    stands before `_nohash_` in a file's name, and where that is missing the whole name.
    Raises KwsError for a folder that is missing, holds no audio, can be read in two ways, or has a word that cannot
    name a folder or is there twice in different spelling.
    """
    if not root.is_dir():
        raise KwsError(f"{root}: no such folder; give a folder that holds one folder a word.")
    try:
        files = sorted(_walk(root, ()))
        noise_folder = root / NOISE_FOLDER
        noise = sorted(p for p in noise_folder.iterdir() if _is_readable(p.name)) if noise_folder.is_dir() else []
    except OSError as error:
        raise KwsError(f"{error.filename or root}: cannot be listed ({error.strerror}); mend its rights.") from error
    layout = layout or _layout_of(root, files)
    depth = layout.count("/") + 2
    dropped, recordings = [], []
    for parts in files:
        if len(parts) != depth:
            dropped.append(Dropped(source=shown("/".join(parts)), reason="misplaced", detail=f"is not in {layout}/"))
        elif not _is_readable(parts[-1]):
            detail = "this format cannot be read; convert it to WAV or FLAC"
            dropped.append(Dropped(source=shown("/".join(parts)), reason="foreign format", detail=detail))
        else:
            recordings.append(_recording(root, parts, layout))
    if not recordings:
        raise KwsError(f"{root}: holds no audio in folders of the layout {layout}; give another folder or --layout.")
    _check_words(root, recordings)
    nameless = sum("_nohash_" not in recording.path.name for recording in recordings) if layout == "word" else 0
    recordings = _one_spelling(recordings)
    return Found(layout=layout, recordings=recordings, noise=noise, dropped=dropped, nameless=nameless)


def audio_files(folder: Path, what: str) -> list[Path]:
    """The audio files at any depth of `folder`, sorted; `what` they are stands in the KwsError if there are none."""
    if not folder.is_dir():
        raise KwsError(f"{folder}: no such folder; give a folder with {what}.")
    files = sorted(path for path in folder.rglob("*") if _is_readable(path.name) and path.is_file())
    if not files:
        raise KwsError(f"{folder}: holds no audio files; give a folder with {what}.")
    return files


def safe_speaker(speaker: str) -> str:
    """`speaker` as it may stand in a file name before `_nohash_`: unchanged if it can, else with a hash of it."""
    normal = unicodedata.normalize("NFC", speaker)
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in normal)[:MAX_SPEAKER_CHARACTERS]
    if "_nohash_" in f"{safe}_":
        safe = safe.replace("_", "-")
    safe = safe.strip("_-")
    if safe and safe == normal and len(safe.encode()) <= 2 * MAX_SPEAKER_CHARACTERS:
        return safe
    digest = hashlib.sha256(normal.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{safe[: MAX_SPEAKER_CHARACTERS // 2]}-{digest}".lstrip("-")


def shown(name: str) -> str:
    """A file's name as text that every file and terminal takes: bytes that are no UTF-8 become \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for entry in folder.iterdir():
        if entry.name.startswith(("_", ".")):
            continue
        parts = (*above, entry.name)
        if entry.is_dir():
            if len(parts) < MAX_DEPTH:
                yield from _walk(entry, parts)
        elif entry.suffix.lower() in READABLE_SUFFIXES + FOREIGN_SUFFIXES and entry.is_file():
            yield parts


def _is_readable(name: str) -> bool:
    return Path(name).suffix.lower() in READABLE_SUFFIXES and not name.startswith(".")


def _layout_of(root: Path, files: list[tuple[str, ...]]) -> str:
    deep = next((parts for parts in files if len(parts) == 3), None)
    if deep is None:
        return "word"
    first, second = (shown(part) for part in deep[:2])
    raise KwsError(
        f"{root}: the folders {first}/{second} can be read in two ways; give --layout word/speaker if {first!r} is a "
        f"word and {second!r} who says it, --layout speaker/word if it is the other way round."
    )


def _recording(root: Path, parts: tuple[str, ...], layout: str) -> Recording:
    named = dict(zip(layout.split("/"), parts, strict=False))
    word = unicodedata.normalize("NFC", named["word"])
    speaker = named.get("speaker") or speaker_of("/".join(parts))
    return Recording(path=root.joinpath(*parts), source="/".join(parts), word=word, speaker=safe_speaker(speaker))


def _one_spelling(recordings: list[Recording]) -> list[Recording]:
    """Anna and anna are one person, who must not be in two splits."""
    spelt: dict[str, str] = {}
    for speaker in sorted({recording.speaker for recording in recordings}):
        spelt.setdefault(same_word_key(speaker), speaker)
    return [replace(recording, speaker=spelt[same_word_key(recording.speaker)]) for recording in recordings]


def _check_words(root: Path, recordings: list[Recording]) -> None:
    spelt: dict[str, str] = {}
    for word in sorted({recording.word for recording in recordings}):
        if problem := word_problem(word):
            raise KwsError(f"{root}: the name of the word folder {shown(word)!r} {problem}; rename it.")
        other = spelt.setdefault(same_word_key(word), word)
        if other != word:
            raise KwsError(f"{root}: the folders {other!r} and {word!r} name the same word; give them one spelling.")
