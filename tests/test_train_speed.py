from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from benchmarks.plain_training import plain_network
from kws.config import ModelConfig
from kws.model import BCResNet

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.train_speed", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_speed_of_training_is_measured_against_plain_training() -> None:
    result = run("--steps", "1", "--rounds", "1", "--threads", "1", "--device", "cpu")
    assert result.returncode == 0, result.stderr
    figures = re.fullmatch(
        r"cpu, 1 thread\(s\): plain (\d+) clips/s, kws (\d+) clips/s, ratio ([\d.]+) \(.*\)\n", result.stdout
    )
    assert figures is not None, result.stdout
    plain, ours, ratio = (float(figure) for figure in figures.groups())
    assert abs(ours / plain - ratio) < 0.05 * ratio


def test_a_training_that_ends_early_is_told_with_what_it_said(tmp_path: Path) -> None:
    for word, speaker in itertools.product(("lamp", "music"), range(8)):
        (tmp_path / word).mkdir(exist_ok=True)
        soundfile.write(tmp_path / word / f"speaker{speaker}_nohash_0.wav", np.full(8000, 0.1), 8000)
    result = run("--data", str(tmp_path), "--steps", "1", "--rounds", "1", "--threads", "1", "--device", "cpu")
    assert result.returncode == 1
    assert "is not mono at 16000 Hz" in result.stderr
    assert result.stderr.endswith("A training ended early; what it printed above says why.\n")


def test_the_plain_network_computes_what_ours_does() -> None:
    torch.manual_seed(0)
    plain, ours = plain_network(12).double(), BCResNet(ModelConfig(classes=12)).double()
    with torch.no_grad():
        for theirs, mine in zip(plain.parameters(), ours.parameters(), strict=True):
            theirs.copy_(mine.normal_())
    for network in (plain, ours):
        for layer in network.modules():
            if isinstance(layer, nn.Dropout2d):
                layer.p = 0.0
    features = torch.randn(4, 1, 40, 98, dtype=torch.float64)
    torch.testing.assert_close(plain.train()(features), ours.train()(features))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named_in_one_sentence() -> None:
    result = run("--device", "cuda")
    assert result.returncode == 1
    assert result.stderr == "--device cuda: PyTorch finds no such device here; use --device auto or cpu.\n"
