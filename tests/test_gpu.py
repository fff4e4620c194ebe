from __future__ import annotations

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
from kws.training.run import Forward, optimizer_of, train_step

FEATURES, GPU = FeatureConfig(), torch.device("cuda", 0)
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
def test_a_step_on_a_gpu_moves_the_weights_as_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20, 1, FEATURES.mel_bands, FEATURES.frames, generator=generator) * 3 - 8
    targets = torch.arange(20) % 5
    torch.testing.assert_close(
        *(_stepped(torch.device(name), features, targets) for name in ("cuda", "cpu")), rtol=1e-3, atol=1e-5
    )


def _stepped(device: torch.device, features: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The weights after one step that starts from those of seed 0."""
    torch.manual_seed(0)
    network = BCResNet(ModelConfig(classes=5, dropout=0.0)).to(device).train()
    config = RECIPES["paper"]
    optimizer = optimizer_of(network, config)
    optimizer.param_groups[0]["lr"] = 0.01
    batch = Batch(inputs=features.to(device), targets=targets.to(device), share=1.0)
    train_step(Forward(network), optimizer, Loss(config), batch)
    return {name: value.cpu() for name, value in network.state_dict().items()}
