from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_tones

from kws.checkpoint import load_checkpoint
from kws.config import FeatureConfig, TrainConfig
from kws.dataset import load_dataset
from kws.errors import KwsError
from kws.train import BatchSource, choose_device, learning_rate, train

SHORT = TrainConfig(epochs=2, batch_clips=16)
CPU = torch.device("cpu")


def run(data: Path, out: Path, config: TrainConfig = SHORT, words: list[str] | None = None) -> Path:
    return train(data, out, words=words, model_name="bcresnet-1", config=config, device_name="cpu")


def test_learning_rate_warms_up_to_the_peak_and_falls_to_nothing() -> None:
    config = TrainConfig(epochs=60)
    rates = [learning_rate(step, 10, config) for step in range(600)]
    assert rates[0] == pytest.approx(0.1 / 50)
    assert max(rates) == rates[49] == rates[50] == pytest.approx(0.1)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[50:]))
    assert rates[-1] < 1e-4


def test_an_epoch_has_every_keyword_once_and_as_many_others_as_a_keyword_has(tones: Path) -> None:
    dataset = load_dataset(tones, ["left", "right"], FeatureConfig())
    source = BatchSource(dataset, FeatureConfig(), SHORT, CPU)
    targets = torch.cat([targets for _, targets in source.of_epoch(0)]).tolist()
    per_keyword = targets.count(2)
    assert per_keyword == targets.count(3) == len(dataset.splits["training"].rows) // 2
    assert targets.count(0) == targets.count(1) == per_keyword
    assert len(targets) == source.clips_per_epoch


def test_epochs_differ_and_repeat_with_the_seed(tones: Path) -> None:
    dataset = load_dataset(tones, None, FeatureConfig())
    source = BatchSource(dataset, FeatureConfig(), SHORT, CPU)
    first, again, second = (torch.cat([batch for batch, _ in source.of_epoch(epoch)]) for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.slow
def test_it_learns_to_tell_tones_apart_and_writes_what_it_promises(tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", ["left", "right", "other"], speakers=40)
    checkpoint = run(data, tmp_path / "run", TrainConfig(epochs=15, batch_clips=16), words=["left", "right"])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.9
    assert metrics["test"]["clips"] > 8
    assert metrics["params"] == 9232 - 8 * 33
    assert metrics["macs"] > 2_000_000
    assert len(metrics["history"]) == 15
    assert load_checkpoint(checkpoint).labels == ["_silence_", "_unknown_", "left", "right"]


@pytest.mark.slow
def test_same_seed_same_weights(tones: Path, tmp_path: Path) -> None:
    weights = [load_checkpoint(run(tones, tmp_path / name)).weights for name in ("a", "b")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    other = load_checkpoint(run(tones, tmp_path / "c", TrainConfig(epochs=2, batch_clips=16, seed=1))).weights
    assert not torch.equal(weights[0]["stem.0.weight"], other["stem.0.weight"])


def test_a_diverging_loss_is_an_error_and_leaves_nothing(tones: Path, tmp_path: Path) -> None:
    wild = TrainConfig(epochs=2, batch_clips=16, peak_learning_rate=float(np.finfo(np.float32).max), warmup_epochs=0)
    with pytest.raises(KwsError, match="no longer finite"):
        run(tones, tmp_path / "run", wild)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_device_that_is_not_there_is_refused() -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has an MPS device, so asking for it is no error")
    with pytest.raises(KwsError, match="no such device"):
        choose_device("mps")
