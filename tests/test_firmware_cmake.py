"""Configuring the firmware: each way to link the wrong library of TensorFlow Lite Micro is a sentence with its mend."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tiny_tflite
from front_end import python_features, rounding_bound, signals
from test_boards import write_wav
from toolchains import require

from export.headers import render_firmware
from kws.errors import KwsError
from scripts import boards

pytestmark = pytest.mark.firmware

GOOD_SYMBOLS = ("_ZN6tflite16MicroInterpreter6InvokeEv", "_Z11MicroPrintfPKcz", "arm_convolve_wrapper_s8")
HEADERS = (
    "tensorflow/lite/micro/micro_interpreter.h",
    "tensorflow/lite/micro/tools/make/downloads/flatbuffers/include/flatbuffers/flatbuffers.h",
    "tensorflow/lite/micro/tools/make/downloads/gemmlowp/fixedpoint/fixedpoint.h",
)
M4_FOLDER = "cortex_m_generic_cortex-m4+fp_default_cmsis_nn_gcc"
M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard")


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cmake")
    render_firmware(tiny_tflite.write_tiny_build(folder / "build", ["_silence_", "_unknown_", "yes"]), folder / "out")
    return folder / "out"


def tree(
    root: Path, symbols: tuple[str, ...] = GOOD_SYMBOLS, flags: tuple[str, ...] = M4, name: str = M4_FOLDER
) -> Path:
    """What CMake looks at of a tree of TFLM: headers by name, and a library by its symbols and attributes."""
    for tool, packages in boards.TOOLS.items():
        require(tool, packages)
    for header in HEADERS:
        (root / header).parent.mkdir(parents=True, exist_ok=True)
        (root / header).touch()
    library = root / f"gen/{name}/lib/libtensorflow-microlite.a"
    library.parent.mkdir(parents=True)
    source, target = root / f"{name}.c", root / f"{name}.o"
    source.write_text("".join(f"int {symbol}(void) {{ return 0; }}\n" for symbol in symbols))
    subprocess.run(["arm-none-eabi-gcc", *flags, "-c", source, "-o", target], check=True, timeout=60)
    subprocess.run(["arm-none-eabi-ar", "rcs", library, target], check=True, timeout=60)
    return root


def configure(firmware: Path, build: Path, root: Path, *options: str) -> str:
    """What CMake complains of, on one line; empty if it does not."""
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={firmware}/cmake/cortex-m4f.cmake"
    command = ["cmake", "-S", str(firmware), "-B", str(build), f"-DTFLM_ROOT={root}", toolchain]
    done = subprocess.run(
        [*command, "-DKWS_PLATFORM=mps2-an386", *options], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode != 0) == ("CMake Error" in done.stderr)
    return " ".join(done.stderr.split()) if done.returncode else ""


def test_a_library_that_fits_is_taken(firmware: Path, tmp_path: Path) -> None:
    assert configure(firmware, tmp_path / "b", tree(tmp_path / "tflm")) == ""


MISFITS = {
    "no interpreter": (GOOD_SYMBOLS[1:], M4, (), "has no MicroInterpreter"),
    "other tensors": ((*GOOD_SYMBOLS, "TfLiteTensorFree"), M4, (), "was built without TF_LITE_STATIC_MEMORY"),
    "no CMSIS-NN": (GOOD_SYMBOLS[:2], M4, (), "has no CMSIS-NN kernels: build it again"),
    "CMSIS-NN unused": (GOOD_SYMBOLS, M4, ("-DTFLM_CMSIS_NN=OFF",), "configure with -DTFLM_CMSIS_NN=ON"),
    "strings": (GOOD_SYMBOLS, M4, ("-DTFLM_RELEASE=ON",), "configure with -DTFLM_RELEASE=OFF"),
    "no strings": ((GOOD_SYMBOLS[0], GOOD_SYMBOLS[2]), M4, (), "configure with -DTFLM_RELEASE=ON"),
    "other core": (GOOD_SYMBOLS, ("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard"), (), "Tag_CPU_arch is v8.1-M"),
    "soft float": (GOOD_SYMBOLS, ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=soft"), (), "Tag_ABI_VFP_args is none"),
    "enumerations": (GOOD_SYMBOLS, (*M4, "-fno-short-enums"), (), "Tag_ABI_enum_size is int"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_library_that_does_not_fit_is_a_sentence(firmware: Path, tmp_path: Path, name: str) -> None:
    symbols, flags, options, message = MISFITS[name]
    library = "-DTFLM_LIBRARY=" + str(tmp_path / f"tflm/gen/{M4_FOLDER}/lib/libtensorflow-microlite.a")
    said = configure(firmware, tmp_path / "b", tree(tmp_path / "tflm", symbols, flags), library, *options)
    assert message in said


def test_a_library_of_another_machine_is_a_sentence(firmware: Path, tmp_path: Path) -> None:
    library = tree(tmp_path / "tflm") / f"gen/{M4_FOLDER}/lib/libtensorflow-microlite.a"
    options = ["-DTFLM_CMSIS_NN=ON", f"-DTFLM_LIBRARY={library}", f"-DTFLM_ROOT={tmp_path / 'tflm'}"]
    with pytest.raises(KwsError, match=r"Machine\s+is\s+ARM"):
        boards.build(firmware, tmp_path / "b", None, options)


def test_of_several_libraries_that_of_the_core_is_taken(firmware: Path, tmp_path: Path) -> None:
    root = tmp_path / "tflm"
    m55 = ("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard")
    tree(root, flags=m55, name="cortex_m_generic_cortex-m55_release_cmsis_nn_gcc")
    tree(root)
    assert configure(firmware, tmp_path / "b", root) == ""
    assert "cortex-m4+fp" in (tmp_path / "b/CMakeCache.txt").read_text()
    tree(root, name="cortex_m_generic_cortex-m4+fp_release_cmsis_nn_gcc")
    assert "No libtensorflow-microlite.a for this core, or more than one" in configure(firmware, tmp_path / "c", root)


def test_a_missing_header_is_named(firmware: Path, tmp_path: Path) -> None:
    root = tree(tmp_path / "tflm")
    (root / HEADERS[1]).unlink()
    assert "TFLM_FLATBUFFERS_INCLUDE is not found" in configure(firmware, tmp_path / "b", root)


def test_a_board_refuses_the_flags_of_another(firmware: Path, tmp_path: Path) -> None:
    root = tree(tmp_path / "tflm")
    said = configure(firmware, tmp_path / "b", root, "-DKWS_PLATFORM=mps3-an547")
    assert "mps3-an547 has a cortex-m55" in said and "cmake/cortex-m55.cmake" in said


def test_an_unknown_platform_is_a_sentence(firmware: Path, tmp_path: Path) -> None:
    root = tree(tmp_path / "tflm")
    assert "There is no platform/toaster" in configure(firmware, tmp_path / "b", root, "-DKWS_PLATFORM=toaster")


def test_cmsis_dsp_that_is_not_there_is_a_sentence(firmware: Path, tmp_path: Path) -> None:
    root = tree(tmp_path / "tflm")
    said = configure(firmware, tmp_path / "b", root, "-DKWS_FFT_CMSIS_DSP=ON")
    assert "CMSIS_DSP_ROOT has no Include/dsp/transform_functions.h" in said
    both = configure(firmware, tmp_path / "c", root, "-DKWS_FFT_CMSIS_DSP=ON", "-DKWS_FIXED_POINT=ON")
    assert "serves the float build only" in both


def test_the_fft_of_cmsis_dsp_gives_the_training_features(firmware: Path, tmp_path: Path) -> None:
    root = os.environ.get("CMSIS_DSP_ROOT")
    if not root:
        pytest.skip("CMSIS_DSP_ROOT is not set: git clone https://github.com/ARM-software/CMSIS-DSP and set it to that")
    require("cmake", "cmake make")
    options = ["-DKWS_FFT_CMSIS_DSP=ON", f"-DCMSIS_DSP_ROOT={root}"]
    folder = boards.build(firmware, tmp_path / "b", None, options)
    samples = signals()["chirp in a room"]
    lines = boards.run_here(folder / "kws_features", write_wav(tmp_path / "a.wav", samples)).splitlines()
    found = np.array([[float(value) for value in line.split()] for line in lines])
    wanted, steps = python_features(samples, tiny_tflite.FEATURES)
    assert (np.abs(found[:, :40] - wanted) <= rounding_bound(wanted)).all()
    assert (found[:, 40:] == steps).mean() >= 0.999
