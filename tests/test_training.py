from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import answer_interrupts, run_kws, write_tones

from kws.checkpoint import load_checkpoint
from kws.config import FeatureConfig, ModelConfig, TrainConfig
from kws.dataset import load_dataset
from kws.errors import KwsError
from kws.training.loop import train
from kws.training.processes import Processes, choose_device
from kws.training.run import Run
from kws.training.start import load_start
from kws.training.state import STATE_NAME

SHORT: dict[str, Any] = {"epochs": 2, "batch_clips": 16}
SHORT_OPTIONS = ("--recipe", "short", "--epochs", "12", "--batch-clips", "16", "--device", "cpu")
CPU = torch.device("cpu")


def run(data: Path, out: Path, words: list[str] | None = None, resume: bool = False, **changes: Any) -> Path:
    return train(
        data,
        out,
        words=words,
        model_name="bcresnet-1",
        recipe="short",
        changes=SHORT | changes,
        device_name="cpu",
        resume=resume,
    )


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(checkpoint).weights


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights_of(a), weights_of(b)
    assert all(torch.equal(first[name], second[name]) for name in first)


def start_training(data: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """`kws train` in a process of its own, after its first epoch."""
    command = [sys.executable, "-m", "kws", "train", str(data), "--out", str(out), *SHORT_OPTIONS, *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=answer_interrupts
    )
    deadline = time.monotonic() + 120
    while not (out / STATE_NAME).exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


@pytest.mark.slow
def test_it_learns_to_tell_tones_apart_and_writes_what_it_promises(tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", ["left", "right", "other"], speakers=40)
    checkpoint = run(data, tmp_path / "run", ["left", "right"], epochs=15, peak_learning_rate=0.03)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.9
    assert metrics["test"]["clips"] > 8
    assert metrics["params"] == 9232 - 8 * 33
    assert metrics["macs"] > 2_000_000
    assert len(metrics["history"]) == 15
    assert load_checkpoint(checkpoint).labels == ["_silence_", "_unknown_", "left", "right"]
    assert not (tmp_path / "run" / STATE_NAME).exists()


@pytest.mark.slow
def test_same_seed_same_weights(tones: Path, tmp_path: Path) -> None:
    assert_same_weights(run(tones, tmp_path / "a"), run(tones, tmp_path / "b"))
    first, other = weights_of(tmp_path / "a" / "checkpoint.pt"), weights_of(run(tones, tmp_path / "c", seed=1))
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--average-decay", "0.9", "--speed-change", "0.1", "--mask-frames", "9")])
def test_killed_and_resumed_it_reaches_the_same_weights(tones: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    out = tmp_path / "killed"
    process = start_training(tones, out, *options)
    process.kill()
    process.communicate()
    assert (out / STATE_NAME).exists(), "it was done before it could be killed"
    assert not (out / "metrics.json").exists()
    run_kws("train", tones, "--out", out, *SHORT_OPTIONS, *options, "--resume")
    run_kws("train", tones, "--out", tmp_path / "whole", *SHORT_OPTIONS, *options)
    assert_same_weights(out / "checkpoint.pt", tmp_path / "whole" / "checkpoint.pt")
    histories = [json.loads((folder / "metrics.json").read_text())["history"] for folder in (out, tmp_path / "whole")]
    assert len(histories[0]) == 12
    assert [epoch["loss"] for epoch in histories[0]] == [epoch["loss"] for epoch in histories[1]]
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())


@pytest.mark.slow
def test_interrupted_it_stops_cleanly_and_says_how_to_go_on(tones: Path, tmp_path: Path) -> None:
    process = start_training(tones, tmp_path / "run")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "--resume" in said.splitlines()[-1]
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt").labels


@pytest.mark.slow
def test_a_full_disk_leaves_the_checkpoint_and_the_state_before_it(tones: Path, tmp_path: Path) -> None:
    process = start_training(tones, tmp_path / "run")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    before = {name: (tmp_path / "run" / name).read_bytes() for name in ("checkpoint.pt", STATE_NAME)}
    program = (
        "import resource, signal, sys\nfrom kws.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["train", str(tones), "--out", str(tmp_path / "run"), *SHORT_OPTIONS, "--resume"]
    result = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=300)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert f"{tmp_path / 'run'}" in result.stderr.splitlines()[-1]
    after = {name: (tmp_path / "run" / name).read_bytes() for name in before}
    assert after == before


def test_resume_refuses_a_run_with_other_options_and_names_the_difference(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="no such state"):
        run(tones, tmp_path / "run", resume=True)
    unfinished(tones, tmp_path / "run").fit()
    with pytest.raises(KwsError, match=r"began with peak_learning_rate 0\.1, not 0\.2"):
        run(tones, tmp_path / "run", resume=True, peak_learning_rate=0.2)
    with pytest.raises(KwsError, match="began with model bcresnet-1, not bcresnet-2"):
        train(
            tones,
            tmp_path / "run",
            words=None,
            model_name="bcresnet-2",
            recipe="short",
            changes=SHORT,
            device_name="cpu",
            resume=True,
        )
    teacher = tmp_path / "teacher.pt"
    shutil.copy(tmp_path / "run" / "checkpoint.pt", teacher)
    dataset = load_dataset(tones, None, FeatureConfig())
    config, model = TrainConfig(**(SHORT | {"teacher_weight": 0.0})), ModelConfig(classes=len(dataset.labels))
    taught = Run(dataset, FeatureConfig(), model, config, CPU, Processes(), tmp_path / "run", teacher)
    with pytest.raises(KwsError, match="began with teacher nobody, not"):
        taught.resume()
    started = Run(
        dataset, FeatureConfig(), model, config, CPU, Processes(), tmp_path / "run", start=load_start(teacher)
    )
    with pytest.raises(KwsError, match="began with start random weights, not"):
        started.resume()
    damaged = tmp_path / "run" / STATE_NAME
    damaged.write_bytes(damaged.read_bytes()[:1000])
    with pytest.raises(KwsError, match="or damaged"):
        run(tones, tmp_path / "run", resume=True)


def unfinished(data: Path, out: Path, **changes: Any) -> Run:
    out.mkdir(exist_ok=True)
    dataset = load_dataset(data, None, FeatureConfig())
    return Run(
        dataset,
        FeatureConfig(),
        ModelConfig(classes=len(dataset.labels)),
        TrainConfig(**(SHORT | {"teacher_weight": 0.0} | changes)),
        CPU,
        Processes(),
        out,
        None,
    )


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tones: Path, tmp_path: Path) -> None:
    training = unfinished(tones, tmp_path / "run")
    training.fit()
    kept = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    training.config = dataclasses.replace(training.config, epochs=3)
    with torch.no_grad():
        training.network.stem[0].weight[0] = float("nan")
    with pytest.raises(KwsError, match=r"epoch 3.*--peak-learning-rate"):
        training.fit()
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == kept


def test_a_diverging_loss_in_the_first_epoch_leaves_nothing(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="no longer finite in epoch 1"):
        run(tones, tmp_path / "run", peak_learning_rate=float(np.finfo(np.float32).max), warmup_epochs=0)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.slow
def test_patience_stops_a_run_that_no_longer_improves(tones: Path, tmp_path: Path) -> None:
    run(tones, tmp_path / "run", epochs=30, patience=2, peak_learning_rate=1e-9)
    history = json.loads((tmp_path / "run" / "metrics.json").read_text())["history"]
    assert 3 <= len(history) < 30


@pytest.mark.slow
def test_a_teacher_is_followed_and_must_know_the_same_words(tones: Path, tmp_path: Path) -> None:
    teacher = run(tones, tmp_path / "teacher")
    taught = [
        train(
            tones,
            tmp_path / name,
            words=None,
            model_name="bcresnet-1",
            recipe="short",
            changes=SHORT | {"teacher_weight": weight},
            device_name="cpu",
            teacher=teacher,
        )
        for name, weight in (("little", 0.0), ("much", 0.9))
    ]
    plain = run(tones, tmp_path / "plain")
    assert_same_weights(plain, taught[0])
    assert not torch.equal(weights_of(plain)["stem.0.weight"], weights_of(taught[1])["stem.0.weight"])
    with pytest.raises(KwsError, match="train the teacher on the same words"):
        train(
            tones,
            tmp_path / "other",
            words=["left", "right"],
            model_name="bcresnet-1",
            recipe="short",
            changes=SHORT,
            device_name="cpu",
            teacher=teacher,
        )


@pytest.mark.slow
def test_two_processes_train_one_model_and_one_of_them_writes(tones: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["-m", "kws", "train", str(tones), "--out", str(tmp_path / "run"), "--epochs", "3", "--recipe", "short"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*command, *arguments, "--batch-clips", "16", "--device", "cpu"],
        capture_output=True,
        text=True,
        timeout=200,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Wrote") == 1
    assert result.stderr.count("epoch   3") == 1
    alone = run(tones, tmp_path / "alone", epochs=3)
    together = json.loads((tmp_path / "run" / "metrics.json").read_text())
    single = json.loads((tmp_path / "alone" / "metrics.json").read_text())
    assert together["training"]["clips_per_epoch"] == single["training"]["clips_per_epoch"]
    assert together["test"]["clips"] == single["test"]["clips"]
    assert together["history"][0]["loss"] == pytest.approx(single["history"][0]["loss"], rel=0.1)
    assert set(weights_of(tmp_path / "run" / "checkpoint.pt")) == set(weights_of(alone))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="only Linux lists a process's threads so")
def test_no_thread_of_a_process_group_outlives_the_training(tones: Path, tmp_path: Path) -> None:
    """A thread that lets go of a tensor while Python ends aborts it, after a training that went well."""
    script = tmp_path / "train_and_list_threads.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from kws.training.loop import train\n"
        "def threads():\n"
        "    return [(task / 'comm').read_text().strip() for task in Path('/proc/self/task').iterdir()]\n"
        "data, out = map(Path, sys.argv[1:])\n"
        "train(data, out, words=None, device_name='cpu', recipe='short', changes={'epochs': 1, 'batch_clips': 16})\n"
        "sys.stdout.write(f'left: {[name for name in threads() if \"gloo\" in name]}\\n')\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [*command, script, tones, tmp_path / "run"],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("left: []") == 2, result.stdout


@pytest.mark.slow
def test_the_epoch_that_is_kept_is_the_best_by_the_figure_asked_for(tones: Path, tmp_path: Path) -> None:
    kept = {}
    for name in ("accuracy", "precision"):
        run(tones, tmp_path / name, epochs=6, save_best=name, seed=2)
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        figures = [epoch[f"validation_{name}"] for epoch in metrics["history"]]
        assert figures[metrics["best_epoch"] - 1] == max(figures) == metrics["validation"][name]
        kept[name] = figures
    assert kept["accuracy"] != kept["precision"]


@pytest.mark.slow
def test_a_tracked_run_is_in_mlflow_with_each_epoch_and_its_files(tones: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="needs mlflow: pip install 'kws[tracking]'")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    options = ("--epochs", "3", "--batch-clips", "16", "--tracking-uri", uri)
    run_kws("train", tones, "--out", tmp_path / "run", *options, cwd=tmp_path)
    client = MlflowClient(uri)
    (experiment,) = [found for found in client.search_experiments() if found.name == "kws"]
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params["train.batch_clips"] == "16"
    assert tracked.data.params["model.name"] == "bcresnet-1"
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    losses = sorted(client.get_metric_history(tracked.info.run_id, "loss"), key=lambda metric: metric.step)
    assert [metric.value for metric in losses] == [epoch["loss"] for epoch in metrics["history"]]
    assert tracked.data.metrics["test_accuracy"] == metrics["test"]["accuracy"]
    kept = {file.path for file in client.list_artifacts(tracked.info.run_id)}
    assert {"checkpoint.pt", "metrics.json", "labels.txt", "training.csv"} <= kept


def test_a_store_that_cannot_be_reached_stops_before_training_begins(tones: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="needs mlflow: pip install 'kws[tracking]'")
    arguments = ("train", tones, "--out", tmp_path / "run", "--tracking-uri", "http://127.0.0.1:9")
    result = run_kws(*arguments, check=False)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "http://127.0.0.1:9" in result.stderr.splitlines()[-1]
    assert "epoch   1" not in result.stderr


def test_a_device_that_is_not_there_is_refused() -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has an MPS device, so asking for it is no error")
    with pytest.raises(KwsError, match="no such device"):
        choose_device("mps")


def test_half_precision_and_compiling_are_refused_on_a_cpu(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="--precision bfloat16 is for GPUs"):
        run(tones, tmp_path / "run", precision="bfloat16")
    arguments = ("train", tones, "--out", tmp_path / "run", "--device", "cpu", "--compile")
    result = run_kws(*arguments, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("--compile is for GPUs, and training runs on cpu; leave it out.")
