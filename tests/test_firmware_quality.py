"""The C code under other compilers' eyes: clang, clang-tidy, cppcheck, and a fuzzer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import tiny_tflite
from toolchains import require

from export.headers import render_firmware
from kws.config import FeatureConfig
from scripts import boards

pytestmark = pytest.mark.firmware

LABELS = ["_silence_", "_unknown_", "yes", "no"]
FUZZ_SECONDS = int(os.environ.get("KWS_FUZZ_SECONDS", "4"))
FIXED_POINT = "-DKWS_FIXED_POINT"
FUZZED = ("frontend.c", "features_float.c", "features_fixed.c", "fft_float.c", "window.c", "detector.c", "posteriors.c")
TABLES = ("feature_tables.cc", "detector_params.cc", "posterior_tables.cc")
CPPCHECK = ["--enable=warning,style,performance,portability", "--error-exitcode=1", "--inline-suppr", "--quiet"]
ODD_FEATURES = FeatureConfig(window_samples=401, hop_samples=399, clip_samples=2400, fft_size=1024, mel_bands=23)


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quality")
    render_firmware(tiny_tflite.write_tiny_build(folder / "build", LABELS), folder / "out")
    return folder / "out"


def sources(firmware: Path) -> list[str]:
    """All but what only a board compiles and what needs TensorFlow Lite Micro."""
    found = [*(firmware / "src").glob("*.c"), *(firmware / "platform/common").glob("*.c*")]
    return [str(path) for path in sorted([*found, *(firmware / "platform/host").glob("*.c")])]


def board_sources(firmware: Path) -> list[str]:
    return [str(path) for path in sorted((firmware / "platform").rglob("*.c")) if "host" not in path.parts]


@pytest.mark.parametrize("fixed_point", ["OFF", "ON"])
def test_clang_builds_everything_without_a_warning(firmware: Path, tmp_path: Path, fixed_point: str) -> None:
    require("clang++", "clang")
    require("cmake", "cmake make")
    clang = ["-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++", f"-DKWS_FIXED_POINT={fixed_point}"]
    assert (boards.build(firmware, tmp_path, None, clang) / "kws_features").is_file()


def clang_tidy(firmware: Path, build: Path, fixed_point: str) -> subprocess.CompletedProcess[str]:
    require("clang-tidy", "clang-tidy")
    require("cmake", "cmake make")
    options = ["-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", f"-DKWS_FIXED_POINT={fixed_point}"]
    subprocess.run(["cmake", "-S", firmware, "-B", build, *options], check=True, capture_output=True, timeout=120)
    command = ["clang-tidy", f"--config-file={firmware / 'clang-tidy.yaml'}", "-quiet", "-p", str(build)]
    return subprocess.run([*command, *sources(firmware)], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("fixed_point", ["OFF", "ON"])
def test_clang_tidy_has_nothing_to_say(firmware: Path, tmp_path: Path, fixed_point: str) -> None:
    done = clang_tidy(firmware, tmp_path / "b", fixed_point)
    assert done.returncode == 0, done.stdout


def cppcheck(firmware: Path, files: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    require("cppcheck", "cppcheck")
    folders = ("src", "generated", "platform/common", "platform/cortex-m")
    command = ["cppcheck", *CPPCHECK, f"--suppressions-list={firmware / 'cppcheck-suppressions.txt'}"]
    command += [*options, *(f"-I{firmware / folder}" for folder in folders), *files]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("option", ["-UKWS_FIXED_POINT", FIXED_POINT])
def test_cppcheck_has_nothing_to_say(firmware: Path, option: str) -> None:
    c_files = [name for name in [*sources(firmware), *board_sources(firmware)] if name.endswith(".c")]
    done = cppcheck(firmware, c_files, "--std=c99", option)
    assert done.returncode == 0, done.stderr
    cc_files = [str(path) for path in sorted(firmware.rglob("*.cc"))]
    done = cppcheck(firmware, cc_files, "--std=c++17", "--language=c++", "-DTF_LITE_STATIC_MEMORY", option)
    assert done.returncode == 0, done.stderr


def test_both_checkers_notice_a_mistake(firmware: Path, tmp_path: Path) -> None:
    wrong = Path(shutil.copytree(firmware, tmp_path / "wrong"))
    window = wrong / "src/window.c"
    text = window.read_text()
    old = "  int32_t oldest = window->next;\n"
    assert old in text
    window.write_text(text.replace(old, f"{old}  int32_t never[2];\n  if (never[1] == 3) oldest = never[2];\n"))
    assert clang_tidy(wrong, tmp_path / "b", "OFF").returncode != 0
    assert cppcheck(wrong, [str(window)], "--std=c99").returncode != 0


def fuzzer(firmware: Path, out: Path, flags: list[str]) -> Path:
    require("clang++", "clang")
    out.mkdir()
    sanitize = ["-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all", *flags]
    sanitize += [f"-I{firmware / folder}" for folder in ("src", "generated")]
    objects = []
    for source in [*(firmware / "src" / name for name in FUZZED), *(firmware / "generated" / name for name in TABLES)]:
        objects.append(str(out / f"{source.name}.o"))
        compiler = ["clang", "-std=c99"] if source.suffix == ".c" else ["clang++", "-std=c++17"]
        compile_here([*compiler, *sanitize, "-c", str(source), "-o", objects[-1]])
    target = Path(__file__).with_name("fuzz_firmware.cc")
    compile_here(["clang++", "-std=c++17", *sanitize, str(target), *objects, "-lm", "-o", str(out / "fuzzer")])
    return out / "fuzzer"


def compile_here(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def fuzz(program: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    options = [f"-max_total_time={seconds}", "-max_len=65536", "-seed=1", f"-artifact_prefix={program.parent}/"]
    return subprocess.run([program, *options], capture_output=True, text=True, timeout=seconds + 120)


@pytest.mark.parametrize("flags", [[], [FIXED_POINT]], ids=["float", "fixed point"])
@pytest.mark.parametrize("features", [tiny_tflite.FEATURES, ODD_FEATURES], ids=["usual", "odd"])
def test_a_fuzzer_finds_nothing(tmp_path: Path, flags: list[str], features: FeatureConfig) -> None:
    model = tiny_tflite.write_tiny_build(tmp_path / "build", LABELS, features)
    render_firmware(model, tmp_path / "out")
    done = fuzz(fuzzer(tmp_path / "out", tmp_path / "f", flags), FUZZ_SECONDS)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "DONE" in done.stderr


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("frontend.c", "count < wanted ? count : wanted", "count"),
        ("detector.c", "if (state->count == kDetectorCapacity) {", "if (0) {"),
        ("features_fixed.c", "v[i] >>= 2;", "v[i] >>= 0;"),
    ],
    ids=["block beyond the state", "ring beyond its end", "overflow"],
)
def test_the_fuzzer_finds_a_mistake(firmware: Path, tmp_path: Path, file: str, old: str, new: str) -> None:
    wrong = Path(shutil.copytree(firmware, tmp_path / "wrong"))
    text = (wrong / "src" / file).read_text()
    assert old in text
    (wrong / "src" / file).write_text(text.replace(old, new, 1))
    program = fuzzer(wrong, tmp_path / "f", [FIXED_POINT])
    assert fuzz(program, 120).returncode != 0, "it stops at the first finding, on a busy machine later"
