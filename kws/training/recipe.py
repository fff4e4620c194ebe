"""The numbers of training, and how the learning rate moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from kws.config import MODEL_TAUS, FeatureConfig, TrainConfig

# SpecAugment's bands by tau, and frames: the authors' own code for arXiv:2106.04140 (none below tau 1.5).
MASK_BANDS = {1.0: 0, 1.5: 1, 2.0: 3, 3.0: 5, 6.0: 7, 8.0: 7}
MASK_FRAMES = 20
MASKED_FROM_TAU = 1.5
# From so many clips of keywords on a data set is a full one, for which the paper's recipe was made.
FULL_CLIPS = 20_000
PAPER = TrainConfig(
    epochs=200,
    batch_clips=100,
    peak_learning_rate=0.1,
    warmup_epochs=5,
    momentum=0.9,
    weight_decay=1e-3,
    average_decay=0.0,
    shift_ms=100,
    noise_probability=0.8,
    noise_max_amplitude=0.1,
    snr_share=0.0,
)
# With fewer speakers to learn from, changed speed and pitch stand in for those who are missing.
FEW_SPEAKERS = 100
STEPS_AN_EPOCH, LEAST_BATCH_CLIPS = 12, 16
# Fewer steps teach little, however few the clips; but each epoch also costs a validation and a line.
LEAST_STEPS, MOST_TIMES_THE_EPOCHS = 3_000, 4
FEW = TrainConfig(
    epochs=150,
    average_decay=0.99,
    shift_ms=100,
    speed_change=0.15,
    reverb_probability=0.1,
    gain_db=6.0,
)
# On little data steps as large as those from random weights wash out what a trained model knows.
STARTED_LEARNING_RATE = 0.03
# From this ratio of the most frequent keyword to the rarest on, balancing them is worth a word.
UNBALANCED = 3
RECIPES = {"short": TrainConfig(), "few-speakers": FEW, "paper": PAPER}


def recipe_for(
    name: str,
    model_name: str,
    features: FeatureConfig,
    *,
    keyword_clips: int,
    speakers: int,
    started: bool = False,
) -> tuple[str, TrainConfig]:
    """The name and the numbers of the recipe `name` for a model of that size.

    "auto" is "paper" from FULL_CLIPS clips of keywords on, "few-speakers" below FEW_SPEAKERS who train, else "short".
    But for "paper", small data get small batches and more epochs, and a lower learning rate where training is `started`
    from a trained model. SpecAugment comes with the larger models, as in the paper, its frames counted in the paper's
    hops.
    """
    if name == "auto":
        small = "few-speakers" if speakers < FEW_SPEAKERS else "short"
        name = "paper" if keyword_clips >= FULL_CLIPS else small
    recipe, tau = RECIPES[name], MODEL_TAUS[model_name]
    if name != "paper":
        batch_clips = _batch_clips(keyword_clips, recipe.batch_clips)
        epochs = _epochs(math.ceil(keyword_clips / batch_clips), recipe.epochs)
        recipe = replace(recipe, batch_clips=batch_clips, epochs=epochs)
        if started and batch_clips < RECIPES[name].batch_clips:
            recipe = replace(recipe, peak_learning_rate=STARTED_LEARNING_RATE)
    if tau < MASKED_FROM_TAU:
        return name, recipe
    mask_frames = MASK_FRAMES * FeatureConfig().hop_samples // features.hop_samples
    return name, replace(recipe, mask_bands=MASK_BANDS[tau], mask_frames=mask_frames)


def balance_advice(targets: npt.NDArray[np.int64], labels: Sequence[str], class_balance: str) -> str | None:
    """What to say of training keywords (targets int64 (n,)) that differ much in number while nothing balances them."""
    present, counts = np.unique(targets, return_counts=True)
    if class_balance != "none" or counts.max() < UNBALANCED * counts.min():
        return None
    rarest, most = counts.argmin(), counts.argmax()
    return (
        f"{labels[present[rarest]]!r} has {counts[rarest]} training clips, {labels[present[most]]!r} {counts[most]}; "
        "--class-balance sampling would draw them equally often."
    )


def _batch_clips(keyword_clips: int, most: int) -> int:
    """Little data need small batches, or an epoch has too few steps to learn from."""
    return min(most, max(LEAST_BATCH_CLIPS, keyword_clips // STEPS_AN_EPOCH))


def _epochs(steps_an_epoch: int, least: int) -> int:
    """So many that all have LEAST_STEPS steps together, within bounds."""
    return min(max(least, math.ceil(LEAST_STEPS / steps_an_epoch)), MOST_TIMES_THE_EPOCHS * least)


def learning_rate(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Linear warm-up to the peak, then a cosine down to zero at the last step."""
    warmup = max(1, round(config.effective_warmup_epochs * steps_per_epoch))
    total = config.epochs * steps_per_epoch
    if step < warmup:
        return config.peak_learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return config.peak_learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
