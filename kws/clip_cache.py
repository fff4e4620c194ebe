"""Decoded clips, kept between runs as one memory-mapped int16 array a data set."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from kws.artifact import atomic_file
from kws.audio import Pcm, fit_clip, read_audio, to_pcm16
from kws.config import FeatureConfig
from kws.errors import KwsError
from kws.progress import note, track

CACHE_SCHEMA = 1


def cache_folder() -> Path:
    """$KWS_CACHE_DIR, else $XDG_CACHE_HOME/kws, else ~/.cache/kws."""
    if folder := os.environ.get("KWS_CACHE_DIR"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kws"


def load_clips(root: Path, names: Sequence[str], config: FeatureConfig) -> tuple[Pcm, dict[str, str]]:
    """Decode `names` (paths below `root`) to int16 (len(names), clip_samples), read-only, from the cache if it fits.

    Also returns why each undecodable clip was given up, by name; its row is zero. The cache is keyed by
    the names, sizes and modification times, so a changed file is read again.
    """
    path = cache_folder() / f"{_digest(str(root.resolve()))}-{_fingerprint(root, names, config)}.npy"
    failures_path = path.with_suffix(".json")
    shape = (len(names), config.clip_samples)
    try:
        clips: Pcm = np.load(path, mmap_mode="r", allow_pickle=False)
        failures: dict[str, str] = json.loads(failures_path.read_text(encoding="utf-8"))
        if clips.shape == shape and clips.dtype == np.int16:
            return clips, failures
    except (OSError, ValueError, EOFError):
        pass  # no usable cache yet: it is made below
    return _fill(root, names, config, path, failures_path)


def _fill(
    root: Path, names: Sequence[str], config: FeatureConfig, path: Path, failures_path: Path
) -> tuple[Pcm, dict[str, str]]:
    def decode(name: str) -> Pcm | str:
        try:
            return to_pcm16(fit_clip(read_audio(root / name, config.sample_rate_hz), config.clip_samples))
        except KwsError as error:
            return str(error)

    clips = np.zeros((len(names), config.clip_samples), np.int16)
    failures: dict[str, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for row, result in enumerate(track(pool.map(decode, names), "Reading clips", len(names))):
            if isinstance(result, str):
                failures[names[row]] = result
            else:
                clips[row] = result
    try:
        _store(clips, failures, path, failures_path)
    except (OSError, KwsError) as error:
        note(f"Decoded clips are not kept for the next run: {error}")
    return clips, failures


def _store(clips: Pcm, failures: dict[str, str], path: Path, failures_path: Path) -> None:
    with atomic_file(failures_path) as temporary:
        temporary.write_text(json.dumps(failures), encoding="utf-8")
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, clips, allow_pickle=False)
    of_this_root = path.name.partition("-")[0]
    for stale in path.parent.glob(f"{of_this_root}-*"):
        if stale.stem != path.stem:
            stale.unlink(missing_ok=True)


def _fingerprint(root: Path, names: Sequence[str], config: FeatureConfig) -> str:
    described = [f"{CACHE_SCHEMA} {config.sample_rate_hz} {config.clip_samples}"]
    for name in names:
        status = (root / name).stat()
        described.append(f"{name}\0{status.st_size}\0{status.st_mtime_ns}")
    return _digest("\n".join(described))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
