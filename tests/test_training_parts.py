from __future__ import annotations

import itertools
import platform
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from kws.config import FeatureConfig, ModelConfig, TrainConfig, features_with_hop
from kws.errors import KwsError
from kws.model import BCResNet
from kws.training.average import WeightAverage
from kws.training.loss import Loss, class_weights
from kws.training.recipe import (
    FEW_SPEAKERS,
    FULL_CLIPS,
    RECIPES,
    STARTED_LEARNING_RATE,
    balance_advice,
    learning_rate,
    recipe_for,
)


def test_learning_rate_warms_up_to_the_peak_and_falls_to_nothing() -> None:
    config = TrainConfig(epochs=60, peak_learning_rate=0.1, warmup_epochs=5)
    rates = [learning_rate(step, 10, config) for step in range(600)]
    assert rates[0] == pytest.approx(0.1 / 50)
    assert max(rates) == rates[49] == rates[50] == pytest.approx(0.1)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[50:]))
    assert rates[-1] < 1e-4


def recipe(
    name: str,
    model: str = "bcresnet-1",
    clips: int = 5000,
    speakers: int = 1000,
    hop_ms: int = 10,
    *,
    started: bool = False,
) -> TrainConfig:
    features = features_with_hop(hop_ms)
    return recipe_for(name, model, features, keyword_clips=clips, speakers=speakers, started=started)[1]


def test_the_recipe_follows_from_how_much_and_how_many_speakers_there_are() -> None:
    assert recipe("auto", clips=FULL_CLIPS) == recipe("auto", clips=FULL_CLIPS, speakers=9) == RECIPES["paper"]
    assert recipe("auto", clips=FULL_CLIPS - 1) == RECIPES["short"]
    assert recipe("auto", speakers=FEW_SPEAKERS) == RECIPES["short"]
    assert recipe("auto", speakers=FEW_SPEAKERS - 1) == RECIPES["few-speakers"]
    assert recipe("paper", clips=10, speakers=3) == RECIPES["paper"]
    assert recipe_for("auto", "bcresnet-1", FeatureConfig(), keyword_clips=9, speakers=9)[0] == "few-speakers"
    assert len({*RECIPES.values()}) == 3


def test_little_data_get_small_batches_so_that_an_epoch_has_steps() -> None:
    for clips, batch in ((30, 16), (300, 25), (1199, 99), (1200, 100), (9000, 100)):
        assert recipe("auto", clips=clips, speakers=9).batch_clips == batch
        assert recipe("short", clips=clips).batch_clips == batch
    assert recipe("paper", clips=300).batch_clips == 100


def test_little_data_get_more_epochs_so_that_all_of_them_have_steps_enough() -> None:
    for clips, epochs in ((30, 600), (150, 300), (300, 250), (1500, 200), (2040, 150), (9000, 150)):
        assert recipe("auto", clips=clips, speakers=9).epochs == epochs
    for clips, epochs in ((30, 400), (1500, 200), (3600, 100)):
        assert recipe("short", clips=clips).epochs == epochs
    assert recipe("paper", clips=300).epochs == 200


def test_a_trained_model_goes_on_in_smaller_steps_on_little_data_but_for_the_papers_recipe() -> None:
    for name, clips in itertools.product(("few-speakers", "short"), (30, 1199)):
        slower = replace(recipe(name, clips=clips), peak_learning_rate=STARTED_LEARNING_RATE)
        assert recipe(name, clips=clips, started=True) == slower
    assert RECIPES["short"].peak_learning_rate > STARTED_LEARNING_RATE
    for name, clips in (("few-speakers", 1200), ("short", 1200), ("paper", 30)):
        assert recipe(name, clips=clips, started=True) == recipe(name, clips=clips)


def test_the_papers_recipe_is_the_papers() -> None:
    paper = RECIPES["paper"]
    assert (paper.epochs, paper.batch_clips, paper.peak_learning_rate, paper.warmup_epochs) == (200, 100, 0.1, 5)
    assert (paper.momentum, paper.weight_decay, paper.shift_ms) == (0.9, 1e-3, 100)
    assert (paper.noise_probability, paper.noise_max_amplitude) == (0.8, 0.1)
    beyond = (paper.speed_change, paper.reverb_probability, paper.gain_db, paper.snr_share, paper.label_smoothing)
    assert beyond == (0, 0, 0, 0, 0)
    assert paper.average_decay == 0


