"""Packages for boards: they are whole, their manifests keep to specifications, sources compile, and the ring works."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import kconfiglib
import numpy as np
import pytest
import tiny_tflite
import toolchains
import yaml
from conftest import Kws
from toolchains import ARM, compile_object, host_program, run_program

from export.board_package import BOARD_PACKAGES, package_notes, registrations
from export.firmware_model import read_firmware_model
from export.headers import GENERATED_FOLDER, TARGETS, render_firmware
from kws import __version__
from kws.commands import headers as headers_command
from kws.detector import DetectorParams
from kws.errors import KwsError

# Labels are names of folders: none of this may reach a manifest.
LABELS = ["_silence_", "_unknown_", 'yes"\nname=evil', "${version}; rm"]
TESTS = Path(__file__).parent
API = TESTS / "board_api_subset"
PACKAGES = sorted(BOARD_PACKAGES)
INCLUDES = {
    "esp-idf": ("src", "generated", "include"),
    "zephyr": ("src", "generated", "include"),
    "arduino": ("src",),
    "platformio": ("lib/kws_firmware/src",),
}
SDKS = {"esp-idf": "esp-idf", "zephyr": "zephyr", "arduino": "arduino", "platformio": "arduino"}
# The tests' flags for TFLM are those of CMake; the packages say for themselves what their TFLM demands.
OWN_FLAGS = ("-UTF_LITE_STATIC_MEMORY", "-UCMSIS_NN")
FLAGS = {
    "esp-idf": ("-UCMSIS_NN", "-DKWS_REFERENCE_KERNELS"),
    "zephyr": (*OWN_FLAGS, "-DCMSIS_NN", "-DCONFIG_KWS_ARENA_BYTES=0"),
    "arduino": (*OWN_FLAGS, "-DARDUINO=10607"),
    "platformio": (*OWN_FLAGS, "-DARDUINO=10607"),
}
SEMVER = re.compile(r"\d+\.\d+\.\d+")
RING_SAMPLES = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tflite.write_tiny_build(tmp_path_factory.mktemp("build"), LABELS)


class Packages(dict[str, Path]):
    """The folder of each target, cmake included, rendered when first asked for. Not to be changed."""

    def __init__(self, model: Path, folder: Path) -> None:
        super().__init__()
        self.model, self.folder = model, folder

    def __missing__(self, target: str) -> Path:
        out = self.folder / target
        written = render_firmware(self.model, out, target=target)
        assert written == sorted(path for path in out.rglob("*") if path.is_file())
        self[target] = out
        return out


@pytest.fixture(scope="module")
def packages(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    return Packages(model, tmp_path_factory.mktemp("packages"))


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names(folder)}


def test_the_command_offers_every_target() -> None:
    assert headers_command.TARGETS == TARGETS


def test_the_command_makes_a_package_and_says_what_comes_next(kws: Kws, model: Path, tmp_path: Path) -> None:
    done = kws("headers", model, "--out", tmp_path / "out", "--target", "arduino")
    assert "For Nano 33 BLE Sense; README.md there says what to install. Then: arduino-cli compile" in done.stdout
    assert (tmp_path / "out/library.properties").is_file()
    refused = kws("headers", model, "--out", tmp_path / "other", "--target", "mbed", check=False)
    assert (refused.returncode, (tmp_path / "other").exists()) == (2, False)


@pytest.mark.parametrize("target", PACKAGES)
def test_a_package_has_all_sources_and_generated_files_of_the_cmake_folder(
    packages: dict[str, Path], target: str
) -> None:
    package = BOARD_PACKAGES[target]
    for source in [*(packages["cmake"] / "src").iterdir(), *(packages["cmake"] / GENERATED_FOLDER).iterdir()]:
        is_generated = source.parent.name == GENERATED_FOLDER
        place = package.generated_path(source.name) if is_generated else package.source_path(source.name)
        if source.name != "op_resolver.h":
            assert (packages[target] / place).read_bytes() == source.read_bytes()
    assert (packages[target] / "README.md").is_file()
    assert not [name for name in names(packages[target]) if name.endswith(".j2")]


def test_the_cmake_folder_has_nothing_of_the_packages(packages: dict[str, Path]) -> None:
    found = names(packages["cmake"])
    assert not [name for name in found if name.startswith("targets/")]
    assert not {Path(name).name for name in found} & {
        "board_config.h",
        "board_params.h",
        "audio_ring.c",
        "kws_firmware.h",
    }


@pytest.mark.parametrize("target", PACKAGES)
def test_rendering_again_keeps_edits_and_renews_what_is_generated(
    packages: dict[str, Path], model: Path, tmp_path: Path, target: str
) -> None:
    package = BOARD_PACKAGES[target]
    out = Path(shutil.copytree(packages[target], tmp_path / "out"))
    (out / package.source_path("microphone.c")).write_text("/* mine */\n")
    (out / package.mark).write_text("mine")
    (out / package.generated_path("labels.cc")).write_text("stale")
    (out / "README.md").unlink()
    render_firmware(model, out, target=target)
    wanted = contents(packages[target])
    wanted |= {package.source_path("microphone.c").as_posix(): b"/* mine */\n", package.mark.as_posix(): b"mine"}
    assert contents(out) == wanted


@pytest.mark.parametrize(
    ("made", "wanted"), [(made, wanted) for made in TARGETS for wanted in TARGETS if made != wanted]
)
def test_a_folder_made_for_another_target_is_refused(
    packages: dict[str, Path], model: Path, made: str, wanted: str
) -> None:
    before = names(packages[made])
    with pytest.raises(
        KwsError, match=f"was made for target {made}; choose a new folder for {wanted}, or target {made}"
    ):
        render_firmware(model, packages[made], target=wanted)
    assert names(packages[made]) == before


def test_a_model_without_features_has_no_package(tmp_path: Path) -> None:
    data = tiny_tflite.tiny_model(3)
    manifest = tiny_tflite.tiny_manifest(data, ["a", "b", "c"])
    del manifest["features"]
    model = tiny_tflite.write_build(tmp_path / "build", data, manifest)
    with pytest.raises(KwsError, match=r"has no features, so no microphone can feed it; choose target cmake\.$"):
        render_firmware(model, tmp_path / "out", target="arduino")
    assert not (tmp_path / "out").exists()


def test_an_unknown_target_is_a_sentence(model: Path, tmp_path: Path) -> None:
    with pytest.raises(KwsError, match=r"choose one of cmake, esp-idf, zephyr, arduino, platformio\.$"):
        render_firmware(model, tmp_path / "out", target="mbed")


def test_an_op_that_the_arduino_library_lacks_is_a_sentence(model: Path) -> None:
    found = replace(read_firmware_model(model), registrations=["AddBatchMatMul(tflite::Register_BATCH_MATMUL_INT8())"])
    with pytest.raises(KwsError, match="for Nano 33 BLE Sense has no BatchMatMul"):
        registrations(BOARD_PACKAGES["arduino"], found)
    assert registrations(BOARD_PACKAGES["zephyr"], found) == found.registrations


@pytest.mark.parametrize(("target", "call"), [("zephyr", "tflite::Register_FULLY_CONNECTED_INT8()"), ("arduino", "")])
def test_kernels_for_one_type_are_named_only_where_they_surely_are(
    packages: dict[str, Path], target: str, call: str
) -> None:
    text = (packages[target] / BOARD_PACKAGES[target].generated_path("op_resolver.h")).read_text()
    assert f"resolver.AddFullyConnected({call})" in text


def test_the_arduino_package_brings_the_add_that_its_library_lacks(model: Path) -> None:
    found = replace(read_firmware_model(model), registrations=["AddAdd()", "AddCast()"])
    assert registrations(BOARD_PACKAGES["arduino"], found) == ["AddAdd(kws::RegisterAdd())", "AddCast()"]
    assert registrations(BOARD_PACKAGES["esp-idf"], found) == ["AddAdd()", "AddCast()"]


def test_the_add_of_the_arduino_package_adds_a_number_to_numbers_and_leaves_the_rest_to_the_library(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    folder = packages["arduino"] / "src"
    sources = [TESTS / "add_numbers_check.cc", folder / "add_numbers.cpp"]
    program = host_program(sources, [folder, API / "arduino", toolchains.TFLM_API_SUBSET], tmp_path)
    lines = run_program(program).decode().splitlines()
    assert lines == ["1 7 7 7", "1 7 7 7", "library", "0 7 7 7", "0 0 128 255"]


@pytest.mark.parametrize("target", PACKAGES)
def test_the_arena_is_the_largest_of_all_cores(packages: dict[str, Path], target: str) -> None:
    package = BOARD_PACKAGES[target]
    params = (packages[target] / package.generated_path("model_params.h")).read_text()
    board = (packages[target] / package.generated_path("board_params.h")).read_text()
    arenas = [int(found) for found in re.findall(r"kArenaBytes = (\d+)", params)]
    assert f"#define KWS_BOARD_ARENA_BYTES {max(arenas)}\n" in board


def test_a_stride_shorter_than_an_inference_is_told(model: Path) -> None:
    found = read_firmware_model(model)
    board = replace(BOARD_PACKAGES["arduino"], clock_hz=1000)
    least_ms = int(re.search(r"at least (\d+) ms", "\n".join(package_notes(board, found, DetectorParams())))[1])
    assert least_ms > 1000
    enough = DetectorParams(stride_ms=least_ms, smoothing_ms=2 * least_ms)
    assert "samples will be lost" in package_notes(board, found, replace(enough, stride_ms=least_ms - 1))[-1]
    assert "samples will be lost" not in package_notes(board, found, enough)[-1]


@pytest.mark.parametrize("target", PACKAGES)
def test_no_label_reaches_a_manifest(packages: dict[str, Path], target: str) -> None:
    for name, data in contents(packages[target]).items():
        if not name.endswith((".c", ".cc", ".cpp", ".h")):
            assert b"evil" not in data, name
            assert b"rm" not in re.findall(rb"\w+", data), name


def sources(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*") if path.suffix in (".c", ".cc", ".cpp"))


@pytest.mark.parametrize("target", PACKAGES)
def test_every_source_compiles_for_cortex_m4_without_a_warning(
    packages: dict[str, Path], tmp_path: Path, target: str
) -> None:
    package = packages[target]
    includes = [*(package / folder for folder in INCLUDES[target]), API / SDKS[target]]
    sketches = []
    for sketch in package.rglob("*.ino"):
        # As the Arduino tools make C++ of a sketch.
        copy = tmp_path / f"{sketch.stem}.cpp"
        copy.write_text(f"#include <Arduino.h>\n{sketch.read_text()}")
        sketches.append(copy)
    for source in [*sources(package), *sketches]:
        # That of the core for the Nano.
        standard = ("-std=gnu++14",) if SDKS[target] == "arduino" and source.suffix == ".cpp" else ()
        compile_object(ARM, source, includes, tmp_path, (*FLAGS[target], *standard))


def test_an_arduino_build_without_its_library_header_is_noticed(packages: dict[str, Path], tmp_path: Path) -> None:
    package = Path(shutil.copytree(packages["arduino"], tmp_path / "package"))
    (package / "src/board_config.h").unlink()
    with pytest.raises(AssertionError, match="Define TF_LITE_STATIC_MEMORY"):
        compile_object(ARM, package / "src/inference.cpp", [package / "src"], tmp_path, OWN_FLAGS)


@pytest.mark.parametrize("target", ["esp-idf", "zephyr"])
def test_cmake_lists_every_source_once(packages: dict[str, Path], target: str) -> None:
    package = packages[target]
    listed = re.findall(r"\b(?:src|generated)/\w+\.cc?\b", (package / "CMakeLists.txt").read_text())
    present = {name for name in names(package) if re.fullmatch(r"(src|generated)/\w+\.cc?", name)}
    assert sorted(listed) == sorted(present)


def test_the_component_manifest_names_version_and_dependencies(packages: dict[str, Path]) -> None:
    manifest = yaml.safe_load((packages["esp-idf"] / "idf_component.yml").read_text())
    assert manifest["version"] == __version__
    assert SEMVER.match(__version__)
    assert set(manifest) <= {"version", "description", "dependencies", "targets"}
    assert set(manifest["dependencies"]) == {"idf", "espressif/esp-tflite-micro"}


def test_the_zephyr_module_names_what_is_there(packages: dict[str, Path]) -> None:
    package = packages["zephyr"]
    module = yaml.safe_load((package / "zephyr/module.yml").read_text())
    assert set(module) == {"name", "build", "samples"}
    assert (package / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    assert (package / module["build"]["kconfig"]).is_file()
    assert all((package / sample).is_dir() for sample in module["samples"])
    sample = yaml.safe_load((package / "samples/xiao_ble_sense/sample.yaml").read_text())
    assert all(test["build_only"] for test in sample["tests"].values())


def kconfig(package: Path, folder: Path, symbols: tuple[str, ...]) -> object:
    """The package's Kconfig below a file that has the `symbols` of an SDK."""
    given = "".join(f'config {symbol}\n\tbool "{symbol}"\n' for symbol in symbols)
    (folder / "Kconfig").write_text(f'{given}osource "{package}/Kconfig"\n')
    return kconfiglib.Kconfig(str(folder / "Kconfig"), warn_to_stderr=False)


