"""A folder of word folders -> labels and three speaker-disjoint splits of decoded clips."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kws.audio import AUDIO_SUFFIXES, Pcm, Samples, read_audio, to_float, to_pcm16
from kws.clip_cache import load_clips
from kws.config import NOISE_FOLDER, OFFICIAL_TEST_FOLDER, SILENCE_LABEL, UNKNOWN_LABEL, FeatureConfig
from kws.errors import KwsError
from kws.progress import note
from kws.splits import SPLITS, split_names

MAX_SKIPPED_NAMED = 5
# Each split cuts its silence and its noise from its own stretch of every recording (fractions of its length).
NOISE_STRETCH = {"training": (0.0, 0.8), "validation": (0.8, 0.9), "testing": (0.9, 1.0)}

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rows of `Dataset.pcm` with their targets: keywords, and the other words that stand for `_unknown_`."""

    rows: Indices
    targets: Indices
    unknown_rows: Indices

    @property
    def clips_per_keyword(self) -> int:
        return max(1, math.ceil(len(self.rows) / max(1, len(np.unique(self.targets)))))


@dataclass(frozen=True, kw_only=True)
class EvaluationClips:
    """A fixed list of clips: `pcm` int16 (n, clip_samples), `targets` int64 (n,), and where each came from."""

    pcm: Pcm
    targets: Indices
    names: list[str]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """`pcm` int16 (clips, clip_samples) with their `names`; `noise` float32 recordings by name.

    `official_test` are test clips that the data set's publisher chose for exactly these labels, if there are any.
    """

    root: Path
    labels: list[str]
    names: list[str]
    pcm: Pcm
    splits: dict[str, Split]
    noise: dict[str, Samples]
    clip_samples: int
    official_test: EvaluationClips | None = None

    def fingerprint(self) -> str:
        """Changes when a clip, its name, its split or its target does."""
        digest = hashlib.sha256("\n".join([*self.labels, *self.names]).encode("utf-8", "surrogateescape"))
        for name, split in self.splits.items():
            for array in (split.rows, split.targets, split.unknown_rows):
                digest.update(name.encode() + array.tobytes())
        digest.update(np.ascontiguousarray(self.pcm).data)
        return digest.hexdigest()[:16]

    def noise_of(self, split: str) -> list[Samples]:
        """The stretch of each noise recording that `split` may use, at least one clip long."""
        return [stretch for _, _, stretch in self._noise_stretches(split)]

    def _noise_stretches(self, split: str) -> list[tuple[str, int, Samples]]:
        stretches = []
        for name, recording in self.noise.items():
            first, last = (round(fraction * len(recording)) for fraction in NOISE_STRETCH[split])
            if last - first < self.clip_samples:
                first, last = 0, len(recording)
            stretches.append((name, first, recording[first:last]))
        return stretches

    def evaluation_clips(self, split: str) -> EvaluationClips:
        """The same clips on each call and each machine: all keywords, as many other words and silences as the
        mean keyword has, chosen by the hash of their names. For testing, `official_test` where there is one."""
        if split == "testing" and self.official_test is not None:
            note(f"The test clips are the {len(self.official_test.names)} of {self.root / OFFICIAL_TEST_FOLDER}.")
            return self.official_test
        part = self.splits[split]
        count = part.clips_per_keyword
        unknown = sorted(part.unknown_rows.tolist(), key=lambda row: _stable_order(self.names[row]))[:count]
        rows = np.concatenate([part.rows, np.array(sorted(unknown), np.int64)])
        targets = [part.targets]
        names = [self.names[row] for row in rows.tolist()]
        pcm = [self.pcm[rows]]
        if unknown:
            targets.append(np.full(len(unknown), self.labels.index(UNKNOWN_LABEL)))
        if SILENCE_LABEL in self.labels:
            silence, silence_names = self._silence(split, count)
            pcm.append(silence)
            names += silence_names
            targets.append(np.full(count, self.labels.index(SILENCE_LABEL)))
        return EvaluationClips(pcm=np.concatenate(pcm), targets=np.concatenate(targets).astype(np.int64), names=names)

    def calibration_clips(self, count: int) -> Pcm:
        """int16 (<= count, clip_samples) of the training split, balanced over the labels, the same on each call."""
        part = self.splits["training"]
        pools = [part.rows[part.targets == target].tolist() for target in np.unique(part.targets)]
        pools += [part.unknown_rows.tolist()] if UNKNOWN_LABEL in self.labels else []
        per_label = math.ceil(count / len(self.labels))
        ordered = [sorted(pool, key=lambda row: _stable_order(self.names[row]))[:per_label] for pool in pools]
        clips = [self.pcm[np.array(rows, np.int64)] for rows in ordered if rows]
        if SILENCE_LABEL in self.labels:
            clips.append(self._silence("training", per_label)[0])
        interleaved = [of_label[index] for index in range(per_label) for of_label in clips if index < len(of_label)]
        return np.stack(interleaved[:count])

    def _silence(self, split: str, count: int) -> tuple[Pcm, list[str]]:
        rng = np.random.default_rng(list(SPLITS).index(split))
        stretches = self._noise_stretches(split)
        clips = np.empty((count, self.clip_samples), np.int16)
        names = []
        for index in range(count):
            name, first, stretch = stretches[index % len(stretches)]
            offset = int(rng.integers(0, len(stretch) - self.clip_samples + 1))
            clips[index] = to_pcm16(stretch[offset : offset + self.clip_samples] * np.float32(rng.uniform()))
            names.append(f"{NOISE_FOLDER}/{name}@{first + offset}")
        return clips, names


