"""What the firmware of a model takes on emulated boards, as one Markdown table.

    python -m scripts.firmware_figures BUILD [--cmsis-dsp TREE --cmsis-core FOLDER]

BUILD is a folder of kws quantize. Instructions of the slowest of some frames, of an inference and of the detector
behind it; bytes of RAM and flash. TFLM_ROOT names a tree of TensorFlow Lite Micro with libraries for the cores;
without it inference is left out. With CMSIS-DSP there are rows for its FFT, too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.firmware_model import read_firmware_model
from export.headers import render_firmware
from kws.errors import KwsError
from kws.progress import note
from scripts import boards
from scripts.boards import BOARDS, US_PER_INSTRUCTION, Board
from scripts.markdown import table

NONE = "-"
HEADINGS = [
    *("core", "features", "instructions a frame", "an inference", "detector", "RAM of the front end, stack included"),
    *("ring of frames", "detector", "arena", "RAM in all", "flash in all", "of it model"),
]


@dataclass(frozen=True, kw_only=True)
class Build:
    """One program to measure: `kind` names its front end, `options` are CMake's."""

    board: Board
    kind: str
    options: tuple[str, ...] = ()


def builds(cmsis_dsp: Path | None, cmsis_core: Path | None) -> list[Build]:
    """Each board with its own front end, and with that of CMSIS-DSP where it is float."""
    found = []
    for board in BOARDS:
        found.append(Build(board=board, kind="int32" if board.is_fixed_point else "float"))
        if cmsis_dsp is not None and not board.is_fixed_point:
            options = ("-DKWS_FFT_CMSIS_DSP=ON", f"-DCMSIS_DSP_ROOT={cmsis_dsp}", f"-DCMSIS_CORE_INCLUDE={cmsis_core}")
            found.append(Build(board=board, kind="float, CMSIS-DSP", options=options))
    return found


def row(build: Build, firmware: Path, folder: Path, audio: Path, model_bytes: int) -> list[str]:
    """The cells under HEADINGS. Raises KwsError if it cannot be built or run."""
    tflm = None if build.board.is_fixed_point else boards.tflm_root()
    options = [*build.options, *([] if tflm is None else [f"-DTFLM_ROOT={tflm}"])]
    boards.build(firmware, folder, build.board, options)
    found = boards.figures(build.board, folder, audio)
    alone = boards.figures(build.board, folder, audio, program="kws_bench_frames")
    front_end = sum(alone[name] for name in ("frontend_state_bytes", "frontend_scratch_bytes", "stack_bytes"))
    cells = [build.board.core, build.kind, _instructions(found, "frame_slowest_us")]
    cells += [_instructions(found, "inference_us"), _instructions(found, "detector_us"), f"{front_end:,}"]
    cells += [f"{found['window_bytes']:,}", f"{found['detector_bytes']:,}"]
    if tflm is None:
        return [*cells, NONE, NONE, NONE, NONE]
    memory = boards.memory(folder / "kws_firmware")
    ram = memory.ram + found["stack_bytes"]
    return [*cells, f"{found['arena_bytes']:,}", f"{ram:,}", f"{memory.flash:,}", f"{model_bytes:,}"]


def _instructions(found: dict[str, int], name: str) -> str:
    return f"{round(found[name] / US_PER_INSTRUCTION):,}" if name in found else NONE


def figures_table(model: Path, cmsis_dsp: Path | None, cmsis_core: Path | None) -> str:
    """Raises KwsError if a tool is missing, the model has no features, or something cannot be built or run."""
    if missing := boards.missing_tools():
        raise KwsError(missing)
    config = read_firmware_model(model).features
    if config is None:
        raise KwsError(f"{model}: has no features, so there is no front end to measure; give a model of a checkpoint.")
    if boards.tflm_root() is None:
        note(boards.HOW_TO_GET_TFLM)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        render_firmware(model, folder / "firmware")
        audio = _write_noise(folder / "noise.wav", config.clip_samples * 2, config.sample_rate_hz)
        rows = []
        for index, build in enumerate(builds(cmsis_dsp, cmsis_core)):
            note(f"{build.board.core}, {build.kind}")
            rows.append(row(build, folder / "firmware", folder / str(index), audio, model.stat().st_size))
    return table(HEADINGS, rows)


def _write_noise(path: Path, samples: int, rate_hz: int) -> Path:
    import soundfile

    noise = np.random.default_rng(0).uniform(-0.5, 0.5, samples)
    soundfile.write(path, noise, rate_hz, subtype="PCM_16")
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("build", type=Path, metavar="BUILD", help="folder of kws quantize, or its .tflite")
    parser.add_argument("--cmsis-dsp", type=Path, metavar="TREE", help="source tree of CMSIS-DSP")
    parser.add_argument("--cmsis-core", type=Path, metavar="FOLDER", help="CMSIS/Core/Include")
    options = parser.parse_args()
    if (options.cmsis_dsp is None) != (options.cmsis_core is None):
        parser.error("--cmsis-dsp and --cmsis-core go together: give both or neither")
    model = options.build / "model.int8.tflite" if options.build.is_dir() else options.build
    try:
        print(figures_table(model, options.cmsis_dsp, options.cmsis_core))
    except KwsError as error:
        print(f"firmware_figures: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