ZEPHYR_SYMBOLS = ("CPP", "TENSORFLOW_LITE_MICRO", "AUDIO", "AUDIO_DMIC", "STD_CPP17", "FPU")


def test_the_zephyr_options_depend_on_what_they_need(packages: dict[str, Path], tmp_path: Path) -> None:
    config = kconfig(packages["zephyr"], tmp_path, ZEPHYR_SYMBOLS)
    assert not config.warnings
    config.load_config(str(packages["zephyr"] / "samples/xiao_ble_sense/prj.conf"))
    names = ("KWS", "KWS_DMIC", "KWS_ARENA_BYTES")
    assert [config.syms[name].str_value for name in names] == ["y", "y", "0"]
    for needed, option in (("CPP", "KWS"), ("TENSORFLOW_LITE_MICRO", "KWS"), ("AUDIO_DMIC", "KWS_DMIC")):
        config.syms[needed].set_value("n")
        assert config.syms[option].str_value == "n"
        config.syms[needed].set_value("y")


def test_the_component_options_are_the_pins_of_the_board(packages: dict[str, Path], tmp_path: Path) -> None:
    config = kconfig(packages["esp-idf"], tmp_path, ())
    assert not config.warnings
    values = {name: config.syms[name].str_value for name in ("KWS_PDM_CLK_GPIO", "KWS_PDM_DATA_GPIO")}
    assert values == {"KWS_PDM_CLK_GPIO": "42", "KWS_PDM_DATA_GPIO": "41"}


