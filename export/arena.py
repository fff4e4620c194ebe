"""How much memory TFLM's interpreter needs for a model: asked of TFLM itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from export.arena_32_bit import arena_on
from export.tflite_reader import parse_tflite
from kws.errors import KwsError

ARENA_ALIGNMENT_BYTES = 16
# More than any microcontroller has beside its program.
LARGEST_ARENA_BYTES = 32 << 20
# On the host a pointer has 8 bytes, on the target 4: a node takes 64 bytes here and about half of that there, so the
# host's figure is the larger one by 10 to 19 % for BC-ResNet-1. CMSIS-NN asks for scratch buffers that the host's
# kernels do not have: 4.5 kB more for the MLPerf Tiny DS-CNN on Cortex-M55 than on Cortex-M4, 2.4 kB for BC-ResNet-1.
# Small models have few nodes to make up for it, hence a margin that does not shrink with the model.
ARENA_MARGIN_BYTES = 4096

# What another version of TFLM may need more than the one that export.arena_32_bit was written after.
CORE_ARENA_MARGIN_BYTES = 1024
ARENA_CORES = ("cortex_m4", "cortex_m55")

_PROBE = Path(__file__).with_name("arena_probe.py")
_PROBE_SECONDS = 60
_GROWTH = 1.03


def measure_arena_bytes(model: bytes, source: str = "the model") -> int:
    """The arena (bytes, a multiple of 16) that TFLM's interpreter needs for `model` on this 64-bit host.

    `model` must have passed `export.tflite_reader.parse_tflite`; `source` names it in the error.
    Raises KwsError if TFLM refuses the model, crashes on it, or needs more than 32 MiB.
    """
    report = _probe(model, LARGEST_ARENA_BYTES)
    total = None if report is None else re.search(r"Arena allocation total (\d+) bytes", report)
    if total is None:
        raise KwsError(
            f"{source}: TensorFlow Lite Micro cannot run it within {LARGEST_ARENA_BYTES >> 20} MiB of memory; "
            "convert the model with kws quantize."
        )
    arena_bytes = _aligned(int(total[1]))
    # What TFLM reports leaves out the memory that planning needs for a moment.
    while arena_bytes < LARGEST_ARENA_BYTES and _probe(model, arena_bytes) is None:
        arena_bytes = _aligned(int(arena_bytes * _GROWTH))
    return arena_bytes


def firmware_arena_bytes(measured_bytes: int) -> int:
    """What the firmware sets aside: the measured arena and a margin, a multiple of 16 bytes."""
    return _aligned(measured_bytes + ARENA_MARGIN_BYTES)


def core_arena_bytes(core: str, model: bytes) -> int:
    """What the firmware sets aside on `core` ("cortex_m4", "cortex_m55"), with CMSIS-NN: computed, and a margin."""
    needed_bytes: int = arena_on(core, parse_tflite(model, "the model")).needed
    return _aligned(needed_bytes + CORE_ARENA_MARGIN_BYTES)


def core_arena_least_bytes(core: str, model: bytes) -> int:
    """What the loaded model takes on `core`: in a smaller arena it cannot run."""
    return arena_on(core, parse_tflite(model, "the model")).used


def _probe(model: bytes, arena_bytes: int) -> str | None:
    """TFLM's allocation report for `model` in an arena of `arena_bytes`; None if it does not run in there."""
    try:
        done = subprocess.run(
            [sys.executable, str(_PROBE), str(arena_bytes)],
            input=model,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return (done.stdout + done.stderr).decode("utf-8", "replace") if done.returncode == 0 else None


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ARENA_ALIGNMENT_BYTES) * ARENA_ALIGNMENT_BYTES