def test_masks_come_with_larger_models_in_the_papers_sizes() -> None:
    bands = [recipe("paper", f"bcresnet-{tau}").mask_bands for tau in ("1", "1.5", "2", "3", "6", "8")]
    frames = [recipe("paper", f"bcresnet-{tau}").mask_frames for tau in ("1", "1.5", "8")]
    assert bands == [0, 1, 3, 5, 7, 7]
    assert frames == [0, 20, 20]
    assert recipe("paper", "bcresnet-8", hop_ms=20).mask_frames == 10


def test_words_with_far_fewer_clips_are_named_unless_something_balances_them() -> None:
    labels = ("_silence_", "lamp", "music")
    targets = np.repeat([1, 2], [10, 30])
    assert balance_advice(targets, labels, "none") == (
        "'lamp' has 10 training clips, 'music' 30; --class-balance sampling would draw them equally often."
    )
    assert balance_advice(targets, labels, "sampling") is None
    assert balance_advice(np.repeat([1, 2], [10, 29]), labels, "none") is None
    assert balance_advice(np.repeat([2], [5]), labels, "none") is None


def test_class_weights_are_inverse_to_the_clips_and_one_on_the_mean_clip() -> None:
    targets = np.array([0] * 6 + [1] * 2 + [3] * 4)
    weights = class_weights(targets, 4)
    assert weights[[0, 1, 3]].tolist() == pytest.approx([12 / 18, 12 / 6, 12 / 12])
    assert float(weights[targets].mean()) == pytest.approx(1.0)
    assert torch.isfinite(weights).all()


def test_a_teacher_who_agrees_adds_nothing_and_one_who_does_not_pulls_towards_itself() -> None:
    config = TrainConfig(teacher_weight=0.5, teacher_temperature=2.0)
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    target = torch.tensor([0])
    hard = torch.nn.functional.cross_entropy(logits, target)
    torch.testing.assert_close(Loss(config)(logits, target, logits.clone()), 0.5 * hard)
    teacher = torch.tensor([[0.0, 3.0, 0.0]])
    moved = logits.clone().requires_grad_()
    (Loss(config)(moved, target, teacher) - 0.5 * torch.nn.functional.cross_entropy(moved, target)).backward()
    assert moved.grad is not None
    assert float(moved.grad[0, 0]) > 0 > float(moved.grad[0, 1])


def test_the_soft_part_is_the_divergence_at_the_temperature_times_its_square() -> None:
    config = TrainConfig(teacher_weight=1.0, teacher_temperature=3.0)
    logits, teacher = torch.tensor([[1.0, 0.0], [0.5, -2.0]]), torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    p, q = (torch.softmax(values / 3.0, dim=1) for values in (teacher, logits))
    expected = 9.0 * (p * (p / q).log()).sum(dim=1).mean()
    torch.testing.assert_close(Loss(config)(logits, torch.tensor([0, 1]), teacher), expected)


def test_the_average_follows_the_weights_and_their_statistics() -> None:
    network = BCResNet(ModelConfig(classes=3))
    average = WeightAverage(network, 0.9)
    name = "stem.0.weight"
    start = network.state_dict()[name].clone()
    with torch.no_grad():
        network.stem[0].weight += 1.0
        network.stem[1].running_mean += 1.0
    for _ in range(300):
        average.follow()
    state = average.network.state_dict()
    torch.testing.assert_close(state[name], start + 1.0)
    assert float(state["stem.1.running_mean"].mean()) == pytest.approx(1.0, abs=1e-4)
    with torch.no_grad():
        network.stem[0].weight += 1.0
    average.follow()
    torch.testing.assert_close(average.network.state_dict()[name], start + 1.1)
    assert average.network is not network
    assert WeightAverage(network, 0.0).network is network


@pytest.mark.parametrize(
    "wrong", [{"class_balance": "luck"}, {"precision": "int4"}, {"save_best": "luck"}, {"snr_low_db": 30.0}]
)
def test_a_recipe_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(KwsError):
        replace(TrainConfig(), **wrong)


# New pages that the last of equal rounds of tensors asked the system for.
NEW_PAGES = """
import resource, torch
from kws.training.processes import prepare_process
{prepare}
for rounds in (10, 20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        tensors = [torch.empty(size * 1_000_000).fill_(0) for size in (5, 9, 3, 12, 7, 20)]
        del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_a_prepared_process_keeps_the_memory_that_a_step_frees_for_the_next() -> None:
    def new_pages(prepare: str) -> int:
        script = NEW_PAGES.format(prepare=prepare)
        return int(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout)

    # Where the pieces of freed memory do not fit, even kept memory grows now and then.
    assert new_pages("prepare_process()") < new_pages("") / 3