@pytest.mark.parametrize("target", ["esp-idf", "zephyr"])
def test_every_option_that_is_read_is_one_that_can_be_set(
    packages: dict[str, Path], tmp_path: Path, target: str
) -> None:
    known = set(kconfig(packages[target], tmp_path, ZEPHYR_SYMBOLS).syms)
    text = b"\n".join(data for name, data in contents(packages[target]).items() if not name.endswith(".md"))
    read = {found.decode() for found in re.findall(rb"CONFIG_(KWS\w*)", text)}
    assert "KWS_ARENA_BYTES" in read
    assert read <= known


ARDUINO_FIELDS = (
    "name",
    "version",
    "author",
    "maintainer",
    "sentence",
    "paragraph",
    "category",
    "url",
    "architectures",
)
ARDUINO_CATEGORIES = (
    *("Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing", "Data Storage"),
    *("Data Processing", "Other", "Uncategorized"),
)


def test_the_arduino_library_keeps_to_the_specification(packages: dict[str, Path]) -> None:
    package = packages["arduino"]
    lines = (package / "library.properties").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    assert len(fields) == len(lines)
    assert all(fields[name].strip() for name in ARDUINO_FIELDS)
    assert re.fullmatch(r"(?!Arduino)[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}", fields["name"])
    assert fields["version"] == __version__
    assert fields["category"] in ARDUINO_CATEGORIES
    assert (package / "src" / fields["includes"]).is_file()
    examples = [path for path in (package / "examples").iterdir() if path.is_dir()]
    assert examples
    assert all((example / f"{example.name}.ino").is_file() for example in examples)
    # Only src/ itself is searched for headers, and only these suffixes are compiled by all versions of the tools.
    assert not [path for path in (package / "src").iterdir() if path.suffix not in (".h", ".c", ".cpp")]


