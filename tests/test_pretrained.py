"""The models that come with kws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import run_kws

from kws.checkpoint import load_checkpoint
from kws.config import FeatureConfig
from kws.errors import KwsError
from kws.features import features_of_clips
from kws.pretrained import CALIBRATION_SUFFIX, FOLDER, NAMES, is_pretrained, model_path
from kws.pretrained.calibration import calibration_of, read_calibration, write_calibration

CARD = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_a_name_is_its_file_and_every_other_text_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        assert model_path(name) == FOLDER / f"{name}.pt"
        assert is_pretrained(model_path(name))
    for text in ("run/checkpoint.pt", "../__init__", "speech-commands", ""):
        assert model_path(text) == Path(text)
        assert not is_pretrained(model_path(text))
    (tmp_path / NAMES[0]).mkdir()
    assert model_path(NAMES[0]) == Path(NAMES[0])


@pytest.mark.parametrize("name", NAMES)
def test_each_model_loads_has_clips_and_stands_in_the_model_card(name: str) -> None:
    path = model_path(name)
    checkpoint = load_checkpoint(path)
    assert name.endswith(checkpoint.model.name)
    clips = calibration_of(path, 12)
    assert clips.shape == (12, 1, checkpoint.features.mel_bands, checkpoint.features.frames)
    assert f"`{name}`" in CARD
    assert len(calibration_of(path, 10_000)) == 10 * len(checkpoint.labels)


@pytest.mark.parametrize("name", NAMES)
def test_each_model_knows_the_clips_that_it_was_trained_on(name: str) -> None:
    """They were drawn from the labels in turn."""
    path = model_path(name)
    network = load_checkpoint(path).build()
    clips = calibration_of(path, 10_000)
    with torch.inference_mode():
        found = network(torch.from_numpy(clips)).argmax(1).numpy()
    labels = len(load_checkpoint(path).labels)
    in_turn = np.concatenate([np.arange(2, labels), [1, 0]])
    assert (found == np.resize(in_turn, len(found))).mean() > 0.95


def test_kept_clips_differ_from_the_real_ones_by_half_a_step(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pcm = (rng.normal(0, 3000, (3, 16_000)) * np.linspace(0, 1, 16_000)).astype(np.int16)
    log_mel = features_of_clips(pcm, FeatureConfig())
    write_calibration(tmp_path / f"x{CALIBRATION_SUFFIX}", log_mel)
    kept = read_calibration(tmp_path / f"x{CALIBRATION_SUFFIX}")
    assert kept.dtype == np.float32
    assert kept.shape == log_mel.shape
    assert np.abs(kept - log_mel).max() <= 0.5001 * (log_mel.max() - log_mel.min()) / 255


def test_a_checkpoint_of_ones_own_has_no_clips(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="give --data"):
        calibration_of(tmp_path / f"{NAMES[0]}.pt", 10)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_listens_by_its_name_and_says_where_it_heard_nothing(name: str, tmp_path: Path) -> None:
    silence = tmp_path / "silence.wav"
    soundfile.write(silence, np.zeros(48_000, np.int16), 16_000)
    heard = run_kws("detect", name, "--wav", silence, "--json")
    assert heard.stdout == ""
    assert f"{silence}: no keyword reached its threshold" in heard.stderr


@pytest.mark.slow
def test_a_newcomer_gets_a_build_and_a_firmware_folder_without_any_data(tmp_path: Path) -> None:
    run_kws("quantize", NAMES[0], "--out", tmp_path / "build", cwd=tmp_path)
    manifest = json.loads((tmp_path / "build" / "manifest.json").read_text())
    assert manifest["labels"] == load_checkpoint(model_path(NAMES[0])).labels
    assert manifest["calibration"] == {"clips": 120}
    run_kws("verify", tmp_path / "build", "--clips", "5")
    run_kws("headers", tmp_path / "build" / "model.int8.tflite", "--out", tmp_path / "firmware")
    refused = run_kws("quantize", "speech-commands-bcresnet-9", "--out", tmp_path / "no", check=False)
    assert refused.returncode == 2
    assert NAMES[0] in refused.stderr
    assert not (tmp_path / "no").exists()
