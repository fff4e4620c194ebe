"""The training loop: a folder of words in, a checkpoint and its metrics out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kws.artifact import make_folder
from kws.config import FeatureConfig
from kws.dataset import load_dataset
from kws.errors import KwsError
from kws.splits import speaker_of
from kws.training.processes import choose_device, joined_processes, prepare_process
from kws.training.recipe import balance_advice, recipe_for
from kws.training.run import Run
from kws.training.start import features_for, load_start, model_for
from kws.training.tracking import open_tracker


def train(
    data: Path,
    out: Path,
    *,
    words: Sequence[str] | None,
    device_name: str,
    model_name: str | None = None,
    recipe: str = "auto",
    changes: Mapping[str, Any] | None = None,
    activation: str | None = None,
    features: FeatureConfig | None = None,
    start: Path | None = None,
    teacher: Path | None = None,
    resume: bool = False,
    silence: bool = True,
    track: bool = False,
    tracking_uri: str | None = None,
    compiled: bool = False,
) -> Path:
    """Train on `data`, keep an epoch by its validation figures, judge it once on the test split.

    `changes` are fields of TrainConfig that differ from the recipe's (see `recipe_for`).
    Writes `out`/checkpoint.pt (of the epoch to be kept so far), `out`/training.csv and `out`/metrics.json; returns the
    first.
    `start` is a checkpoint to begin from; `model_name`, `activation` and `features` are then its own unless given.
    Without `silence` there is no class for it; background noise is mixed in all the same.
    `compiled` is for GPUs only, as is the precision bfloat16 (see `compile_for_gpu`).
    `track` and `tracking_uri` log to mlflow, too (see `open_tracker`).
    `resume` goes on where a run with the same arguments was stopped, to the same weights.
    Raises KwsError for unusable data, an unavailable device, an unwritable folder, a state of another run, or a loss
    that diverges.
    """
    make_folder(out)
    tracker = open_tracker(track=track, uri=tracking_uri, run_name=out.name)
    origin = load_start(start) if start else None
    features = features_for(origin, features)
    device = choose_device(device_name)
    if (changes or {}).get("precision", "float32") != "float32" and device.type != "cuda":
        raise KwsError(f"--precision bfloat16 is for GPUs, and training runs on {device}; leave it out.")
    if compiled and device.type != "cuda":
        raise KwsError(f"--compile is for GPUs, and training runs on {device}; leave it out.")
    prepare_process()
    with joined_processes(device) as processes:
        dataset = processes.in_turn(lambda: load_dataset(data, words, features, silence=silence))
        model = model_for(origin, len(dataset.labels), features, model_name, activation)
        split = dataset.splits["training"]
        chosen, config = recipe_for(
            recipe,
            model.name,
            features,
            keyword_clips=len(split.rows),
            speakers=len({speaker_of(dataset.names[row]) for row in split.rows}),
            started=origin is not None,
        )
        config = replace(config, **(changes or {}))
        config = config if teacher else replace(config, teacher_weight=0.0)
        run = Run(dataset, features, model, config, device, processes, out, teacher, tracker, origin, compiled)
        run.records.say(f"Recipe: {chosen}.")
        if advice := balance_advice(split.targets, dataset.labels, config.class_balance):
            run.records.say(advice)
        if resume:
            run.resume()
        run.fit()
        return run.finish()
