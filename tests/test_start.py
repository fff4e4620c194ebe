"""Training that starts from a trained model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import run_kws, write_tones
from networks import randomise

from kws.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kws.config import FeatureConfig, ModelConfig, TrainConfig, features_with_hop
from kws.errors import KwsError
from kws.model import BCResNet
from kws.training.recipe import STARTED_LEARNING_RATE
from kws.training.start import features_for, load_start, model_for, start_from

LABELS = ["_silence_", "_unknown_", "yes", "no"]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A checkpoint with weights that no fresh network has."""
    model = ModelConfig(classes=len(LABELS), activation="relu")
    network = randomise(BCResNet(model), seed=3)
    path = tmp_path / "trained.pt"
    weights = network.state_dict()
    save_checkpoint(
        path, Checkpoint(labels=LABELS, features=FeatureConfig(), model=model, train=TrainConfig(), weights=weights)
    )
    return path


def test_all_but_the_classifier_and_of_it_the_shared_labels_are_taken_over(trained: Path) -> None:
    start = load_start(trained)
    labels = ["_unknown_", "lamp", "no", "music", "door"]
    network = BCResNet(model_for(start, len(labels), FeatureConfig(), None, None))
    fresh = {name: value.clone() for name, value in network.state_dict().items()}
    assert start_from(network, labels, start) == ["_unknown_", "no"]
    for name, value in network.state_dict().items():
        before = start.checkpoint.weights[name]
        if not name.startswith("head.5."):
            assert torch.equal(value, before), name
            continue
        assert torch.equal(value[[0, 2]], before[[1, 3]])
        assert torch.equal(value[[1, 3, 4]], fresh[name][[1, 3, 4]])


def test_the_model_and_its_features_are_those_of_the_start_unless_others_are_asked_for(trained: Path) -> None:
    start = load_start(trained)
    assert model_for(start, 7, FeatureConfig(), None, None) == ModelConfig(classes=7, activation="relu")
    assert model_for(start, 7, FeatureConfig(), "bcresnet-1", "swish") == ModelConfig(classes=7)
    assert model_for(None, 7, FeatureConfig(), "bcresnet-3", None) == ModelConfig(name="bcresnet-3", classes=7)
    assert features_for(start, None) == features_for(start, FeatureConfig()) == FeatureConfig()
    assert features_for(None, features_with_hop(20)) == features_with_hop(20)
    with pytest.raises(KwsError, match="is a bcresnet-1, not a bcresnet-3; leave out --model"):
        model_for(start, 7, FeatureConfig(), "bcresnet-3", None)
    with pytest.raises(KwsError, match="leave out --hop-ms"):
        features_for(start, features_with_hop(20))


@pytest.mark.slow
def test_the_first_epoch_after_init_begins_where_the_other_run_ended(tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", ["left", "right", "up"], speakers=40)
    common = ["train", str(data), "--device", "cpu", "--batch-clips", "16", "--recipe", "short"]
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    run_kws(*common, "--out", str(first), "--epochs", "25")
    frozen = ["--epochs", "1", "--peak-learning-rate", "1e-9"]
    init = ["--init", str(first / "checkpoint.pt")]
    result = run_kws(*common, *init, "--out", str(second), *frozen)
    assert "which knows all of these labels" in result.stderr
    run_kws(*common, "--out", str(third), *frozen)
    ended, begun, anew = (
        json.loads((run / "metrics.json").read_text())["history"][-1]["loss"] for run in (first, second, third)
    )
    assert abs(begun - ended) < (anew - ended) / 3
    trained, tuned = (load_checkpoint(run / "checkpoint.pt").weights for run in (first, second))
    assert torch.allclose(trained["stem.0.weight"], tuned["stem.0.weight"], atol=1e-6)


@pytest.mark.slow
def test_init_takes_new_words_and_bad_files_get_one_sentence(trained: Path, tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", ["lamp", "yes"], speakers=10)
    arguments = ["train", str(data), "--out", str(tmp_path / "run"), "--device", "cpu", "--init"]
    result = run_kws(*arguments, str(trained), "--epochs", "1")
    assert f"Starting from {trained}, which knows yes of these labels." in result.stderr.replace("_silence_, ", "")
    tuned = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert tuned.model.activation == "relu"
    assert tuned.train.peak_learning_rate == STARTED_LEARNING_RATE
    for wrong in (data / "lamp", tmp_path / "missing.pt"):
        refused = run_kws(*arguments, str(wrong), check=False)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
        assert str(wrong) in refused.stderr.splitlines()[-1]
