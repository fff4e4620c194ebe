"""Every width and activation of BC-ResNet on whole data sets: trained, quantized and judged, as a table and a picture.

    python -m scripts.leaderboard OUT DATA[:WORDS]... [--models A,B] [--activations A,B] [--only-trained]

A width is trained from scratch with swish; another activation goes on from that model for a few epochs, which takes a
third of the time. What OUT has already is not made again, and a training that was stopped goes on: hours of work may be
done in parts. Each model lies in OUT/<name of DATA>/<model>-<activation>/ as `run` and `build`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from export.evaluate import judge_data
from kws.artifact import write_text
from kws.benchmark import FLOAT, Benchmark
from kws.comparison import write_comparison
from kws.config import ACTIVATIONS
from kws.errors import KwsError
from kws.progress import note
from scripts.kws_runs import built, exit_code, is_trained, trained
from scripts.markdown import table

MODELS = ("bcresnet-1", "bcresnet-1.5", "bcresnet-2", "bcresnet-3")
TABLE_NAME = "leaderboard.md"
INT8 = "int8"
FIRST_ACTIVATION = ACTIVATIONS[0]
EPOCHS_OF_OTHERS = 30
HEADINGS = [
    *("data", "model", "activation", "parameters", "float", "int8", "95 % interval", "same answer", "logit SQNR"),
    *("`.tflite`, bytes", "arena on Cortex-M4, bytes", "instructions on Cortex-M4", "on Cortex-M55"),
]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model of the leaderboard, and the folder that is its own."""

    data: Path
    words: str
    model: str
    activation: str
    out: Path

    @property
    def name(self) -> str:
        return f"{self.model}-{self.activation}"

    @property
    def folder(self) -> Path:
        return self.out / self.data.name / self.name

    @property
    def is_trained(self) -> bool:
        return is_trained(self.folder / "run")


def entries(out: Path, sets: Sequence[str], models: Iterable[str], activations: Iterable[str]) -> list[Entry]:
    """In the order of `sets`, each "DATA" or "DATA:word,word". Raises KwsError for two folders of one name."""
    parted = [text.partition(":") for text in sets]
    names = [Path(data).name for data, _, _ in parted]
    if len(set(names)) < len(names):
        raise KwsError(f"Two data sets are called {max(names, key=names.count)}; rename a folder.")
    return [
        Entry(data=Path(data), words=words, model=model, activation=activation, out=out)
        for data, _, words in parted
        for model in models
        for activation in activations
    ]


def make(entry: Entry) -> None:
    """Train and quantize what is missing. Raises KwsError if a command fails, which has then said why."""
    built(entry.folder / "build", checkpoint_of(entry), entry.data)


def checkpoint_of(entry: Entry) -> Path:
    """Trained now if it is missing, and so is the model that it starts from. Raises KwsError as `make` does."""
    options = ["--words", entry.words] if entry.words else []
    options += ["--model", entry.model, "--activation", entry.activation]
    if entry.activation != FIRST_ACTIVATION and not entry.is_trained:
        start = checkpoint_of(replace(entry, activation=FIRST_ACTIVATION))
        options += ["--init", str(start), "--epochs", str(EPOCHS_OF_OTHERS)]
    return trained(entry.folder / "run", entry.data, *options)


def row(entry: Entry, result: Benchmark) -> list[str]:
    """The cells under HEADINGS."""
    low, high = result.accuracy_interval[INT8]
    costs = result.costs
    return [
        entry.data.name,
        entry.model,
        entry.activation,
        "-" if costs.params is None else f"{costs.params:,}",
        *[f"{result.accuracy[form]:.2%}" for form in (FLOAT, INT8)],
        f"{100 * low:.1f} .. {100 * high:.1f}",
        f"{result.agreement:.2%}",
        f"{result.sqnr_db:.1f} dB",
        f"{costs.model_bytes:,}",
        f"{costs.arena['cortex_m4']:,}",
        *[f"{costs.estimated_instructions[core] / 1e6:.1f} M" for core in ("cortex_m4", "cortex_m55")],
    ]


def leaderboard(chosen: Sequence[Entry]) -> str:
    """The table; writes the picture of each data set to its folder. Raises KwsError if there is nothing to judge."""
    if not chosen:
        raise KwsError("Nothing is trained yet; leave out --only-trained.")
    rows: list[list[str]] = []
    results: dict[str, dict[str, Benchmark]] = {}
    for entry in chosen:
        make(entry)
        note(f"Judging {entry.folder / 'build'}")
        result = judge_data(entry.folder / "build", entry.data)
        rows.append(row(entry, result))
        results.setdefault(entry.data.name, {})[entry.name] = result
    for name, judged in results.items():
        write_comparison(chosen[0].out / name, judged)
    return table(HEADINGS, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for all runs, builds, the table and the pictures")
    parser.add_argument("sets", nargs="+", metavar="DATA[:WORDS]", help="folder of clips, and its keywords if not all")
    parser.add_argument("--models", default=",".join(MODELS), help="widths, comma-separated (default: %(default)s)")
    parser.add_argument("--activations", default=",".join(ACTIVATIONS), help="of those (default: %(default)s)")
    parser.add_argument("--only-trained", action="store_true", help="leave out what is not trained yet")
    options = parser.parse_args()
    chosen = entries(options.out, options.sets, options.models.split(","), options.activations.split(","))
    text = leaderboard([entry for entry in chosen if entry.is_trained or not options.only_trained])
    write_text(options.out / TABLE_NAME, f"{text}\n")
    print(text)


if __name__ == "__main__":
    sys.exit(exit_code(main))
