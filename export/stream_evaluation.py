"""A build that listens to an hour: false accepts an hour, false rejects, latency, and the thresholds to ship."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from export.build import FLOAT_ONNX
from export.firmware_model import FirmwareModel, read_firmware_model
from export.spotting_model import build_files, simulated_logits
from export.stream_material import Material, recording_material, scene_material, write_scene
from export.stream_posteriors import stream_posteriors, window_count, windows_at
from kws.artifact import make_folder, read_manifest, write_json
from kws.config import FeatureConfig
from kws.dataset import Dataset, load_dataset_for
from kws.detector import DetectorParams, write_detector
from kws.detector_sweep import SmoothedStream
from kws.errors import KwsError
from kws.progress import note
from kws.scene import DEFAULT_SNR_DB, make_scene
from kws.spotting import WordTrack
from kws.stream_report import StreamReport, print_report
from kws.thresholds import Judged, choose, sweep
from quantize.compare import check_device, require
from quantize.runtimes import TflmRuntime

REPORT_NAME, DETECTOR_NAME = "stream.json", "detector.json"
PROOF_WINDOWS = 200


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """Listens to a scene of `data`, or to `recording` with `labels`. Thresholds are chosen on a scene of the validation
    split of `data`; without that, on what is judged. `params` gives the times; its thresholds are replaced."""

    data: Path | None = None
    recording: Path | None = None
    labels: Path | None = None
    hours: float = 1.0
    seed: int = 0
    snr_db: tuple[float, float] = DEFAULT_SNR_DB
    false_accepts_per_hour: float = 1.0
    per_keyword: bool = False
    params: DetectorParams
    write_audio: bool = False
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class Build:
    """The models of a build folder; `facts` are those of its .tflite."""

    folder: Path
    facts: FirmwareModel
    features: FeatureConfig
    qdq: Path
    form: str

    def keywords(self, params: DetectorParams) -> list[str]:
        return [label for label in self.facts.labels if label not in params.background]


def evaluate_stream(folder: Path, options: StreamOptions, out: Path) -> Path:
    """Writes `out`/stream.json, which it returns, and `out`/detector.json, and prints tables.

    The integer model is its QDQ form under onnxruntime, held against TFLM on PROOF_WINDOWS windows of what is judged.
    Raises KwsError for a build that was changed, other data than the model's, labels that are not the recording's,
    and if the two forms differ.
    """
    build = read_build(folder)
    options.params.thresholds_q15(build.facts.labels)
    make_folder(out)
    with tempfile.TemporaryDirectory(prefix="kws-stream-") as scratch:
        judged, tuning = _materials(build, options, Path(scratch))
        within = prove_form(build, judged, options.params)
        of_judged, of_tuning = _listen(build, judged, tuning, options)
        if options.write_audio:
            write_scene(out, judged, build.features.sample_rate_hz)
    chosen = choose(of_tuning, options.false_accepts_per_hour, per_keyword=options.per_keyword)
    report = _report(build, options, of_judged, of_tuning, chosen, judged, tuning, within)
    model_sha256 = hashlib.sha256(build.facts.data).hexdigest()
    write_json(out / REPORT_NAME, report.as_json() | {"model_sha256": model_sha256})
    print_report(report)
    if chosen is not None:
        write_detector(out / DETECTOR_NAME, chosen)
    return out / REPORT_NAME


def read_build(folder: Path) -> Build:
    """Raises KwsError if the build is incomplete, was changed or came from an ONNX model."""
    files = build_files(folder)
    read_manifest(folder, verify=files.all)
    facts = read_firmware_model(folder / files.tflite)
    if facts.features is None:
        raise KwsError(f"{folder}: came from an ONNX model and has no features; it cannot listen to a recording.")
    return Build(
        folder=folder, facts=facts, features=facts.features, qdq=folder / files.qdq_onnx, form=files.activations
    )


def _materials(build: Build, options: StreamOptions, scratch: Path) -> tuple[Material, Material]:
    """What is judged, and what thresholds are chosen on."""
    dataset = None if options.data is None else _dataset(build, options.data, judged=options.recording is None)
    if options.recording is not None and options.labels is not None:
        keywords = build.keywords(options.params)
        judged = recording_material(options.recording, options.labels, build.features, keywords, scratch / "judged")
    elif dataset is not None:
        judged = _scene(build, options, dataset, "testing", scratch)
    else:
        raise KwsError("There is nothing to listen to; give --data, or --recording with --labels.")
    if dataset is None or not len(dataset.splits["validation"].rows):
        return judged, judged
    return judged, _scene(build, options, dataset, "validation", scratch)


def _dataset(build: Build, data: Path, *, judged: bool) -> Dataset:
    return load_dataset_for(build.facts.labels, data, build.features, needed=["testing" if judged else "validation"])


def _scene(build: Build, options: StreamOptions, dataset: Dataset, split: str, scratch: Path) -> Material:
    rate_hz = build.features.sample_rate_hz
    scene = make_scene(dataset, split, rate_hz, options.hours, options.seed, options.snr_db)
    return scene_material(scene, scratch / split)


def prove_form(build: Build, material: Material, params: DetectorParams) -> float:
    """The share of logits within a step of TFLM's, on windows spread over `material`. Raises KwsError below 99 %."""
    stride = params.stride_frames(build.features)
    count = window_count(build.features, material.pcm.samples, stride)
    at = np.linspace(0, count - 1, min(count, PROOF_WINDOWS)).round().astype(int).tolist()
    windows = np.concatenate([windows_at(material.pcm, build.features, stride, i, i + 1) for i in at])
    checks = check_device(simulated_logits(build.qdq, build.facts)(windows), TflmRuntime(build.facts.data)(windows))
    require(checks)
    return checks[0].value


