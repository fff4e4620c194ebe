"""TensorFlow Lite's reference kernels in a process of their own, which imports TensorFlow while others compute.

The process is this module: it takes the name of a folder as its argument, and a line on standard input once a model
and its inputs are in there; what it answers lies there when it ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from kws.errors import KwsError
from quantize.affine import FloatArray, StepArray

_MODEL, _FEATURES, _LOGITS, _ERRORS = "model.tflite", "features.npy", "logits.npy", "errors.txt"
_PACKAGES = Path(__file__).resolve().parents[1]
_SECONDS = 600


class ReferenceProcess:
    """One question, `ask`, whose answer is `logits`; made by `reference_process`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
        with (folder / _ERRORS).open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=folder,  # A folder of the user's could hold modules of the same names.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )

    def ask(self, model: bytes, features: FloatArray) -> None:
        """Let it run the TFLite `model` on `features`, as `IntegerRuntime` takes them; does not wait."""
        (self._folder / _MODEL).write_bytes(model)
        np.save(self._folder / _FEATURES, features)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.close()
        except BrokenPipeError:
            return  # It has ended already, and `logits` says why.

    def logits(self) -> StepArray:
        """What was asked for: int8 or int16 (n, classes). Raises KwsError if TensorFlow Lite cannot give it."""
        try:
            code = self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            said = (self._folder / _ERRORS).read_text(errors="replace").strip().splitlines()
            reason = said[-1].rstrip(".") if said else f"it ended with {code}"
            raise KwsError(f"TensorFlow Lite's reference kernels gave no answer ({reason}); run kws quantize again.")
        answer: StepArray = np.load(self._folder / _LOGITS)
        return answer

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            return


@contextmanager
def reference_process() -> Iterator[ReferenceProcess]:
    """A process that has begun to import TensorFlow; it ends with the block, whatever it is doing."""
    with tempfile.TemporaryDirectory(prefix="kws-reference-") as folder:
        process = ReferenceProcess(Path(folder))
        try:
            yield process
        finally:
            process.end()


def _answer(folder: Path) -> None:
    from quantize.runtimes import TfliteReferenceRuntime, load_tensorflow

    load_tensorflow()
    if sys.stdin.readline():
        reference = TfliteReferenceRuntime((folder / _MODEL).read_bytes())
        np.save(folder / _LOGITS, reference(np.load(folder / _FEATURES)))


if __name__ == "__main__":
    try:
        _answer(Path(sys.argv[1]))
    except KwsError as error:
        sys.exit(str(error))