def load_dataset(
    root: Path,
    words: Sequence[str] | None,
    config: FeatureConfig,
    needed: Collection[str] = SPLITS,
    *,
    silence: bool = True,
) -> Dataset:
    """Read a folder in Speech Commands layout (`<word>/<speaker>_nohash_<n>.wav` or .flac).

    `words` are the keywords, in the order of their labels; all other words become `_unknown_`. None makes
    every word a keyword. `_silence_` is cut from `_background_noise_/` if there is such a folder; without `silence`
    it is no label, and the noise is there all the same. Only the splits in `needed` must have clips: a folder of
    test clips alone can be judged. If testing is needed and `_official_test_12_/` has a folder for each label and
    no other, its clips are the test clips.
    Raises KwsError for a missing or empty folder, a missing word, fewer than two classes or three speakers,
    or a data set in which no clip of a word can be decoded. A few bad clips among many are named and skipped.
    """
    found = _find_words(root)
    keywords = _choose_keywords(root, words, found)
    labels = list(keywords)
    names = [name for word in sorted(found) for name in found[word]]
    pcm, failures = load_clips(root, names, config)
    _report_failures(root, failures, len(names))
    noise = _read_noise(root, config)
    if set(found) - set(keywords):
        labels.insert(0, UNKNOWN_LABEL)
    if noise and silence:
        labels.insert(0, SILENCE_LABEL)
    if len(labels) < 2:
        raise KwsError(f"{root}: gives only one class, {labels[0]!r}; add another word or {NOISE_FOLDER}/.")
    splits = _make_splits(root, names, failures, keywords, labels, needed)
    return Dataset(
        root=root,
        labels=labels,
        names=names,
        pcm=pcm,
        splits=splits,
        noise=noise,
        clip_samples=config.clip_samples,
        official_test=_official_test(root, labels, config) if "testing" in needed else None,
    )


def keywords_of(labels: Sequence[str]) -> list[str]:
    """The labels that are spoken words."""
    return [label for label in labels if label not in (SILENCE_LABEL, UNKNOWN_LABEL)]


def load_dataset_for(
    labels: Sequence[str], root: Path, config: FeatureConfig, needed: Collection[str] = SPLITS
) -> Dataset:
    """Read `root` for a model that knows `labels`; raises KwsError if the data gives other labels."""
    dataset = load_dataset(root, keywords_of(labels), config, needed, silence=SILENCE_LABEL in labels)
    if dataset.labels != list(labels):
        raise KwsError(
            f"{root}: gives the labels {', '.join(dataset.labels)}, but the model was trained for "
            f"{', '.join(labels)}; use the data set that it was trained on, or one with the same kinds of folders."
        )
    return dataset


def _find_words(root: Path) -> dict[str, list[str]]:
    """Word -> its clips' names (`<word>/<file>`), sorted."""
    if not root.is_dir():
        raise KwsError(f"{root}: no such folder; give a folder that holds one folder a word.")
    found = {}
    try:
        for folder in sorted(entry for entry in root.iterdir() if entry.is_dir()):
            if folder.name.startswith(("_", ".")):
                continue
            clips = sorted(f"{folder.name}/{clip.name}" for clip in folder.iterdir() if _is_audio(clip))
            if clips:
                found[folder.name] = clips
    except OSError as error:
        raise KwsError(f"{error.filename or root}: cannot be listed ({error.strerror}); mend its rights.") from error
    if not found:
        raise KwsError(f"{root}: holds no word folders with WAV or FLAC files; give a folder with one folder a word.")
    return found


