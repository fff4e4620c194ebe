from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_tones

from kws.config import FeatureConfig, TrainConfig
from kws.dataset import load_dataset
from kws.errors import KwsError
from kws.training.batches import BatchSource
from kws.training.processes import Processes

SHORT = TrainConfig(epochs=2, batch_clips=16)
PLAIN = TrainConfig(epochs=2, batch_clips=16, shift_ms=0, noise_probability=0.0)
CPU = torch.device("cpu")


def source_of(
    root: Path, config: TrainConfig = SHORT, words: list[str] | None = None, processes: Processes | None = None
) -> BatchSource:
    return BatchSource(load_dataset(root, words, FeatureConfig()), FeatureConfig(), config, CPU, processes)


def test_an_epoch_has_every_keyword_once_and_as_many_others_as_a_keyword_has(tones: Path) -> None:
    source = source_of(tones, words=["left", "right"])
    targets = torch.cat([batch.targets for batch in source.of_epoch(0)]).tolist()
    per_keyword = targets.count(2)
    assert per_keyword == targets.count(3) == len(source.split.rows) // 2
    assert targets.count(0) == targets.count(1) == per_keyword
    assert len(targets) == source.clips_per_epoch


def test_epochs_differ_and_repeat_with_the_seed(tones: Path) -> None:
    source = source_of(tones)
    first, again, second = (torch.cat([batch.inputs for batch in source.of_epoch(epoch)]) for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_processes_share_an_epoch_without_seeing_a_clip_twice(tones: Path) -> None:
    def clips(source: BatchSource) -> Counter[bytes]:
        return Counter(row.numpy().tobytes() for batch in source.of_epoch(0) for row in batch.inputs)

    words = ["left", "right", "other"]
    parts = [clips(source_of(tones, PLAIN, words, Processes(rank=rank, count=2))) for rank in (0, 1)]
    whole = clips(source_of(tones, PLAIN, words))
    silences = sum(parts[0].values()) + sum(parts[1].values()) - sum(whole.values())
    assert silences == 0
    keywords = [Counter({clip: n for clip, n in part.items() if clip in whole}) for part in parts]
    assert not set(keywords[0]) & set(keywords[1])
    assert sum(keywords[0].values()) > len(source_of(tones, PLAIN, words).split.rows) // 3


def test_shares_weigh_each_clip_alike_whatever_process_has_it(tones: Path) -> None:
    parts = [list(source_of(tones, SHORT, None, Processes(rank=rank, count=2)).of_epoch(0)) for rank in (0, 1)]
    for first, second in zip(*parts, strict=True):
        clips = len(first.targets) + len(second.targets)
        assert first.share / len(first.targets) == pytest.approx(2 / clips)
        assert second.share / len(second.targets) == pytest.approx(2 / clips)


def test_balanced_sampling_draws_each_keyword_equally_often_and_never_leaves_a_clip_out(tmp_path: Path) -> None:
    root = write_tones(tmp_path / "data", ["rare", "often"], speakers=30, noise=False)
    for clip in sorted((root / "rare").iterdir())[9:]:
        clip.unlink()
    source = source_of(root, TrainConfig(class_balance="sampling"))
    assert len(np.unique(np.bincount(source.split.targets))) == 2
    rows, targets = source.draw(np.random.default_rng(0))
    counts = np.bincount(targets)
    assert abs(counts[0] - counts[1]) <= 1
    assert len(rows) == source.clips_per_epoch
    target_of = dict(zip(source.split.rows.tolist(), source.split.targets.tolist(), strict=True))
    assert [target_of[row] for row in rows.tolist()] == targets.tolist()
    rare = source.split.rows[source.split.targets == source.dataset.labels.index("rare")]
    times = [int((rows == row).sum()) for row in rare]
    assert min(times) >= 1
    assert max(times) - min(times) <= 1


def test_masks_are_laid_on_the_features_where_the_recipe_asks_for_them(tones: Path) -> None:
    plain = next(source_of(tones, PLAIN).of_epoch(0)).inputs
    config = TrainConfig(epochs=2, batch_clips=16, shift_ms=0, noise_probability=0.0, mask_bands=8, mask_frames=30)
    masked = next(source_of(tones, config).of_epoch(0)).inputs
    assert 0.05 < float((plain != masked).float().mean()) < 0.7


def test_too_many_processes_for_the_data_are_refused(tones: Path) -> None:
    with pytest.raises(KwsError, match="use fewer processes"):
        source_of(tones, SHORT, None, Processes(rank=0, count=12))
