"""Anyone's recordings -> a data set in Speech Commands layout, and copies of its training clips in noise and rooms."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kws import __version__
from kws.artifact import atomic_folder, check_new_folder, write_json
from kws.config import NOISE_FOLDER
from kws.errors import KwsError
from kws.prepare_clips import Copy, Cut, copy, cut, duration_s
from kws.progress import note
from kws.recordings import Dropped, Found, Recording, audio_files, find_recordings, safe_speaker, shown
from kws.seeds import seeded
from kws.splits import LIST_FILES, read_list, split_names, without_suffix
from kws.workers import work_through

REPORT_NAME = "prepare.json"
SUFFIXES = (".wav", ".flac")


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """`layout` is one of `recordings.LAYOUTS`, None to find out. Each level of `snr_db` makes one copy of each training
    clip over noise from the folder `noise`; the folder `rir` of impulse responses puts every copy into a room and makes
    one more copy without noise."""

    layout: str | None = None
    noise: Path | None = None
    snr_db: tuple[float, ...] = ()
    rir: Path | None = None
    suffix: str = ".wav"
    seed: int = 0
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What became of a folder: `clips` and `copies` are names `<word>/<file>`, `split_of` says who may train."""

    layout: str
    recordings: list[Recording]
    clips: dict[str, Recording]
    copies: list[str]
    shortened: int
    dropped: list[Dropped]
    noise: list[str]
    split_of: dict[str, str]


def prepare(src: Path, out: Path, options: PrepareOptions) -> Prepared:
    """Cut each recording of `src` to its word, at 16 kHz, as `out`/<word>/<speaker>_nohash_<n><suffix>.

    Also resamples `_background_noise_`, carries validation_list.txt and testing_list.txt over, adds the copies that
    `options` ask for to the training split alone, and writes `out`/prepare.json. The same recordings, options and seed
    give the same bytes, whatever the number of workers. `out` appears whole or not at all.
    Raises KwsError for an `out` that holds anything or lies in `src`, unusable folders, recordings of which none
    gives a clip, or too few speakers for copies.
    """
    check_new_folder(out)
    if src.resolve() in (out.resolve(), *out.resolve().parents):
        raise KwsError(f"{out}: lies in {src}; choose an output folder outside of it.")
    found = find_recordings(src, options.layout)
    if found.nameless:
        note(
            f"{found.nameless} file names do not say who speaks, so each counts as a speaker of its own; where one "
            "person made several, name them <speaker>_nohash_<n>, or use folders and --layout word/speaker."
        )
    responses = audio_files(options.rir, "impulse responses of rooms") if options.rir else []
    noises = audio_files(options.noise, "recordings of noise") if options.noise else []
    for path in responses + noises:
        duration_s(path)
    with atomic_folder(out) as folder:
        prepared = _prepare(src, folder, found, options, noises, responses)
        write_json(folder / REPORT_NAME, report_of(prepared, options))
    return prepared


def _prepare(
    src: Path, folder: Path, found: Found, options: PrepareOptions, noises: list[Path], responses: list[Path]
) -> Prepared:
    planned = _plan_names(found.recordings, options.suffix)
    for word in {recording.word for recording in found.recordings}:
        (folder / word).mkdir()
    clips, dropped, shortened = _cut_all(planned, folder, options.workers)
    dropped = sorted([*found.dropped, *dropped], key=lambda one: one.source)
    if not clips:
        raise KwsError(f"{src}: none of its {len(planned)} recordings gives a clip ({_most_common(dropped)}).")
    for word_folder in folder.iterdir():
        if not any(word_folder.iterdir()):
            word_folder.rmdir()
    kept_noise, noise_dropped = _carry_noise(src, found.noise, folder, options)
    _carry_lists(src, folder, clips)
    split_of = _split(src, folder, list(clips), is_needed=bool(noises or responses))
    copies = _copy_all([name for name in clips if split_of.get(name) == "training"], folder, options, noises, responses)
    return Prepared(
        layout=found.layout,
        recordings=found.recordings,
        clips=clips,
        copies=copies,
        shortened=shortened,
        dropped=dropped + noise_dropped,
        noise=kept_noise,
        split_of=split_of,
    )


def report_of(prepared: Prepared, options: PrepareOptions) -> dict[str, Any]:
    """What prepare.json holds: nothing that depends on the machine, the time or the number of workers."""
    splits = Counter(prepared.split_of.values())
    return {
        "version": __version__,
        "options": {
            "layout": prepared.layout,
            "seed": options.seed,
            "snr_db": list(options.snr_db),
            "room": options.rir is not None,
            "suffix": options.suffix,
        },
        "words": words_of(prepared),
        "clips": len(prepared.clips),
        "shortened": prepared.shortened,
        "copies": len(prepared.copies),
        "splits": {split: splits[split] for split in sorted(splits)},
        "background_noise": prepared.noise,
        "dropped": [dataclasses.asdict(one) for one in prepared.dropped],
    }