def test_the_platformio_project_pins_the_library_that_the_arduino_one_depends_on(packages: dict[str, Path]) -> None:
    package = packages["platformio"]
    project = configparser.ConfigParser()
    project.read_string((package / "platformio.ini").read_text())
    environment = project["env:nano33ble"]
    assert {environment[name] for name in ("platform", "board", "framework")} == {"nordicnrf52", "nano33ble", "arduino"}
    assert re.search(r"/Chirale_TensorFlowLite\.git#[0-9a-f]{40}$", environment["lib_deps"])
    library = json.loads((package / "lib/kws_firmware/library.json").read_text())
    assert (library["name"], library["version"]) == ("kws_firmware", __version__)
    assert (package / "lib/kws_firmware" / library["build"]["srcDir"] / "main.cpp").is_file()


@pytest.fixture(scope="module")
def ring_folder(packages: dict[str, Path]) -> Path:
    return packages["esp-idf"] / "src"


def ring_steps(ring_folder: Path, out: Path, start: int, steps: list[int]) -> list[int]:
    sources = [TESTS / "audio_ring_steps.c", ring_folder / "audio_ring.c"]
    program = host_program(sources, [ring_folder], out, (f"-DKWS_AUDIO_RING_SAMPLES={RING_SAMPLES}",))
    answer = run_program(program, stdin=struct.pack(f"<I{len(steps)}i", start, *steps))
    return [found for (found,) in struct.iter_unpack("<i", answer)]


