"""C and C++ compilers for the tests: each either compiles without a warning or skips, naming what to install."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

WARNINGS = [
    *("-Wall", "-Wextra", "-Werror", "-Wpedantic", "-Wconversion", "-Wdouble-promotion"),
    *("-Wshadow", "-Wmissing-declarations"),
]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
TFLM_FLAGS = ["-DTF_LITE_STATIC_MEMORY", "-DCMSIS_NN", "-fno-rtti", "-fno-exceptions", "-fno-threadsafe-statics"]
TFLM_API_SUBSET = Path(__file__).parent / "tflm_api_subset"


@dataclass(frozen=True)
class Toolchain:
    c: str
    cxx: str
    flags: tuple[str, ...]
    packages: str


HOST = Toolchain("gcc", "g++", (), "gcc g++")
ARM = Toolchain(
    "arm-none-eabi-gcc",
    "arm-none-eabi-g++",
    ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
    "gcc-arm-none-eabi libnewlib-arm-none-eabi libstdc++-arm-none-eabi-newlib",
)


def require(tool: str, packages: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is missing: install the Debian packages {packages}")


def compile_object(
    toolchain: Toolchain, source: Path, includes: list[Path], out: Path, flags: tuple[str, ...] = ()
) -> Path:
    """Compile one file as C99 or C++17, by its suffix, with every warning an error."""
    require(toolchain.cxx, toolchain.packages)
    is_c = source.suffix == ".c"
    command = [toolchain.c, "-std=c99"] if is_c else [toolchain.cxx, "-std=c++17", *TFLM_FLAGS]
    command += [*toolchain.flags, *WARNINGS, "-O1", *flags, *(f"-I{folder}" for folder in includes)]
    target = out / f"{source.parent.name}_{source.name}.o"
    _run([*command, "-isystem", str(TFLM_API_SUBSET), "-c", str(source), "-o", str(target)])
    return target


def host_program(sources: list[Path], includes: list[Path], out: Path, flags: tuple[str, ...] = ()) -> Path:
    """Compile and link a program for this machine, with the address and undefined behaviour sanitizers in it."""
    out.mkdir(parents=True, exist_ok=True)
    objects = [compile_object(HOST, source, includes, out, (*SANITIZERS, *flags)) for source in sources]
    program = out / "program"
    _run([HOST.cxx, *SANITIZERS, *map(str, objects), "-lm", "-o", str(program)])
    return program


def run_program(program: Path, *arguments: str | Path, stdin: bytes = b"") -> bytes:
    done = subprocess.run([str(program), *map(str, arguments)], input=stdin, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
