from __future__ import annotations

import pytest
import torch
from torch import nn

from kws.config import MODEL_TAUS, ModelConfig, features_with_hop
from kws.errors import KwsError
from kws.model import BCResNet, SubSpectralNorm, count_macs, parameter_count

# Table 1 of arXiv:2106.04140, thousands of parameters with 12 classes.
PAPER_PARAMS = {
    "bcresnet-1": 9.2,
    "bcresnet-1.5": 17.2,
    "bcresnet-2": 27.3,
    "bcresnet-3": 54.2,
    "bcresnet-6": 188,
    "bcresnet-8": 321,
}


def network(name: str = "bcresnet-1") -> BCResNet:
    torch.manual_seed(0)
    return BCResNet(ModelConfig(name=name, classes=12))


@pytest.mark.parametrize("name", MODEL_TAUS)
def test_parameters_are_those_of_the_paper(name: str) -> None:
    thousands = parameter_count(network(name)) / 1000
    assert abs(thousands - PAPER_PARAMS[name]) <= (0.05 if PAPER_PARAMS[name] < 100 else 0.5)


def test_tau_1_has_9232_parameters_and_2_4_million_macs() -> None:
    assert parameter_count(network()) == 9232
    # By hand, 98 frames: the stem alone is 20 x 98 x 16 outputs of 25 taps.
    assert count_macs(network(), 98, 40) == 2_408_440
    assert count_macs(network(), 98, 40) > 20 * 98 * 16 * 25


def test_any_number_of_frames_gives_one_row_of_logits_a_clip() -> None:
    with torch.no_grad():
        for frames in (1, 98, 101):
            assert network().eval()(torch.randn(3, 1, 40, frames)).shape == (3, 12)


def test_sub_spectral_norm_normalises_each_band_of_each_channel_alone() -> None:
    norm = SubSpectralNorm(channels=2, sub_bands=5)
    scale = torch.arange(1, 11).reshape(1, 2, 5, 1, 1).float()
    x = torch.randn(64, 2, 5, 4, 30) * scale + scale
    y = norm(x.reshape(64, 2, 20, 30)).reshape(64, 2, 5, 4, 30)
    torch.testing.assert_close(y.mean(dim=(0, 3, 4)), torch.zeros(2, 5), atol=1e-4, rtol=0)
    torch.testing.assert_close(y.var(dim=(0, 3, 4), unbiased=False), torch.ones(2, 5), atol=1e-3, rtol=0)


def test_only_blocks_that_keep_their_width_have_a_shortcut() -> None:
    assert [block.transition for block in network().blocks] == [
        True, False, True, False, True, False, False, False, True, False, False, False,
    ]  # fmt: skip


def test_temporal_dilation_doubles_from_stage_to_stage() -> None:
    dilations = [block.f1[0].dilation[1] for block in network().blocks]
    assert dilations == [1, 1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8]


@pytest.mark.parametrize(("activation", "layer"), [("swish", nn.SiLU), ("hardswish", nn.Hardswish), ("relu", nn.ReLU)])
def test_the_activation_is_that_of_the_temporal_branch_alone(activation: str, layer: type[nn.Module]) -> None:
    model = BCResNet(ModelConfig(classes=12, activation=activation))
    assert all(isinstance(block.f1[2], layer) for block in model.blocks)
    assert parameter_count(model) == 9232
    with pytest.raises(KwsError, match="swish, hardswish, relu"):
        ModelConfig(classes=12, activation="gelu")


def test_a_hop_of_20_ms_halves_frames_and_work() -> None:
    frames = features_with_hop(20).frames
    assert frames == 49
    assert count_macs(network(), frames, 40) == pytest.approx(count_macs(network(), 98, 40) / 2, rel=0.01)


def test_a_model_that_does_not_exist_is_refused() -> None:
    with pytest.raises(KwsError, match=r"bcresnet-1, bcresnet-1\.5"):
        ModelConfig(name="bcresnet-7", classes=12)