def expected_steps(steps: list[int]) -> list[int]:
    """What a ring that loses the newest samples gives."""
    held: list[int] = []
    answers: list[int] = []
    following = lost = 0
    for step in steps:
        if step >= 0:
            room = min(step, RING_SAMPLES - len(held))
            held += [(following + i) % 32768 for i in range(room)]
            answers.append(room)
            following, lost = (following + step) % 32768, lost + step - room
        else:
            taken, held = held[:-step], held[-step:]
            answers += [len(taken), *taken]
    return [*answers, lost]


@pytest.mark.parametrize("start", [0, 2**32 - 100])
def test_the_ring_gives_what_went_in_and_counts_what_found_no_room(
    ring_folder: Path, tmp_path: Path, start: int
) -> None:
    steps = [int(step) for step in np.random.default_rng(0).integers(-90, 100, 500)]
    wanted = expected_steps(steps)
    assert wanted[-1] > 100
    assert ring_steps(ring_folder, tmp_path, start, steps) == wanted


def test_the_ring_loses_nothing_between_two_threads(ring_folder: Path, tmp_path: Path) -> None:
    sources = [TESTS / "audio_ring_threads.c", ring_folder / "audio_ring.c"]
    program = host_program(sources, [ring_folder], tmp_path, (f"-DKWS_AUDIO_RING_SAMPLES={RING_SAMPLES}", "-pthread"))
    heard, lost = map(int, run_program(program).split())
    assert heard + lost == 7 * 400_000
    assert heard > 0


def test_a_ring_that_is_no_power_of_two_is_refused(ring_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="must be a power of two"):
        compile_object(
            toolchains.HOST, ring_folder / "audio_ring.c", [ring_folder], tmp_path, ("-DKWS_AUDIO_RING_SAMPLES=48",)
        )


def microphone(package: Path, out: Path, wanted: int, waits: list[int]) -> list[str]:
    """The lines of microphone_board.c with the ring of 16,384 samples."""
    folder = package / "src"
    sources = [TESTS / "microphone_board.c", folder / "audio_ring.c", folder / "microphone.c"]
    program = host_program(sources, [folder, package / "generated"], out)
    return run_program(program, stdin=struct.pack(f"<{len(waits) + 1}i", wanted, *waits)).decode().splitlines()


def test_audio_comes_in_order_across_waits_until_the_microphone_falls_silent(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    # A pause of 1.9 s is none, across the wrap-around of the time; 0 is what stays of the last call's first sample.
    found = microphone(packages["esp-idf"], tmp_path, 160, [100, 100, 0, 20, 100, *[0] * 19, 200])
    assert found[:3] == ["160 0", "160 160", "160 320"]
    assert found[3] == "error the microphone gives no samples"
    assert found[4].startswith("-1 ")
    assert len(found) == 5


def test_a_microphone_that_gives_few_samples_at_a_time_is_not_silent(packages: dict[str, Path], tmp_path: Path) -> None:
    # One call, which takes longer than the two seconds after which a microphone counts as silent.
    found = microphone(packages["esp-idf"], tmp_path, 160, [80, *[0] * 15, 40, *[0] * 15, 40])
    assert found[:2] == ["160 0", "error the microphone gives no samples"]


def test_lost_samples_are_reported_once_in_ten_seconds_of_audio(packages: dict[str, Path], tmp_path: Path) -> None:
    # Each wait gives a second and a half, of which the ring holds 1.024 s.
    lines = microphone(packages["esp-idf"], tmp_path, 16_000, [24_000] * 25)
    reports = [index for index, line in enumerate(lines) if line.startswith("error samples were lost")]
    calls = [sum(line.startswith("16000 ") for line in lines[:index]) for index in reports]
    assert calls == [0, 10, 20]