def words_of(prepared: Prepared) -> dict[str, dict[str, int]]:
    """Per word the number of recordings, clips, speakers and copies."""
    recordings = Counter(recording.word for recording in prepared.recordings)
    clips = Counter(recording.word for recording in prepared.clips.values())
    copies = Counter(name.partition("/")[0] for name in prepared.copies)
    speakers = Counter(word for word, _ in {(one.word, one.speaker) for one in prepared.clips.values()})
    return {
        word: {"recordings": recordings[word], "clips": clips[word], "speakers": speakers[word], "copies": copies[word]}
        for word in sorted(recordings)
    }


def _plan_names(recordings: Sequence[Recording], suffix: str) -> dict[str, Recording]:
    """Name of the clip -> its recording; numbered for each word and speaker in the order of the sources."""
    taken: Counter[tuple[str, str]] = Counter()
    planned = {}
    for one in recordings:
        number = taken[one.word, one.speaker]
        taken[one.word, one.speaker] += 1
        planned[f"{one.word}/{one.speaker}_nohash_{number}{suffix}"] = one
    return planned


def _cut_all(
    planned: dict[str, Recording], folder: Path, workers: int
) -> tuple[dict[str, Recording], list[Dropped], int]:
    """Write the clips; returns those that are there, why the others are not, and how many were cut short."""
    tasks = [Cut(recording=one.path, target=folder / name) for name, one in planned.items()]
    clips: dict[str, Recording] = {}
    dropped: list[Dropped] = []
    first_with: dict[bytes, Recording] = {}
    shortened = 0
    results = work_through(cut, tasks, workers, "Cutting")
    for (name, one), result in zip(planned.items(), results, strict=True):
        problem = result.problem
        if problem is None and (same := first_with.setdefault(result.digest, one)) is not one:
            problem = ("double", f"sounds the same as {shown(same.source)}")
            (folder / name).unlink()
        if problem is None:
            clips[name] = one
            shortened += result.shortened
        else:
            dropped.append(Dropped(source=shown(one.source), reason=problem[0], detail=problem[1]))
    return clips, dropped, shortened


def _carry_noise(
    src: Path, paths: list[Path], folder: Path, options: PrepareOptions
) -> tuple[list[str], list[Dropped]]:
    if not paths:
        return [], []
    (folder / NOISE_FOLDER).mkdir()
    stems = [path.stem for path in paths]
    labels = stems if len(set(stems)) == len(stems) else [path.name for path in paths]
    names = [f"{safe_speaker(label)}{options.suffix}" for label in labels]
    tasks = [
        Cut(recording=path, target=folder / NOISE_FOLDER / name, whole=True)
        for path, name in zip(paths, names, strict=True)
    ]
    kept, dropped = [], []
    for path, name, result in zip(paths, names, work_through(cut, tasks, options.workers, "Noise"), strict=True):
        if result.problem is None:
            kept.append(name)
        else:
            source = shown(path.relative_to(src).as_posix())
            dropped.append(Dropped(source=source, reason=result.problem[0], detail=result.problem[1]))
    return kept, dropped


def _carry_lists(src: Path, folder: Path, clips: dict[str, Recording]) -> None:
    """Held-out lists of `src`, with the names that its clips have now. Without such lists there are none: who trains
    is then a matter of the speaker, also of clips that are added later."""
    for file in LIST_FILES.values():
        if (src / file).is_file():
            listed = set(read_list(src / file))
            names = [name for name, one in clips.items() if without_suffix(one.source) in listed]
            (folder / file).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _split(src: Path, folder: Path, names: list[str], *, is_needed: bool) -> dict[str, str]:
    """The split of each clip as training will have it; none if there are too few speakers and that is no matter."""
    try:
        return split_names(folder, names)
    except KwsError as error:
        sentence = str(error).replace(str(folder), str(src))
        if is_needed:
            raise KwsError(sentence) from error
        note(f"This cannot be trained on yet: {sentence}")
        return {}


def _copy_all(
    names: list[str], folder: Path, options: PrepareOptions, noises: list[Path], responses: list[Path]
) -> list[str]:
    tasks: dict[str, Copy] = {}
    for name in names:
        stem = name.removesuffix(options.suffix)
        rng = seeded("copies", options.seed, stem)
        room = "-room" if responses else ""
        levels: list[tuple[str, float | None]] = [("", None)] if responses else []
        levels += [(f"-snr{level:g}db", level) for level in options.snr_db] if noises else []
        for suffix, level in levels:
            copy_name = f"{stem}{room}{suffix}{options.suffix}"
            tasks[copy_name] = Copy(
                clip=folder / name,
                target=folder / copy_name,
                response=responses[int(rng.integers(len(responses)))] if responses else None,
                noise=noises[int(rng.integers(len(noises)))] if level is not None else None,
                snr_db=level or 0.0,
                position=float(rng.random()),
            )
    for _ in work_through(copy, list(tasks.values()), options.workers, "Copying"):
        pass
    return list(tasks)


def _most_common(dropped: Sequence[Dropped]) -> str:
    reason, count = Counter(one.reason for one in dropped).most_common(1)[0]
    example = next(one for one in dropped if one.reason == reason)
    return f"{count} {reason}, for example {example.source}: {example.detail}"