def _listen(
    build: Build, judged: Material, tuning: Material, options: StreamOptions
) -> tuple[dict[str, Judged], Judged]:
    """Both forms on what is judged, and the integer one on what thresholds are chosen on."""
    wanted = [(build.qdq, judged), (build.folder / FLOAT_ONNX, judged), (build.qdq, tuning)][
        : 2 if tuning is judged else 3
    ]
    answers = stream_posteriors(
        [(model, material.pcm) for model, material in wanted],
        build.features,
        options.params.stride_frames(build.features),
        options.workers,
    )
    found = [
        _judge(build, SmoothedStream(times_ms, posteriors, options.params), material, options.params)
        for (times_ms, posteriors), (_, material) in zip(answers, wanted, strict=True)
    ]
    return {build.form: found[0], "float": found[1]}, found[-1] if tuning is not judged else found[0]


def _judge(build: Build, stream: SmoothedStream, material: Material, params: DetectorParams) -> Judged:
    labels = build.facts.labels
    track = WordTrack(material.words, labels, build.keywords(params))
    points = sweep(stream, track, labels, params)
    return Judged(stream=stream, track=track, labels=labels, params=params, hours=material.hours, points=points)


def _report(
    build: Build,
    options: StreamOptions,
    of_judged: dict[str, Judged],
    of_tuning: Judged,
    chosen: DetectorParams | None,
    judged: Material,
    tuning: Material,
    within: float,
) -> StreamReport:
    target = options.false_accepts_per_hour
    if chosen is None:
        note(f"No thresholds keep to {target:g} false accepts an hour; detector.json was not written.")
    return StreamReport(
        labels=build.facts.labels,
        form=build.form,
        runtime="onnxruntime",
        share_within_a_step=within,
        judged=of_judged,
        tuning=of_tuning,
        chosen=chosen,
        target=target,
        base=replace(options.params, thresholds={}),
        negative_speech_seconds=judged.negative_speech_seconds,
        distinct_negative_clips=judged.distinct_negative_clips,
        origin=judged.origin,
        tuned_on=None if tuning is judged else tuning.origin,
    )
