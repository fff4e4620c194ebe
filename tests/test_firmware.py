"""The rendered firmware compiles without a warning, and its front end computes what training computed."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tiny_tflite
from front_end import (
    FIXED_POINT,
    LABELS,
    RATE_HZ,
    Samples,
    build_features_tool,
    c_features,
    frames_program,
    includes,
    loud_tones,
    python_features,
    rounding_bound,
    signals,
)
from toolchains import ARM, HOST, Toolchain, compile_object, host_program, require, run_program

from export.front_end_parity import FIXED_POINT_MIN_SHARE_EQUAL, FIXED_POINT_MIN_SHARE_WITHIN, MIN_SHARE_EQUAL
from export.headers import render_firmware
from kws.config import FeatureConfig
from kws.features import FeatureTables
from quantize.affine import Affine

BOARD_FOLDERS = {"cortex-m", "microbit", "mps2-an386", "mps3-an547"}


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("firmware")
    render_firmware(tiny_tflite.write_tiny_build(folder / "build", LABELS), folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def int16_firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int16")
    render_firmware(tiny_tflite.write_tiny_int16_build(folder / "build", LABELS), folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def features_tool(firmware: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_features_tool(firmware, tmp_path_factory.mktemp("tool"))


@pytest.fixture(scope="module")
def fixed_tool(firmware: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_features_tool(firmware, tmp_path_factory.mktemp("fixed"), FIXED_POINT)


def largest_difference(tool: Path, samples: Samples) -> float:
    ours, theirs = c_features(tool, samples)[0], python_features(samples, tiny_tflite.FEATURES)[0]
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max())


@pytest.mark.parametrize("flags", [(), FIXED_POINT], ids=["float", "fixed point"])
@pytest.mark.parametrize("toolchain", [HOST, ARM], ids=["host", "cortex-m4"])
def test_everything_compiles_without_a_warning(
    firmware: Path, tmp_path: Path, toolchain: Toolchain, flags: tuple[str, ...]
) -> None:
    sources = [path for path in sorted(firmware.rglob("*.c*")) if path.suffix in (".c", ".cc")]
    # A board has no files and no POSIX clock, a computer no linker script.
    other = BOARD_FOLDERS if toolchain is HOST else {"host"}
    sources = [path for path in sources if not other & set(path.parts)]
    assert len(sources) >= 20
    for source in sources:
        compile_object(toolchain, source, includes(firmware), tmp_path, flags)


@pytest.mark.parametrize("suffix", [".c", ".cc"])
def test_each_header_stands_alone(firmware: Path, tmp_path: Path, suffix: str) -> None:
    for header in sorted(firmware.rglob("*.h")):
        if suffix == ".c" and header.name == "op_resolver.h":
            continue
        source = tmp_path / f"{header.stem}{suffix}"
        source.write_text(f'#include "{header.name}"\n#include "{header.name}"\nextern int unused;\n')
        compile_object(HOST, source, includes(firmware), tmp_path)


def test_inference_refuses_another_tensor_layout(firmware: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Define TF_LITE_STATIC_MEMORY"):
        compile_object(
            HOST, firmware / "src/inference.cc", includes(firmware), tmp_path, flags=("-UTF_LITE_STATIC_MEMORY",)
        )


def test_model_labels_and_tables_read_back_exactly(firmware: Path, tmp_path: Path) -> None:
    model = (firmware.parent / "build/model.int8.tflite").read_bytes()
    tables = FeatureTables.of(tiny_tflite.FEATURES)
    source = tmp_path / "main.c"
    source.write_text(
        '#include <stdio.h>\n#include "feature_tables.h"\n#include "labels.h"\n#include "model_data.h"\n'
        '#include "model_params.h"\nint main(void) {\n'
        "  fwrite(kModelData, 1, kModelBytes, stdout);\n  fwrite(kWindow, 1, sizeof(kWindow), stdout);\n"
        "  fwrite(&kInputScale, 1, 4, stdout);\n  fwrite(&kLogOffset, 1, 4, stdout);\n"
        '  printf("%d", (int)((uintptr_t)kModelData % 16));\n'
        "  for (int i = 0; i < kLabelCount; ++i) {\n    putchar(0);\n    fputs(kLabels[i], stdout);\n  }\n"
        "  return 0;\n}\n"
    )
    sources = [source, *(firmware / "generated" / name for name in ("feature_tables.cc", "labels.cc", "model_data.cc"))]
    printed = run_program(host_program(sources, includes(firmware), tmp_path / "out"))
    floats = np.float32([tiny_tflite.INPUT_SCALE, tiny_tflite.FEATURES.log_offset])
    labels = b"".join(b"\0" + label.encode() for label in LABELS)
    assert printed == model + tables.window.tobytes() + floats.tobytes() + b"0" + labels


@pytest.mark.parametrize("name", signals())
def test_the_front_end_computes_the_training_features(features_tool: Path, name: str) -> None:
    samples = signals()[name]
    floats, steps = c_features(features_tool, samples)
    wanted_floats, wanted_steps = python_features(samples, tiny_tflite.FEATURES)
    assert floats.shape == wanted_floats.shape == (98, 40)
    difference = np.abs(floats - wanted_floats)
    assert (difference <= rounding_bound(wanted_floats)).all()
    assert np.abs(steps - wanted_steps).max() <= 1
    assert (steps == wanted_steps).mean() >= (0.995 if name == "clean chirp" else MIN_SHARE_EQUAL)
    if "chirp" not in name:
        assert difference.max() < 1e-4


@pytest.mark.parametrize("name", signals())
def test_the_fixed_point_front_end_is_at_most_one_step_off(fixed_tool: Path, name: str) -> None:
    floats, steps = c_features(fixed_tool, signals()[name])
    wanted_floats, wanted_steps = python_features(signals()[name], tiny_tflite.FEATURES)
    assert floats.shape == wanted_floats.shape == (98, 40)
    assert (np.abs(steps - wanted_steps) <= 1).mean() >= FIXED_POINT_MIN_SHARE_WITHIN
    assert (steps == wanted_steps).mean() >= (
        0.95 if "chirp" in name and "room" in name else FIXED_POINT_MIN_SHARE_EQUAL
    )
    assert np.abs(floats - wanted_floats).max() < (0.1 if "chirp" in name else 1e-3)


CONFIGS = {
    "window no multiple of hop": FeatureConfig(window_samples=400, hop_samples=160, clip_samples=RATE_HZ),
    "no overlap": FeatureConfig(window_samples=512, hop_samples=512, clip_samples=RATE_HZ, mel_bands=32),
    "larger FFT": FeatureConfig(
        window_samples=640, hop_samples=250, fft_size=1024, clip_samples=RATE_HZ, mel_high_hz=7000.0
    ),
    "smallest FFT": FeatureConfig(window_samples=4, hop_samples=3, fft_size=4, clip_samples=400, mel_bands=2),
    "small FFT, odd window": FeatureConfig(window_samples=7, hop_samples=5, fft_size=8, clip_samples=800, mel_bands=3),
}


@pytest.mark.parametrize("flags", [(), FIXED_POINT], ids=["float", "fixed point"])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_front_end_computes_features_of_any_size(tmp_path: Path, name: str, flags: tuple[str, ...]) -> None:
    config = CONFIGS[name]
    firmware = tmp_path / "firmware"
    render_firmware(tiny_tflite.write_tiny_build(tmp_path / "build", LABELS, config), firmware)
    samples = np.concatenate([signals()["full scale noise"], signals()["chirp in a room"]])
    printed = run_program(frames_program(firmware, tmp_path / "out", flags), stdin=samples.tobytes())
    frames = np.frombuffer(printed, np.int8).reshape(-1, config.mel_bands)
    wanted = python_features(samples, config)[1]
    assert frames.shape == wanted.shape
    assert np.abs(frames - wanted).max() <= 1
    assert (frames == wanted).mean() >= (0.95 if flags else 0.999)


@pytest.mark.parametrize("flags", [(), FIXED_POINT], ids=["float", "fixed point"])
def test_frames_do_not_depend_on_the_size_of_blocks(firmware: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    program = frames_program(firmware, tmp_path / "out", flags)
    samples = np.concatenate(list(signals().values())[:3])
    frames = {run_program(program, str(block), stdin=samples.tobytes()) for block in (1, 7, 160, 10_000)}
    assert [len(printed) for printed in frames] == [40 * (1 + (len(samples) - 480) // 160)]


@pytest.mark.parametrize("flags", [(), FIXED_POINT], ids=["float", "fixed point"])
def test_extreme_samples_give_defined_features(firmware: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    program = frames_program(firmware, tmp_path / "out", flags)
    alternating = np.where(np.arange(2000) % 2, -32768, 32767).astype(np.int16)
    extremes = {
        "lowest": np.full(2000, -32768, np.int16),
        "highest": np.full(2000, 32767, np.int16),
        "alternating": alternating,
        "square": np.where(np.arange(2000) // 8 % 2, -32768, 32767).astype(np.int16),
        "one step": np.ones(2000, np.int16),
    }
    for name, samples in extremes.items():
        frames = np.frombuffer(run_program(program, stdin=samples.tobytes()), np.int8).reshape(-1, 40)
        wanted = python_features(samples, tiny_tflite.FEATURES)[1]
        # Full scale and no noise: the window's 16 bits show in bands 90 dB below the loudest.
        assert np.abs(frames - wanted).max() <= (2 if flags else 1), name


def test_no_loud_tone_overflows_the_fixed_point_front_end(firmware: Path, tmp_path: Path) -> None:
    run_program(frames_program(firmware, tmp_path / "good", FIXED_POINT), stdin=loud_tones().tobytes())
    wrong = Path(shutil.copytree(firmware, tmp_path / "wrong"))
    source = wrong / "src/features_fixed.c"
    source.write_text(source.read_text().replace("v[i] >>= 2;", "v[i] >>= 0;"))
    with pytest.raises(AssertionError, match="signed integer overflow"):
        run_program(frames_program(wrong, tmp_path / "bad", FIXED_POINT), stdin=loud_tones().tobytes())


def test_state_and_scratch_fit_six_kilobytes(firmware: Path, tmp_path: Path) -> None:
    for flags in ((), FIXED_POINT, ("-DKWS_FFT_CMSIS_DSP",)):
        source = tmp_path / "size.c"
        source.write_text(
            '#include "frontend.h"\n'
            "typedef char fits[sizeof(KwsFrontendState) + sizeof(KwsFrontendScratch) <= 6 * 1024 ? 1 : -1];\n"
            "extern fits unused;\n"
        )
        compile_object(ARM, source, includes(firmware), tmp_path, flags)


@pytest.mark.parametrize("extra", [-1, 0, 1, 5, 8])
def test_the_window_holds_the_newest_frames_in_the_models_order(firmware: Path, tmp_path: Path, extra: int) -> None:
    sources = [Path(__file__).with_name("window_input.c"), firmware / "src/window.c"]
    program = host_program(sources, includes(firmware), tmp_path / "out")
    count = tiny_tflite.FEATURES.frames
    frames = np.random.default_rng(0).integers(-128, 128, (count + extra, 40)).astype(np.int8)
    printed = np.frombuffer(run_program(program, stdin=frames.tobytes()), np.int8)
    np.testing.assert_array_equal(printed, frames[-count:].T.ravel() if extra >= 0 else [])


@pytest.mark.parametrize("toolchain", [HOST, ARM], ids=["host", "cortex-m4"])
def test_firmware_of_an_int16_model_compiles_without_a_warning(
    int16_firmware: Path, tmp_path: Path, toolchain: Toolchain
) -> None:
    for source in ("src/frontend.c", "src/inference.cc", "src/main.cc"):
        compile_object(toolchain, int16_firmware / source, includes(int16_firmware), tmp_path)


def test_the_front_end_of_an_int16_model_quantizes_to_int16(int16_firmware: Path, tmp_path: Path) -> None:
    assert "typedef int16_t KwsInteger;" in (int16_firmware / "generated/model_params.h").read_text()
    tool = build_features_tool(int16_firmware, tmp_path / "tool")
    affine = Affine(tiny_tflite.INT16_INPUT_SCALE, dtype="int16")
    for name in ("full scale noise", "silence"):
        log_mel, steps = c_features(tool, signals()[name])
        np.testing.assert_array_equal(steps, affine.quantize(log_mel))
    assert steps.min() == steps.max() < -128
    # The fixed-point build serves int8 models; for int16 ones its logarithm is good to a few steps.
    fixed = build_features_tool(int16_firmware, tmp_path / "fixed", FIXED_POINT)
    log_mel, steps = c_features(fixed, signals()["full scale noise"])
    np.testing.assert_allclose(steps, affine.quantize(log_mel), atol=2)


def test_int8_rounds_half_to_even_and_clips(firmware: Path, tmp_path: Path) -> None:
    silence, noise = signals()["silence"], signals()["full scale noise"]
    log_offset = np.log(np.float32(tiny_tflite.FEATURES.log_offset))
    for name, scale in (("ties", np.float32(log_offset / np.float32(-10.5))), ("clips", np.float32(0.03))):
        changed = Path(shutil.copytree(firmware, tmp_path / name))
        params = changed / "generated/model_params.h"
        params.write_text(params.read_text().replace("kInputScale = 0.0901f", f"kInputScale = {scale}f"))
        tool = build_features_tool(changed, tmp_path / f"{name} tool")
        if name == "ties":
            assert log_offset / scale == -10.5
            assert set(c_features(tool, silence)[1].ravel()) == {tiny_tflite.INPUT_ZERO_POINT - 10}
        else:
            assert c_features(tool, noise)[1].max() == 127
            assert c_features(tool, silence)[1].min() == -128


WRONG_NUMBERS = {
    "hop": ("generated/feature_params.h", "kHopSamples = 160", "kHopSamples = 161", ()),
    "window": ("generated/feature_tables.cc", "0.50654477f", "0.50754477f", ()),
    "twiddle": ("generated/feature_tables.cc", "0.9999247f", "0.9989247f", ()),
    "offset": ("generated/feature_params.h", "kLogOffset = 1e-06f", "kLogOffset = 2e-06f", ()),
    "fixed window": ("generated/feature_tables.cc", " 33197,", " 33297,", FIXED_POINT),
    "fixed twiddle": ("generated/feature_tables.cc", " 32758,", " 32658,", FIXED_POINT),
    "fixed rest": ("src/features_fixed.c", "* rest) >> 14", "* rest) >> 13", FIXED_POINT),
    "fixed offset": ("generated/feature_params.h", "kLogOffsetExponent = -50", "kLogOffsetExponent = -49", FIXED_POINT),
    "logarithm": ("generated/feature_tables.cc", " 19909,", " 20109,", FIXED_POINT),
}


@pytest.mark.parametrize("name", WRONG_NUMBERS)
def test_the_comparison_notices_a_wrong_number(firmware: Path, tmp_path: Path, name: str) -> None:
    file, old, new, flags = WRONG_NUMBERS[name]
    wrong = Path(shutil.copytree(firmware, tmp_path / "wrong"))
    text = (wrong / file).read_text()
    assert old in text
    (wrong / file).write_text(text.replace(old, new, 1))
    tool = build_features_tool(wrong, tmp_path / "tool", flags)
    samples = signals()["clean chirp" if name == "fixed rest" else "soft noise"]
    ours, theirs = c_features(tool, samples)[0][:90], python_features(samples, tiny_tflite.FEATURES)[0][:90]
    bound = (0.1 if name == "fixed rest" else 2.5e-4) if flags else rounding_bound(theirs)
    assert (np.abs(ours - theirs) > bound).any()


def wav(samples: Samples, *, tag: int = 1, channels: int = 1, rate_hz: int = RATE_HZ, bits: int = 16) -> bytes:
    data = samples.astype("<i2").tobytes()
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, channels, rate_hz, rate_hz * 2, 2, bits)
    # An odd chunk, with its padding, comes first.
    body = b"WAVE" + b"LIST\x03\0\0\0abc\0" + head + struct.pack("<4sI", b"data", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_a_wav_file_gives_the_same_as_its_raw_samples(features_tool: Path, tmp_path: Path) -> None:
    samples = signals()["chirp in a room"]
    (tmp_path / "a.wav").write_bytes(wav(samples))
    assert run_program(features_tool, tmp_path / "a.wav") == run_program(features_tool, "-", stdin=samples.tobytes())


GOOD = wav(np.arange(2000, dtype=np.int16))
BAD_WAVS = {
    "empty": (b"", "it is no WAV file"),
    "no WAV": (b"\x89PNG" + bytes(100), "it is no WAV file"),
    "stereo": (wav(np.zeros(10, np.int16), channels=2), "more than one channel"),
    "44.1 kHz": (wav(np.zeros(10, np.int16), rate_hz=44_100), "another sample rate"),
    "8 bits": (wav(np.zeros(10, np.int16), bits=8), "not 16-bit PCM"),
    "float": (wav(np.zeros(10, np.int16), tag=3), "not 16-bit PCM"),
    "cut in the samples": (GOOD[:-1], "ends in the middle"),
    "cut in the header": (GOOD[:40], "format chunk is damaged"),
    "no data": (GOOD[:48], "it has no audio"),
    "data without format": (GOOD[:12] + b"data\x04\0\0\0abcd", "its audio comes before its format"),
}


@pytest.mark.parametrize("name", BAD_WAVS)
def test_a_wav_file_that_does_not_fit_is_a_sentence(features_tool: Path, tmp_path: Path, name: str) -> None:
    data, message = BAD_WAVS[name]
    (tmp_path / "bad.wav").write_bytes(data)
    done = subprocess.run([features_tool, tmp_path / "bad.wav"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr
    assert "Sanitizer" not in done.stderr


def test_cmake_builds_the_front_end_without_tflm(firmware: Path, tmp_path: Path) -> None:
    require("cmake", "cmake make gcc g++")
    for command in (["cmake", "-S", firmware, "-B", tmp_path], ["cmake", "--build", tmp_path]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning:" not in done.stderr
    assert largest_difference(tmp_path / "kws_features", signals()["full scale noise"]) < 1e-4
    assert not (tmp_path / "kws_firmware").exists()


def test_cmake_refuses_a_tflm_that_is_not_there(firmware: Path, tmp_path: Path) -> None:
    require("cmake", "cmake make gcc g++")
    command = ["cmake", "-S", firmware, "-B", tmp_path, f"-DTFLM_ROOT={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "No libtensorflow-microlite.a" in done.stderr
