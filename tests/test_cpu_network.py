from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kws import cpu_network, cpu_ops
from kws.config import ACTIVATIONS, ModelConfig
from kws.model import BCResNet

DEEP = {"rtol": 1e-7, "atol": 1e-10}
CLASSES = 5


def network(**config: object) -> BCResNet:
    """In float64 with every norm off its initial identity, so that rounding hides no difference."""
    torch.manual_seed(0)
    made = BCResNet(ModelConfig(classes=CLASSES, **config)).double()
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean):
                tensor += 0.3 * torch.randn_like(tensor)
            layer.running_var.uniform_(0.5, 2)
    return made


def clips(frames: int = 31, count: int = 6, bands: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(count, 1, bands, frames, generator=generator, dtype=torch.float64) * 3 - 8
    return features, torch.arange(count) % CLASSES


def pair(model: BCResNet) -> list[tuple[BCResNet, Callable[[Tensor], Tensor]]]:
    plain, fast = copy.deepcopy(model), copy.deepcopy(model)
    return [(plain, plain), (fast, lambda features: cpu_network.forward(fast, features))]


def trained(model: BCResNet, forward: Callable[[Tensor], Tensor], features: Tensor, targets: Tensor) -> Tensor:
    torch.manual_seed(7)
    model.train()
    logits = forward(features)
    cross_entropy(logits, targets).backward()
    return logits.detach()


@pytest.mark.parametrize("config", [{"activation": name} for name in ACTIVATIONS] + [{"name": "bcresnet-1.5"}], ids=str)
def test_logits_gradients_and_running_statistics_are_those_of_the_modules(config: dict[str, str]) -> None:
    (plain, run_plain), (fast, run_fast) = pair(network(**config))
    features, targets = clips()
    wanted = trained(plain, run_plain, features, targets)
    torch.testing.assert_close(trained(fast, run_fast, features, targets), wanted, **DEEP)
    for (name, one), other in zip(plain.named_parameters(), fast.parameters(), strict=True):
        scale = one.grad.abs().max()
        torch.testing.assert_close(other.grad / scale, one.grad / scale, rtol=0, atol=1e-7, msg=name)
    torch.testing.assert_close(fast.state_dict(), plain.state_dict(), **DEEP)


@pytest.mark.parametrize(("frames", "count", "bands"), [(1, 6, 40), (7, 3, 40), (98, 1, 40), (20, 2, 80)])
def test_any_number_of_frames_clips_and_bands(frames: int, count: int, bands: int) -> None:
    (plain, run_plain), (fast, run_fast) = pair(network(mel_bands=bands))
    features, targets = clips(frames, count, bands)
    wanted = trained(plain, run_plain, features, targets)
    torch.testing.assert_close(trained(fast, run_fast, features, targets), wanted, **DEEP)
    with torch.no_grad():
        torch.testing.assert_close(
            cpu_network.forward(fast.eval(), features), plain.eval()(features), rtol=1e-5, atol=1e-5
        )


def test_evaluation_uses_and_keeps_the_running_statistics() -> None:
    (_, run_plain), (fast, run_fast) = pair(network().eval())
    before = copy.deepcopy(fast.state_dict())
    features, _ = clips()
    with torch.inference_mode():
        torch.testing.assert_close(run_fast(features), run_plain(features), **DEEP)
    torch.testing.assert_close(fast.state_dict(), before, rtol=0, atol=0)


def test_one_step_of_the_optimizer_moves_the_weights_alike() -> None:
    features, targets = clips()
    stepped = []
    for model, forward in pair(network()):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
        for _ in range(2):
            optimizer.zero_grad()
            trained(model, forward, features, targets)
            optimizer.step()
        stepped.append(model.state_dict())
    torch.testing.assert_close(stepped[1], stepped[0], rtol=1e-5, atol=1e-7)


def test_in_float32_it_is_as_near_to_float64_as_the_modules_are() -> None:
    features, targets = clips(frames=98, count=16)
    exact = trained(*pair(network())[0], features, targets)
    errors = [
        float((trained(model, forward, features.float(), targets).double() - exact).abs().max())
        for model, forward in pair(network().float())
    ]
    assert errors[1] < 1e-5 * float(exact.abs().max()) + 2 * errors[0]


def test_dropout_leaves_out_whole_channels_of_single_clips() -> None:
    torch.manual_seed(0)
    branch = network(dropout=0.5).blocks[1].f1.train()
    row = cpu_network._temporal_branch(branch, torch.randn(8, 9 * 50, dtype=torch.float64), 50, cpu_network.Moments())
    dropped = (row.reshape(8, 9, 50) == 0).double().mean(dim=1)
    assert set(dropped.unique().tolist()) == {0.0, 1.0}
    assert 0.4 < float(dropped.mean()) < 0.6


def test_gradients_in_evaluation_mode_are_those_of_the_modules() -> None:
    (plain, run_plain), (fast, run_fast) = pair(network().eval())
    features, targets = clips()
    for run in (run_plain, run_fast):
        cross_entropy(run(features), targets).backward()
    for (name, one), other in zip(plain.named_parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-5, atol=1e-7, msg=name)


def test_a_step_leaves_nothing_that_holds_on_to_its_batch() -> None:
    (_, (fast, run_fast)) = pair(network())
    features, targets = clips()
    trained(fast, run_fast, features, targets)
    assert [name for name, buffer in fast.named_buffers() if buffer.grad_fn] == []


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            fast = network().float()
            x = torch.randn(8, 20, 700, generator=torch.Generator().manual_seed(3)).requires_grad_()
            convolution, sub_spectral = fast.blocks[1].f2
            y, row, *moments = cpu_ops.FrequencyBranch.apply(
                x, convolution.weight.flatten(1), sub_spectral.norm.weight, sub_spectral.norm.bias, 1, 1e-5, True
            )
            cpu_ops.BroadcastSum.apply(y, row, x.detach()).sum().backward()
            found.append([x.grad, convolution.weight.grad, sub_spectral.norm.weight.grad, row.detach(), *moments])
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_reaches_the_logits(wrong: float) -> None:
    _, (fast, run_fast) = pair(network().float())
    features, targets = clips()
    features[0, 0, 20, 15] = wrong
    assert not trained(fast, run_fast, features.float(), targets).isfinite().any()
    gradients = [parameter.grad for parameter in fast.parameters() if parameter.grad is not None]
    assert not any(gradient.isfinite().all() for gradient in gradients)
