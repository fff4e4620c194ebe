from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from kws.config import FeatureConfig, ModelConfig, TrainConfig
from kws.dataset import load_dataset
from kws.features import FeatureTables
from kws.model import BCResNet
from kws.training.batches import Batch, BatchSource
from kws.training.loss import Loss, class_weights
from kws.training.recipe import RECIPES
from kws.training.run import Forward, compile_for_gpu, optimizer_of, train_step

FEATURES, GPU, CPU = FeatureConfig(), torch.device("cuda", 0), torch.device("cpu")
EVERYTHING = replace(
    RECIPES["few-speakers"], reverb_probability=0.5, snr_share=0.5, mask_bands=3, mask_frames=20, label_smoothing=0.1
)


@pytest.mark.parametrize("config", [*RECIPES.values(), EVERYTHING], ids=[*RECIPES, "everything"])
def test_a_step_for_a_gpu_mixes_no_devices_and_waits_for_no_value(
    tones: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU: PyTorch's fake tensors have a device, on which each op insists, and no values to wait for."""
    dataset, tables = load_dataset(tones, None, FEATURES), FeatureTables.of(FEATURES)
    monkeypatch.setattr(FeatureTables, "of", lambda _: tables)
    classes, targets = len(dataset.labels), dataset.splits["training"].targets
    with FakeTensorMode():
        with GPU:
            network, teacher = (BCResNet(ModelConfig(classes=classes)) for _ in range(2))
        loss = Loss(config, class_weights(targets, classes).to(GPU))
        for batch in BatchSource(dataset, FEATURES, config, GPU).of_epoch(0):
            value = loss(Forward(network)(batch.inputs), batch.targets, teacher(batch.inputs))
            assert {batch.inputs.device, batch.targets.device, value.device} == {GPU}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_step_on_a_gpu_moves_the_weights_as_on_a_cpu() -> None:
    torch.testing.assert_close(_stepped(GPU), _stepped(CPU), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch compiles for a CPU with g++, which is not there")
def test_compiled_modules_move_the_weights_as_they_do_uncompiled() -> None:
    device = GPU if torch.cuda.is_available() else CPU
    compiled, uncompiled = (_stepped(device, compiled=compiled, steps=3) for compiled in (True, False))
    torch.testing.assert_close(compiled, uncompiled, rtol=1e-4, atol=1e-6)


def _stepped(device: torch.device, *, compiled: bool = False, steps: int = 1) -> dict[str, Tensor]:
    """The weights after some steps that start from those of seed 0.

    All but the loss in float64, since steps blow up what rounding does to a ReLU.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (20, 1, FEATURES.mel_bands, FEATURES.frames)
    features = torch.randn(shape, generator=generator, dtype=torch.float64) * 3 - 8
    targets = torch.arange(20) % 5
    torch.manual_seed(0)
    network = BCResNet(ModelConfig(classes=5, dropout=0.0)).to(device).double().train()
    config = RECIPES["paper"]
    optimizer = optimizer_of(network, config)
    optimizer.param_groups[0]["lr"] = 0.01
    # On a CPU `Forward` does not call the modules, which are what a GPU computes and what is compiled.
    forward = Forward(network) if device.type == "cuda" else network
    if compiled:
        compile_for_gpu(forward)
    batch = Batch(inputs=features.to(device), targets=targets.to(device), share=1.0)
    for _ in range(steps):
        train_step(forward, optimizer, Loss(config), batch)
    return {name: value.cpu() for name, value in network.state_dict().items()}
