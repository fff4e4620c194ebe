from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from kws.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kws.config import FeatureConfig, ModelConfig, TrainConfig
from kws.errors import KwsError
from kws.model import BCResNet

LABELS = ["_silence_", 'say "hi"', "نعم"]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    config = ModelConfig(classes=3)
    path = tmp_path / "checkpoint.pt"
    weights = BCResNet(config).state_dict()
    save_checkpoint(
        path,
        Checkpoint(labels=LABELS, features=FeatureConfig(), model=config, train=TrainConfig(seed=7), weights=weights),
    )
    return path


def changed(path: Path, **fields: object) -> Path:
    content = torch.load(path, weights_only=True) | fields
    torch.save(content, path)
    return path


def test_what_was_saved_is_read_back_without_pickle(saved: Path) -> None:
    assert torch.load(saved, weights_only=True)["labels"] == LABELS
    checkpoint = load_checkpoint(saved)
    assert checkpoint.labels == LABELS
    assert checkpoint.train.seed == 7
    assert not checkpoint.build().training


@pytest.mark.parametrize("kept", [0, 1, 100, 5000, -1])
def test_a_truncated_file_is_refused(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(KwsError, match=r"checkpoint\.pt"):
        load_checkpoint(saved)


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("hostile-was-here"),))


def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain.pt").write_bytes(pickle.dumps({"schema": 1, "labels": Hostile()}))
    torch.save({"schema": 1, "labels": Hostile()}, "torch.pt")
    for name in ("plain.pt", "torch.pt"):
        with pytest.raises(KwsError, match=name):
            load_checkpoint(Path(name))
    assert not Path("hostile-was-here").exists()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"schema": 0}, "another version"),
        ({"labels": []}, "no labels"),
        ({"labels": ["a", "b"]}, "2 labels for 3 classes"),
        ({"weights": {}}, "do not fit"),
        ({"weights": {"stem.0.weight": 3}}, "do not fit"),
        ({"model": {"name": "bcresnet-1"}}, "ModelConfig"),
        ({"features": FeatureConfig().__dict__ | {"hop_samples": "160"}}, "hop_samples"),
        ({"features": FeatureConfig().__dict__ | {"log_offset": float("nan")}}, "log_offset"),
    ],
)
def test_content_that_does_not_fit_is_refused(saved: Path, fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(KwsError, match=sentence):
        load_checkpoint(changed(saved, **fields))


def test_nan_weights_are_refused(saved: Path) -> None:
    weights = torch.load(saved, weights_only=True)["weights"]
    weights["stem.0.weight"][0] = float("nan")
    with pytest.raises(KwsError, match="NaN"):
        load_checkpoint(changed(saved, weights=weights))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match=r"absent\.pt: no such checkpoint"):
        load_checkpoint(tmp_path / "absent.pt")
