"""Build folders and test data, or arrays -> the benchmark of every form of each model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from export.arrays import read_inputs, read_targets
from export.build import FLOAT_ONNX
from export.built import Built, OtherForms, costs_of, float_and_device, other_forms, read_built
from export.report_facts import device_facts, read_stream, report_facts
from kws.artifact import make_folder, write_json
from kws.benchmark import Benchmark, Logits, SnrPoint, compare, snr_point
from kws.benchmark_tables import print_benchmark
from kws.comparison import print_comparison, report_names, write_comparison
from kws.config import SILENCE_LABEL
from kws.dataset import Dataset, EvaluationClips, load_dataset_for
from kws.errors import KwsError
from kws.features import features_of_clips
from kws.gates import Gate, absent_keys, failures
from kws.metrics import Indices
from kws.noisy_clips import noisy_copies
from kws.progress import note
from kws.report.facts import DeviceFacts
from kws.report.page import write_page
from kws.terminal import visible
from quantize.affine import FloatArray
from quantize.runtimes import OnnxRuntime

REPORT_NAME = "benchmark.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Questions:
    """What a build is asked: `inputs` (n, ...) as its float model takes them, their `targets` and `names`.

    `noisy` holds by SNR in dB the inputs of the rows `spoken`, those with a word in them, under noise.
    """

    inputs: FloatArray
    targets: Indices
    names: Sequence[str]
    spoken: Indices
    noisy: dict[float, FloatArray] = field(default_factory=dict)


def benchmark_data(builds: Sequence[Path], data: Path, out: Path | None, gates: Sequence[Gate] = ()) -> Path | None:
    """Run every form of each of `builds` on the test clips of `data`, and float and device under noise, too.

    One build: prints its tables and writes `out`/benchmark.json (`out` is the build itself if None), which it returns.
    Several: prints one table; to each build's folder goes its benchmark.json, or with `out` to a folder of its name in
    there, and the comparison to `out`, which it returns.
    Raises KwsError for a build that is incomplete, was changed or came from an ONNX model, data whose labels are not
    the model's, builds of different labels; and, once all is written, for a figure past one of `gates`.
    """

    def questions(built: Built) -> Questions:
        return _questions_of(built, data, with_noise=True)

    read = _read_builds(builds, gates)
    for built in read:
        built.feature_config()
    return _benchmark(read, questions, out, gates)


def benchmark_arrays(
    builds: Sequence[Path], inputs_path: Path, targets_path: Path, out: Path | None, gates: Sequence[Gate] = ()
) -> Path | None:
    """The same on .npy files, without noise: inputs as the float models take them, and the index of the class of
    each."""

    def questions(built: Built) -> Questions:
        inputs = read_inputs(inputs_path, OnnxRuntime(built.folder / FLOAT_ONNX).clip_shape)
        targets = read_targets(targets_path, len(inputs), len(built.model.labels))
        names = [f"{inputs_path.name}[{index}]" for index in range(len(inputs))]
        return Questions(inputs=inputs, targets=targets, names=names, spoken=np.arange(0))

    read = _read_builds(builds, gates)
    for built in read:
        if built.model.labels != read[0].model.labels:
            raise KwsError(f"{built.folder}: orders its labels otherwise than {read[0].folder}; benchmark them apart.")
    return _benchmark(read, questions, out, gates)


def judge_data(build: Path, data: Path) -> Benchmark:
    """The figures of float and device alone, without noise, printed and written nowhere; raises KwsError as
    `benchmark_data` does."""
    built = read_built(build)
    questions = _questions_of(built, data, with_noise=False)
    return _compare(built, questions, float_and_device(built, questions.inputs))


def _read_builds(builds: Sequence[Path], gates: Sequence[Gate]) -> list[Built]:
    """Raises KwsError for what can be told of them before minutes of work."""
    read = [read_built(build) for build in builds]
    for built in read:
        if differing := sorted(set(built.model.labels) ^ set(read[0].model.labels)):
            raise KwsError(
                f"{built.folder}: knows other labels than {read[0].folder} (not in both are "
                f"{visible(', '.join(differing))}); compare builds of the same words."
            )
        unknown = [name for name in ("macs", "params") if built.network_figure(name) is None]
        if absent := absent_keys(gates, built.forms, unknown):
            raise KwsError(f"{built.folder}: a report on it has no figure {absent[0]}; take it out of the gates.")
    return read


def _benchmark(
    builds: Sequence[Built], questions: Callable[[Built], Questions], out: Path | None, gates: Sequence[Gate]
) -> Path | None:
    names = report_names([built.folder for built in builds])
    several = len(builds) > 1
    folders = [
        built.folder if out is None else out / name if several else out
        for built, name in zip(builds, names, strict=True)
    ]
    for folder in folders:
        make_folder(folder)
    streams = [read_stream(built, folder) for built, folder in zip(builds, folders, strict=True)]
    results, reports = {}, []
    for built, name, stream in zip(builds, names, streams, strict=True):
        if several:
            note(f"Judging {built.folder}.")
        results[name], device = _judge(built, questions)
        reports.append(report_facts(built, results[name], device, stream))
    for folder, facts in zip(folders, reports, strict=True):
        write_json(folder / REPORT_NAME, dict(facts.benchmark))
        note(f"Wrote {visible(str(write_page(folder, facts)))}")
    return _conclude(results, folders, out, gates)


def _conclude(
    results: dict[str, Benchmark], folders: Sequence[Path], out: Path | None, gates: Sequence[Gate]
) -> Path | None:
    """Print what was found, and hold it against the gates."""
    written: Path | None = folders[0] / REPORT_NAME
    if len(results) == 1:
        print_benchmark(next(iter(results.values())))
    else:
        print_comparison(results)
        if out is None:
            note(f"Wrote {REPORT_NAME} to each build; give --out for the comparison as JSON and as pictures.")
        else:
            write_comparison(out, results)
        written = out
    failed = [f"{name}: {failure}" for name, result in results.items() for failure in failures(gates, result.as_json())]
    if failed:
        where = " and ".join(str(folder / REPORT_NAME) for folder in folders)
        raise KwsError(f"Figures are past their gates ({'; '.join(failed)}); see {where}.")
    return written


def _judge(built: Built, questions: Callable[[Built], Questions]) -> tuple[Benchmark, DeviceFacts]:
    """TensorFlow is imported while the clips are read, and runs while the other forms do."""
    with other_forms(built) as others:
        asked = questions(built)
        others.ask(asked.inputs)
        answers, snr = _answers_under_noise(built, asked)
        device = device_facts(built, asked.inputs)
        return _compare(built, asked, _in_order(built, answers, others, asked), snr), device


def _in_order(built: Built, answers: dict[str, Logits], others: OtherForms, asked: Questions) -> dict[str, Logits]:
    found = answers | others.logits(asked.inputs)
    return {form: found[form] for form in built.forms}


def _answers_under_noise(built: Built, asked: Questions) -> tuple[dict[str, Logits], list[SnrPoint]]:
    """What float and device answer to the clips themselves, and how well under each level of noise: all in one run, for
    the sake of its progress bar and its processes."""
    logits = float_and_device(built, np.concatenate([asked.inputs, *asked.noisy.values()]))
    clean = {form: values[: len(asked.inputs)] for form, values in logits.items()}
    if not asked.noisy:
        return clean, []
    targets = asked.targets[asked.spoken]
    points = [snr_point(None, {form: values[asked.spoken] for form, values in clean.items()}, targets)]
    for index, level_db in enumerate(asked.noisy):
        first = len(asked.inputs) + index * len(asked.spoken)
        rows = slice(first, first + len(asked.spoken))
        points.append(snr_point(level_db, {form: values[rows] for form, values in logits.items()}, targets))
    return clean, points


def _compare(built: Built, asked: Questions, logits: dict[str, Logits], snr: Sequence[SnrPoint] = ()) -> Benchmark:
    return compare(
        logits,
        asked.targets,
        build=built.folder.resolve().name,
        labels=built.model.labels,
        clip_names=asked.names,
        costs=costs_of(built),
        snr=snr,
    )


def _questions_of(built: Built, data: Path, *, with_noise: bool) -> Questions:
    """The test clips of `data`; noise is laid over all but silence, from the stretch of it that testing may use."""
    dataset = load_dataset_for(built.model.labels, data, built.feature_config(), needed=["testing"])
    clips = dataset.evaluation_clips("testing")
    questions = Questions(
        inputs=features_of_clips(clips.pcm, built.feature_config()),
        targets=clips.targets,
        names=clips.names,
        spoken=_spoken_rows(built.model.labels, clips),
    )
    return replace(questions, noisy=_noisy_inputs(built, dataset, clips, questions.spoken)) if with_noise else questions


def _spoken_rows(labels: list[str], clips: EvaluationClips) -> Indices:
    silence = labels.index(SILENCE_LABEL) if SILENCE_LABEL in labels else -1
    return np.flatnonzero(clips.targets != silence)


def _noisy_inputs(built: Built, dataset: Dataset, clips: EvaluationClips, spoken: Indices) -> dict[float, FloatArray]:
    noise = dataset.noise_of("testing")
    return {
        level: features_of_clips(pcm, built.feature_config()) for level, pcm in noisy_copies(clips.pcm[spoken], noise)
    }
