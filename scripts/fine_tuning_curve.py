"""What a few clips a word teach: a trained model that learns new words, beside training from scratch.

    python -m scripts.fine_tuning_curve OUT DATA INIT [--clips 5,10,20,50] [--seeds 0,1,2]

OUT/<clips>/data has that many training clips a word of DATA, as many speakers as there are, a fifth as many (one at
least) to choose the epoch by, and all test clips. Beside it lie the runs `scratch` and `fine-tuned` (from INIT) of each
seed; what OUT has already is not made again.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from kws.artifact import read_json, write_text
from kws.config import NOISE_FOLDER, FeatureConfig
from kws.dataset import load_dataset
from kws.splits import LIST_FILES, speaker_of, without_suffix
from kws.training.run import METRICS_NAME
from scripts.kws_runs import exit_code, trained
from scripts.markdown import table

TABLE_NAME = "fine_tuning.md"
HEADINGS = ["clips a word", "from scratch", "each seed", "fine-tuned", "each seed"]
VALIDATION_PART = 5


def spread(names: Iterable[str], count: int) -> list[str]:
    """`count` of the clips, of one speaker after the other, so that as many speakers as possible are heard."""
    of_speaker = defaultdict(list)
    for name in sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        of_speaker[speaker_of(name)].append(name)
    turns = [(turn, place) for place, clips in enumerate(of_speaker.values()) for turn in range(len(clips))]
    speakers = list(of_speaker.values())
    return [speakers[place][turn] for turn, place in sorted(turns)[:count]]


def few_clips(splits: Mapping[str, Sequence[str]], clips: int) -> dict[str, list[str]]:
    """The names of `splits` that are left with so many training clips a word."""
    counts = {"training": clips, "validation": math.ceil(clips / VALIDATION_PART)}
    kept = {}
    for split, names in splits.items():
        of_word = defaultdict(list)
        for name in names:
            of_word[name.partition("/")[0]].append(name)
        kept[split] = [name for word in of_word.values() for name in spread(word, counts.get(split, len(word)))]
    return kept


def write_data(root: Path, kept: Mapping[str, Sequence[str]], out: Path) -> None:
    """A data set of the clips `kept` of `root`, with its noise and the lists of its splits."""
    for name in (name for names in kept.values() for name in names):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, out / name)
    if (root / NOISE_FOLDER).is_dir():
        shutil.copytree(root / NOISE_FOLDER, out / NOISE_FOLDER, dirs_exist_ok=True)
    for split, file in LIST_FILES.items():
        write_text(out / file, "".join(f"{without_suffix(name)}.wav\n" for name in kept[split]))


def accuracy(run: Path) -> float:
    """The test accuracy of a finished run."""
    share: float = read_json(run / METRICS_NAME, "train again")["test"]["accuracy"]
    return share


def row(clips: int, found: Iterable[Sequence[float]]) -> list[str]:
    """What each way to train reached, seed by seed, with its mean."""
    cells = [str(clips)]
    for shares in found:
        cells += [f"{fmean(shares):.2%}", ", ".join(f"{100 * share:.2f}" for share in shares)]
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("init")
    parser.add_argument("--clips", default="5,10,20,50")
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    seeds, ways = options.seeds.split(","), {"scratch": [], "fine-tuned": ["--init", options.init]}
    dataset = load_dataset(options.data, None, FeatureConfig())
    splits = {name: [dataset.names[row] for row in split.rows] for name, split in dataset.splits.items()}
    rows = []
    for clips in map(int, options.clips.split(",")):
        folder = options.out / str(clips)
        write_data(options.data, few_clips(splits, clips), folder / "data")
        found = []
        for name, extra in ways.items():
            for seed in seeds:
                trained(folder / f"{name}-{seed}", folder / "data", "--seed", seed, *extra)
            found.append([accuracy(folder / f"{name}-{seed}") for seed in seeds])
        rows.append(row(clips, found))
        write_text(options.out / TABLE_NAME, table(HEADINGS, rows))
    print(table(HEADINGS, rows))


if __name__ == "__main__":
    sys.exit(exit_code(main))