def _official_test(root: Path, labels: list[str], config: FeatureConfig) -> EvaluationClips | None:
    """The clips of `root`/_official_test_12_/<label>/ in the order of the labels; None if its labels are others."""
    folder = root / OFFICIAL_TEST_FOLDER
    if not folder.is_dir() or {entry.name for entry in folder.iterdir() if entry.is_dir()} != set(labels):
        return None
    clips = {label: sorted(clip.name for clip in (folder / label).iterdir() if _is_audio(clip)) for label in labels}
    names = [f"{label}/{name}" for label in labels for name in clips[label]]
    pcm, failures = load_clips(folder, names, config)
    if failures or not names:
        reason = next(iter(failures.values()), f"{folder}: holds no clips; remove it.")
        raise KwsError(f"The official test clips are not whole: {reason}")
    targets = np.repeat(np.arange(len(labels)), [len(clips[label]) for label in labels])
    return EvaluationClips(pcm=pcm, targets=targets, names=[f"{OFFICIAL_TEST_FOLDER}/{name}" for name in names])


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _choose_keywords(root: Path, words: Sequence[str] | None, found: dict[str, list[str]]) -> list[str]:
    if words is None:
        return sorted(found)
    if missing := [word for word in words if word not in found]:
        nearest = difflib.get_close_matches(missing[0], found, 1)
        guess = f" (did you mean {nearest[0]!r}?)" if nearest else ""
        raise KwsError(
            f"{root}: has no clips of {', '.join(map(repr, missing))}{guess}; record them or change --words."
        )
    if len(set(words)) != len(words):
        raise KwsError(f"--words names a word twice ({', '.join(words)}); name each once.")
    if not words:
        raise KwsError("--words names no word; name at least one.")
    return list(words)


def _report_failures(root: Path, failures: dict[str, str], total: int) -> None:
    if not failures:
        return
    if len(failures) == total:
        raise KwsError(f"{root}: none of its {total} clips can be decoded, for example {next(iter(failures.values()))}")
    note(f"Skipped {len(failures)} of {total} clips:")
    for reason in list(failures.values())[:MAX_SKIPPED_NAMED]:
        note(f"  {reason}")
    if len(failures) > MAX_SKIPPED_NAMED:
        note(f"  and {len(failures) - MAX_SKIPPED_NAMED} more")


def _make_splits(
    root: Path,
    names: list[str],
    failures: dict[str, str],
    keywords: list[str],
    labels: list[str],
    needed: Collection[str],
) -> dict[str, Split]:
    split_of = split_names(root, [name for name in names if name not in failures], needed)
    target_of = {word: labels.index(word) for word in keywords}
    splits = {}
    for split in SPLITS:
        rows = [row for row, name in enumerate(names) if split_of.get(name) == split]
        words = [names[row].partition("/")[0] for row in rows]
        known = [(row, target_of[word]) for row, word in zip(rows, words, strict=True) if word in target_of]
        unknown = [row for row, word in zip(rows, words, strict=True) if word not in target_of]
        if not known and split in needed:
            raise KwsError(f"{root}: its {split} split has no clip of a keyword; add speakers or mend its lists.")
        splits[split] = Split(
            rows=np.array([row for row, _ in known], np.int64),
            targets=np.array([target for _, target in known], np.int64),
            unknown_rows=np.array(unknown, np.int64),
        )
    missing = sorted(set(target_of.values()) - set(splits["training"].targets.tolist()))
    if missing and "training" in needed:
        raise KwsError(f"{root}: no clip of {labels[missing[0]]!r} is left to train on; add speakers who say it.")
    return splits


def _read_noise(root: Path, config: FeatureConfig) -> dict[str, Samples]:
    """Recordings of `_background_noise_/` as the 16-bit microphone would give them; shorter than a clip are tiled."""
    folder = root / NOISE_FOLDER
    if not folder.is_dir():
        return {}
    paths = sorted(path for path in folder.iterdir() if _is_audio(path))
    noise = {}
    for path in paths:
        try:
            recording = to_float(to_pcm16(read_audio(path, config.sample_rate_hz)))
        except KwsError as error:
            note(f"Skipped a noise recording: {error}")
            continue
        repeats = math.ceil(config.clip_samples / len(recording))
        noise[path.name] = np.tile(recording, repeats) if repeats > 1 else recording
    if not noise:
        raise KwsError(f"{folder}: has no recording that can be used; add WAV or FLAC files, or remove the folder.")
    return noise


def _stable_order(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
