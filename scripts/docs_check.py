"""Runs the `kws` commands that the README and the pages of docs/ show, page by page, on small synthetic data.

    python -m scripts.docs_check [PAGE...]

Each page begins in a folder of its own with a data set, a run and a build, as the pages before it leave them; trainings
last one epoch. Prints one line a command, then what failed; exit code 1 if something did.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "firmware_template").rglob("README.md")),
]
WORDS = "yes,no,up,down,left,right,on,off,stop,go,lamp,music"
KEYWORDS = "lamp,music"
# Data sets that the pages name; here all are the same.
DATA_NAMES = ("data", "speech-commands", "speech-commands-subset", "arabic-speech-commands")
# Commands with one of these words are run by the tests instead.
ELSEWHERE = {
    "fetch": "downloads gigabytes; tests/test_fetch.py",
    "--resume": "needs a training that was killed; tests/test_training.py",
    "--tracking-uri": "needs a server; tests/test_tracking.py",
    "--mic": "needs a microphone; tests/test_detect.py",
}
PRELUDE_CLIPS = 40


def shown_commands(page: Path) -> list[list[str]]:
    """The words of each command in the sh blocks of a page, comments left out."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def elsewhere(words: Sequence[str]) -> str | None:
    """Why a command is not run here; None if it is."""
    return next((reason for word, reason in ELSEWHERE.items() if word in words), None)


def runnable(words: Sequence[str]) -> list[str]:
    """The arguments of `kws` as they are run here, with less work where there is much."""
    arguments = list(words[1:])
    if arguments[0] == "train":
        arguments += ["--epochs", "1"]
    if "--stream" in arguments:
        arguments += ["--hours", "0.05", "--false-accepts-per-hour", "100000"]
    return arguments


def has_run(words: Sequence[str], done: subprocess.CompletedProcess[str]) -> bool:
    """A model that hardly learned may be past a gate; it was judged all the same."""
    gated = any(word.startswith("--fail-") for word in words)
    return done.returncode == 0 or (gated and done.returncode == 1 and "past their gates" in done.stderr)


def kws(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kws", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def make_base(folder: Path) -> None:
    """A data set, a run and a build of it, recordings to prepare, and a model from elsewhere with its inputs."""
    for arguments in (
        ["synth", "data", "--words", WORDS],
        ["train", "data", "--out", "run", "--words", KEYWORDS, "--epochs", "3"],
        ["train", "data", "--out", "english", "--words", KEYWORDS, "--epochs", "1"],
        ["quantize", "run/checkpoint.pt", "--data", "data", "--out", "build"],
    ):
        done = kws(arguments, folder)
        if done.returncode != 0:
            raise SystemExit(f"kws {shlex.join(arguments)}\n{done.stderr}")
    shutil.copytree(folder / "build", folder / "other-build")
    for name in DATA_NAMES[1:]:
        (folder / name).symlink_to("data")
    make_recordings(folder)
    make_given_model(folder)


def make_recordings(folder: Path) -> None:
    clips = sorted(path for word in KEYWORDS.split(",") for path in (folder / "data" / word).iterdir())
    for clip in clips:
        speaker, _, take = clip.stem.partition("_nohash_")
        target = folder / "recordings" / clip.parent.name / speaker / f"{take}{clip.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, target)
    shutil.copy(clips[0], folder / "recording.wav")
    for name in ("street", "rooms"):
        shutil.copytree(folder / "data" / "_background_noise_", folder / name)


def make_given_model(folder: Path) -> None:
    import numpy as np

    from kws.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(folder / "run" / "checkpoint.pt")
    shape = (PRELUDE_CLIPS, 1, checkpoint.features.mel_bands, checkpoint.features.frames)
    inputs = np.random.default_rng(0).normal(-4, 3, shape).astype(np.float32)
    shutil.copy(folder / "build" / "model.onnx", folder / "model.onnx")
    np.save(folder / "inputs.npy", inputs)
    np.save(folder / "test_inputs.npy", inputs)
    np.save(folder / "test_targets.npy", np.arange(PRELUDE_CLIPS) % len(checkpoint.labels))
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in checkpoint.labels), encoding="utf-8")


def check_page(page: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Run the commands of `page` in `folder`; yields each with what went wrong, or ""."""
    for words in shown_commands(page):
        reason = elsewhere(words)
        if words[0] != "kws" or "-h" in words or reason is not None:
            continue
        arguments = runnable(words)
        if arguments[0] in ("prepare", "synth"):
            shutil.rmtree(folder / arguments[arguments.index("--out") + 1], ignore_errors=True)
        done = kws(arguments, folder)
        yield shlex.join(words), "" if has_run(words, done) else done.stderr.strip() or f"exit code {done.returncode}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", type=Path, nargs="*", metavar="PAGE", help="Markdown files (default: all)")
    pages = [path.resolve() for path in parser.parse_args().pages] or PAGES
    failures = []
    with tempfile.TemporaryDirectory(prefix="kws-docs-") as scratch:
        base = Path(scratch) / "base"
        base.mkdir()
        make_base(base)
        for number, page in enumerate(pages):
            folder = Path(scratch) / str(number)
            shutil.copytree(base, folder, symlinks=True)
            started = time.monotonic()
            for command, failure in check_page(page, folder):
                print(f"{page.name}: {command}: {'FAILED' if failure else 'ok'} ({time.monotonic() - started:.0f} s)")
                failures += [f"{page.name}: {command}\n{failure}"] if failure else []
                started = time.monotonic()
            shutil.rmtree(folder)
    print("\n".join(failures), file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
