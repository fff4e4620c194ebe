"""Firmware as a package of an ecosystem's own form: where its files lie, and what its version of TFLM demands.

A package has the sources and generated/ of firmware_template/, the files of firmware_template/targets/common/, and
those of its own folder beside it: manifests, the microphone of one board, and a program. In files that end in .j2 the
version of kws is rendered. No label reaches a manifest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from export.arena import ARENA_CORES, core_arena_bytes, firmware_arena_bytes
from export.cost_model import estimate_ops, total
from export.firmware_model import FirmwareModel
from export.tflite_reader import parse_tflite
from kws.detector import DetectorParams
from kws.errors import KwsError

TARGETS_FOLDER = "targets"
TEMPLATE_SUFFIX = ".j2"
_COMMON = Path(TARGETS_FOLDER, "common")
# Of platform/common/: events as text.
_SHARED_PLATFORM_FILES = ("print_event.c", "text.c", "text.h")
_PROGRAM_HEADER = "kws_firmware.h"


@dataclass(frozen=True, kw_only=True)
class BoardPackage:
    """What tells one target from another. Paths are relative to the package; `folders` to firmware_template/.

    `mark` is a file that no other target has. `library` is where the sources lie: in folders of their own, src,
    include and generated, or where an Arduino library must have them, all in src and named .cpp. `clock_hz` is None
    for a core of which nothing is estimated. `typed_kernels` tells whether its TFLM surely has the registrations for
    one type; `absent_ops` are methods that its MicroMutableOpResolver lacks; `own_kernels` gives the argument of a
    method for whose op the package has a kernel.
    """

    board: str
    mark: Path
    folders: dict[str, str]
    library: Path
    is_arduino_library: bool
    next_step: str
    clock_hz: int | None = None
    typed_kernels: bool = False
    absent_ops: frozenset[str] = frozenset()
    own_kernels: Mapping[str, str] = field(default_factory=dict)

    def source_path(self, name: str) -> Path:
        """Where the source file `name` lies."""
        if self.is_arduino_library:
            return self.library / "src" / re.sub(r"\.cc$", ".cpp", name)
        return self.library / ("include" if name == _PROGRAM_HEADER else "src") / name

    def generated_path(self, name: str) -> Path:
        """Where the generated file `name` lies."""
        return self.source_path(name) if self.is_arduino_library else self.library / "generated" / name


# Chirale_TensorFLowLite 2.0.0, a TFLM of early 2023.
_ARDUINO_ABSENT_OPS = frozenset(("AddBatchMatMul", "AddReduceMin", "AddReverseV2"))
_ARDUINO_KERNELS = {"AddAdd": "kws::RegisterAdd()"}
_NRF52840_HZ = 64_000_000

BOARD_PACKAGES = {
    "esp-idf": BoardPackage(
        board="XIAO ESP32S3 Sense",
        mark=Path("idf_component.yml"),
        folders={"targets/esp-idf": "."},
        library=Path(),
        is_arduino_library=False,
        next_step="cd examples/xiao_esp32s3_sense && idf.py build flash monitor",
    ),
    "zephyr": BoardPackage(
        board="XIAO nRF52840 Sense",
        mark=Path("zephyr/module.yml"),
        folders={"targets/zephyr": "."},
        library=Path(),
        is_arduino_library=False,
        next_step="west build -b xiao_ble/nrf52840/sense samples/xiao_ble_sense && west flash",
        clock_hz=_NRF52840_HZ,
        typed_kernels=True,
    ),
    "arduino": BoardPackage(
        board="Nano 33 BLE Sense",
        mark=Path("library.properties"),
        folders={"targets/arduino": "."},
        library=Path(),
        is_arduino_library=True,
        next_step="arduino-cli compile --library . -b arduino:mbed_nano:nano33ble examples/KeywordSpotting",
        clock_hz=_NRF52840_HZ,
        absent_ops=_ARDUINO_ABSENT_OPS,
        own_kernels=_ARDUINO_KERNELS,
    ),
    "platformio": BoardPackage(
        board="Nano 33 BLE Sense",
        mark=Path("platformio.ini"),
        folders={"targets/platformio": ".", "targets/arduino/src": "lib/kws_firmware/src"},
        library=Path("lib/kws_firmware"),
        is_arduino_library=True,
        next_step="pio run -t upload && pio device monitor",
        clock_hz=_NRF52840_HZ,
        absent_ops=_ARDUINO_ABSENT_OPS,
        own_kernels=_ARDUINO_KERNELS,
    ),
}


def skeleton_files(package: BoardPackage, template: Path) -> dict[Path, Path]:
    """Path in the package, without .j2 -> file of the folder `template`, firmware_template/."""
    sources = [
        *_files(template / "src"),
        *(template / "platform" / "common" / name for name in _SHARED_PLATFORM_FILES),
        *(path for path in _files(template / _COMMON) if path.suffix != TEMPLATE_SUFFIX),
    ]
    files = {package.source_path(path.name): path for path in sources}
    for folder, place in package.folders.items():
        files |= {place / path.relative_to(template / folder): path for path in _files(template / folder)}
    return {Path(str(place).removesuffix(TEMPLATE_SUFFIX)): path for place, path in sorted(files.items())}


def generated_templates(template: Path) -> list[Path]:
    """Jinja templates of the generated files that packages have beside those of every firmware."""
    return [path for path in _files(template / _COMMON) if path.suffix == TEMPLATE_SUFFIX]


def registrations(package: BoardPackage, model: FirmwareModel) -> list[str]:
    """The calls on MicroMutableOpResolver that the package's TFLM has. Raises KwsError for an op that it has not."""
    methods = [call.split("(")[0] for call in model.registrations]
    for method in methods:
        if method in package.absent_ops:
            op = method.removeprefix("Add")
            raise KwsError(
                f"{model.name}: TensorFlow Lite Micro for {package.board} has no {op}; choose another target."
            )
    if package.typed_kernels:
        return model.registrations
    return [f"{method}({package.own_kernels.get(method, '')})" for method in methods]


def board_arena_bytes(model: FirmwareModel, measured_bytes: int) -> int:
    """The largest arena of all cores and of a 64-bit host that took `measured_bytes`, margins included."""
    return max(firmware_arena_bytes(measured_bytes), *(core_arena_bytes(core, model.data) for core in ARENA_CORES))


def package_notes(package: BoardPackage, model: FirmwareModel, detector: DetectorParams) -> list[str]:
    """For a person: what comes next, and whether the board is fast enough where that can be estimated."""
    lines = [f"For {package.board}; README.md there says what to install. Then: {package.next_step}"]
    if package.clock_hz is None:
        return [*lines, "How long an inference takes there is not known here; the board tells when it loses samples."]
    instructions = total(estimate_ops(parse_tflite(model.data, model.name))).instructions["cortex_m4"]
    least_ms = math.ceil(1000 * instructions / package.clock_hz)
    lines.append(f"An inference takes at least {least_ms} ms at {package.clock_hz / 1e6:g} MHz (estimated).")
    if least_ms > detector.stride_ms:
        lines.append(
            f"That is more than the stride of {detector.stride_ms} ms, so samples will be lost: give --detector a file "
            "with a larger stride_ms, or train with --hop-ms 20, or quantize with --optimize speed."
        )
    return lines


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
