"""Builds rendered firmware for emulated Cortex-M boards with CMake, and runs it there under QEMU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kws.errors import KwsError

TOOLS = {
    "cmake": "cmake make",
    "arm-none-eabi-g++": "gcc-arm-none-eabi libnewlib-arm-none-eabi libstdc++-arm-none-eabi-newlib",
    "qemu-system-arm": "qemu-system-arm",
}
# With 2**10 ns an instruction, the largest that QEMU has, a clock of microseconds tells single instructions.
ICOUNT_SHIFT = 10
US_PER_INSTRUCTION = 2**ICOUNT_SHIFT / 1000
_BUILD_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class Board:
    """`platform` is a folder of the firmware's platform/ and the name of QEMU's machine."""

    platform: str
    toolchain: str
    core: str
    is_fixed_point: bool = False


M4F = Board(platform="mps2-an386", toolchain="cortex-m4f", core="Cortex-M4F")
M55 = Board(platform="mps3-an547", toolchain="cortex-m55", core="Cortex-M55")
M0PLUS = Board(platform="microbit", toolchain="cortex-m0plus", core="Cortex-M0+", is_fixed_point=True)
BOARDS = (M4F, M55, M0PLUS)


def missing_tools() -> str:
    """A sentence that names what to install, empty if nothing is missing."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if not missing:
        return ""
    packages = " ".join(TOOLS[tool] for tool in missing)
    return f"{', '.join(missing)}: not found; install the Debian packages {packages}."


def build(firmware: Path, out: Path, board: Board | None, options: Sequence[str] = (), target: str = "all") -> Path:
    """Configure and build the folder `firmware` in `out`, for this machine if `board` is None; returns `out`.

    Raises KwsError with what CMake or the compiler says.
    """
    command = ["cmake", "-S", str(firmware), "-B", str(out), "-DKWS_WERROR=ON", *options]
    if board is not None:
        command += [f"-DKWS_PLATFORM={board.platform}"]
        command += [f"-DCMAKE_TOOLCHAIN_FILE={firmware / 'cmake' / board.toolchain}.cmake"]
    for step in (command, ["cmake", "--build", str(out), "--target", target]):
        done = subprocess.run(step, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
        if done.returncode != 0:
            raise KwsError(f"{' '.join(step)}: {done.stdout[-4000:]}{done.stderr[-4000:]}")
    return out


def run(board: Board, program: Path, audio: Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run `program` on `audio` (WAV) under QEMU; its standard output is what the board wrote. One instruction takes
    2**10 ns of the board's time."""
    command = ["qemu-system-arm", "-M", board.platform, "-display", "none", "-monitor", "none", "-serial", "none"]
    command += ["-icount", f"shift={ICOUNT_SHIFT},sleep=off,align=off", "-chardev", "stdio,id=out"]
    # A comma ends an option of QEMU; two are one.
    argument = str(audio).replace(",", ",,")
    command += ["-semihosting-config", f"enable=on,target=native,chardev=out,arg=kws,arg={argument}"]
    return subprocess.run(
        [*command, "-kernel", str(program)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def run_here(program: Path, audio: Path) -> str:
    """The same with a program that was built for this machine; what it wrote. Raises KwsError if it fails."""
    done = subprocess.run([str(program), str(audio)], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise KwsError(f"{program}: {done.stderr}")
    return done.stdout


def figures(board: Board, build_folder: Path, audio: Path, program: str = "kws_bench") -> dict[str, int]:
    """What kws_bench prints: name -> value; kws_bench_frames leaves out inference. Raises KwsError if it fails."""
    done = run(board, build_folder / program, audio, timeout_s=600)
    if done.returncode != 0:
        raise KwsError(f"{build_folder / program} on {board.platform}: {done.stdout}{done.stderr}")
    return {name: int(value) for name, value in (line.split(" ") for line in done.stdout.splitlines())}


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that a program takes: constants and code in flash, variables without the stack in RAM."""

    flash: int
    ram: int


def memory(program: Path) -> Memory:
    done = subprocess.run(["arm-none-eabi-size", str(program)], capture_output=True, text=True, check=True)
    text, data, bss = map(int, done.stdout.splitlines()[1].split()[:3])
    return Memory(flash=text + data, ram=data + bss)


def map_addresses(map_file: Path, section: str) -> dict[str, int]:
    """Name -> address of each input section `section`.NAME that the linker kept, from its map file.

    Compile with -fdata-sections, which names sections after their variables.
    """
    text = map_file.read_text(encoding="utf-8")
    kept = text[text.index("Linker script and memory map") :]
    found = re.findall(rf"^ {re.escape(section)}\.(\w+)\s+0x([0-9a-f]+)\s+0x[0-9a-f]+ ", kept, re.MULTILINE)
    return {name: int(address, 16) for name, address in found}


def map_memories(map_file: Path) -> dict[str, range]:
    """The memories of the linker script: name -> addresses."""
    lines = re.findall(
        r"^(\w+)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)\s+\w+$", map_file.read_text(encoding="utf-8"), re.MULTILINE
    )
    return {name: range(int(start, 16), int(start, 16) + int(size, 16)) for name, start, size in lines}


def tflm_root() -> Path | None:
    """The tree of TensorFlow Lite Micro that TFLM_ROOT names, None if it is not set."""
    root = os.environ.get("TFLM_ROOT")
    return Path(root) if root else None


HOW_TO_GET_TFLM = (
    "TFLM_ROOT is not set: git clone https://github.com/tensorflow/tflite-micro; in it run make -f "
    "tensorflow/lite/micro/tools/make/Makefile TARGET=cortex_m_generic TARGET_ARCH=cortex-m4+fp "
    "OPTIMIZED_KERNEL_DIR=cmsis_nn microlite, the same with TARGET_ARCH=cortex-m55, and set TFLM_ROOT to it"
)
