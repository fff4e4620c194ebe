"""The firmware on emulated boards: the same features, events and faults as on this machine and in Python."""

from __future__ import annotations

import re
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import tiny_tflite
from conftest import write_tones
from front_end import RATE_HZ, Samples, python_features, rounding_bound, signals
from test_compare_models import untrained
from toolchains import require

from export.arena_32_bit import arena_on
from export.firmware_model import read_firmware_model
from export.from_checkpoint import build_checkpoint
from export.headers import render_firmware
from export.tflite_reader import parse_tflite
from kws.checkpoint import save_checkpoint
from kws.config import ModelConfig
from kws.detector import POSTERIOR_ONE, DetectorParams, Event, detect, posteriors_of_logits, posteriors_of_probabilities
from kws.model import BCResNet
from kws.stream import stream_events
from quantize.options import QuantizeOptions
from quantize.runtimes import TflmRuntime
from scripts import boards
from scripts.boards import BOARDS, M4F, M55, Board

pytestmark = pytest.mark.firmware

LABELS = ["_silence_", "_unknown_", "yes", "no"]
# Low enough for the events of a model with random weights.
EAGER = DetectorParams(smoothing_ms=30, stride_ms=10, refractory_ms=50, threshold=0.3, background=())
CONSTANTS = {"kWindow", "kMelWeights", "kTwiddleCos", "kMelFirstBin", "kExpFine", "kDetectorParams"}
TFLM_BOARDS = (M4F, M55)


@pytest.fixture(scope="module")
def tools() -> None:
    for tool, packages in boards.TOOLS.items():
        require(tool, packages)


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("firmware")
    render_firmware(tiny_tflite.write_tiny_build(folder / "build", LABELS), folder / "out", EAGER)
    return folder / "out"


@pytest.fixture(scope="module", params=BOARDS, ids=[board.platform for board in BOARDS])
def built(
    request: pytest.FixtureRequest, tools: None, firmware: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Board, Path]:
    board: Board = request.param
    return board, boards.build(firmware, tmp_path_factory.mktemp(board.platform), board)


def write_wav(path: Path, samples: Samples) -> Path:
    soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    return path


def output(board: Board, program: Path, audio: Path) -> str:
    done = boards.run(board, program, audio)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def features_on(board: Board, program: Path, audio: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    rows = np.array([[float(value) for value in line.split()] for line in output(board, program, audio).splitlines()])
    return rows[:, :40].astype(np.float32), rows[:, 40:].astype(np.int64)


@pytest.mark.parametrize("name", ["full scale noise", "chirp in a room", "silence"])
def test_a_board_computes_the_training_features(built: tuple[Board, Path], tmp_path: Path, name: str) -> None:
    board, folder = built
    samples = signals()[name]
    floats, steps = features_on(board, folder / "kws_features", write_wav(tmp_path / "a.wav", samples))
    wanted_floats, wanted_steps = python_features(samples, tiny_tflite.FEATURES)
    assert floats.shape == wanted_floats.shape == (98, 40)
    if board.is_fixed_point:
        assert (np.abs(steps - wanted_steps) <= 1).mean() >= 0.995
        return
    assert np.abs(steps - wanted_steps).max() <= 1
    assert (steps == wanted_steps).mean() >= 0.999
    assert (np.abs(floats - wanted_floats) <= rounding_bound(wanted_floats)).all()


def test_fixed_point_features_are_the_same_to_the_bit_on_every_core(
    tools: None, firmware: Path, built: tuple[Board, Path], tmp_path: Path
) -> None:
    board, folder = built
    if not board.is_fixed_point:
        folder = boards.build(firmware, tmp_path / "board", board, ["-DKWS_FIXED_POINT=ON"])
    host = boards.build(firmware, tmp_path / "host", None, ["-DKWS_FIXED_POINT=ON"])
    audio = write_wav(tmp_path / "a.wav", np.concatenate(list(signals().values())))
    here = boards.run_here(host / "kws_features", audio)
    assert here.count("\n") == 598
    assert output(board, folder / "kws_features", audio) == here


def stream() -> tuple[list[int], npt.NDArray[np.uint16]]:
    """Results of random words, with a clock that jitters and wraps."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 1, (400, len(LABELS)))
    logits[np.arange(400), np.repeat(rng.integers(0, len(LABELS), 80), 5)] += 2.5
    powers = np.exp(logits)
    times_ms = (2**32 - 2000 + np.cumsum(rng.choice([10, 10, 9, 11, 40], 400))) % 2**32
    return times_ms.tolist(), posteriors_of_probabilities(powers / powers.sum(axis=1, keepdims=True))


def event_lines(events: list[Event], labels: list[str]) -> list[str]:
    """As the firmware prints them."""
    return [
        f"{event.time_ms / 1000:.3f}\t{labels[event.label]}"
        f"\t{(event.score * 1000 + POSTERIOR_ONE // 2) // POSTERIOR_ONE / 1000:.3f}"
        for event in events
    ]


def test_a_board_tells_the_events_of_the_python_detector(built: tuple[Board, Path], tmp_path: Path) -> None:
    times_ms, posteriors = stream()
    pairs = zip(times_ms, posteriors, strict=True)
    records = b"".join(struct.pack(f"<I{len(LABELS)}H", time_ms, *row.tolist()) for time_ms, row in pairs)
    audio = write_wav(tmp_path / "a.wav", np.frombuffer(records, np.int16))
    wanted = event_lines(detect(times_ms, posteriors, EAGER, LABELS), LABELS)
    assert len(wanted) > 20
    board, folder = built
    assert output(board, folder / "kws_events", audio).splitlines() == wanted


def test_constants_stay_in_flash(built: tuple[Board, Path]) -> None:
    board, folder = built
    tables = {"kWindowQ16", "kMelWeightsQ16"} if board.is_fixed_point else {"kWindow", "kMelWeights", "kTwiddleCos"}
    check_flash(folder / "kws_features.map", {"kMelFirstBin", *tables})
    check_flash(folder / "kws_events.map", {"kDetectorParams"})


def check_flash(map_file: Path, names: set[str]) -> None:
    flash = boards.map_memories(map_file)["FLASH"]
    addresses = boards.map_addresses(map_file, ".rodata")
    assert names <= addresses.keys()
    assert all(address in flash for address in addresses.values())
    in_ram = {*boards.map_addresses(map_file, ".data"), *boards.map_addresses(map_file, ".bss")}
    assert not {name for name in in_ram if re.match(r"k[A-Z]", name)}


def test_a_frame_costs_what_was_promised(built: tuple[Board, Path], tmp_path: Path) -> None:
    board, folder = built
    found = boards.figures(board, folder, write_wav(tmp_path / "a.wav", signals()["chirp in a room"]))
    assert found["frames"] == 98
    if board is M4F:
        assert found["frame_slowest_us"] / boards.US_PER_INSTRUCTION <= 60_000
    ram = found["frontend_state_bytes"] + found["frontend_scratch_bytes"] + found["stack_bytes"]
    assert 3000 < ram <= 6 * 1024


@pytest.fixture(scope="module")
def tflm(tools: None) -> Path:
    root = boards.tflm_root()
    if root is None:
        pytest.skip(boards.HOW_TO_GET_TFLM)
    return root


def build_with_tflm(
    firmware: Path, out: Path, board: Board, tflm: Path, defines: str = "", target: str = "all"
) -> Path:
    options = [f"-DTFLM_ROOT={tflm}", f"-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG {defines}"]
    return boards.build(firmware, out, board, options, target)


def python_events(model_file: Path, samples: Samples, params: DetectorParams) -> list[str]:
    model, runtime = read_firmware_model(model_file), TflmRuntime(model_file)
    assert model.features is not None

    def posteriors_of(windows: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
        return posteriors_of_logits(runtime(np.ascontiguousarray(windows)), model.output.scale)

    return event_lines(stream_events(samples, model.features, params, model.labels, posteriors_of), model.labels)


@pytest.mark.parametrize("board", TFLM_BOARDS, ids=[board.platform for board in TFLM_BOARDS])
def test_the_whole_firmware_tells_the_events_that_python_tells(
    firmware: Path, tflm: Path, tmp_path: Path, board: Board
) -> None:
    samples = np.concatenate([signals()["full scale noise"], signals()["chirp in a room"], signals()["soft noise"]])
    folder = build_with_tflm(firmware, tmp_path / "b", board, tflm)
    wanted = python_events(firmware.parent / "build/model.int8.tflite", samples, EAGER)
    assert len(wanted) > 20
    assert output(board, folder / "kws_firmware", write_wav(tmp_path / "a.wav", samples)).splitlines() == wanted
    check_flash(folder / "kws_firmware.map", {"kModelData", "kGoldenInput", *CONSTANTS})


@pytest.mark.slow
@pytest.mark.parametrize("board", TFLM_BOARDS, ids=[board.platform for board in TFLM_BOARDS])
def test_a_bcresnet_tells_the_events_that_python_tells(
    bcresnet_build: Path, tflm: Path, tmp_path: Path, board: Board
) -> None:
    params = DetectorParams(threshold=0.2, min_results=1, refractory_ms=100, background=())
    render_firmware(bcresnet_build / "model.int8.tflite", tmp_path / "out", params)
    samples = np.concatenate(list(signals().values()))
    folder = build_with_tflm(tmp_path / "out", tmp_path / "b", board, tflm)
    wanted = python_events(bcresnet_build / "model.int8.tflite", samples, params)
    assert len(wanted) > 5
    audio = write_wav(tmp_path / "a.wav", samples)
    assert output(board, folder / "kws_firmware", audio).splitlines() == wanted
    found = boards.figures(board, folder, audio)
    assert found["arena_used_bytes"] <= found["arena_bytes"]


@pytest.fixture(scope="module")
def bcresnet_build(tflm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bcresnet")
    write_tones(folder / "data", ["a", "b", "other"])
    # Its swish becomes a table: CAST, ADD and GATHER of int32 beside the ADD of int8.
    swish = ModelConfig(classes=4, activation="swish")
    checkpoint = replace(untrained(["_silence_", "_unknown_", "a", "b"], hop_ms=20), model=swish)
    save_checkpoint(folder / "checkpoint.pt", replace(checkpoint, weights=BCResNet(swish).state_dict()))
    return build_checkpoint(folder / "checkpoint.pt", folder / "data", folder / "build", QuantizeOptions())


FAULTS = {
    "KWS_SCHEMA_MISMATCH": ("src/inference.cc", "!= TFLITE_SCHEMA_VERSION", "!= TFLITE_SCHEMA_VERSION + 1"),
    "KWS_OP_MISSING": (
        "generated/op_resolver.h",
        "AddFullyConnected(tflite::Register_FULLY_CONNECTED_INT8())",
        "AddAdd()",
    ),
    "KWS_SHAPE_MISMATCH": (
        "generated/model_params.h",
        "kInputShape[kInputRank] = { 1, 40",
        "kInputShape[kInputRank] = { 1, 41",
    ),
    "KWS_SELF_TEST_FAILED": (
        "generated/golden.cc",
        "kGoldenOutput[kOutputElements] = {\n  ",
        "kGoldenOutput[kOutputElements] = {\n  1 +",
    ),
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_model_that_does_not_fit_its_headers_is_a_named_fault(
    firmware: Path, tflm: Path, tmp_path: Path, code: str
) -> None:
    wrong = Path(shutil.copytree(firmware, tmp_path / "wrong"))
    file, old, new = FAULTS[code]
    text = (wrong / file).read_text()
    assert old in text
    (wrong / file).write_text(text.replace(old, new, 1))
    folder = build_with_tflm(wrong, tmp_path / "b", M4F, tflm, target="kws_firmware")
    done = boards.run(M4F, folder / "kws_firmware", write_wav(tmp_path / "a.wav", signals()["silence"]))
    assert done.returncode == 1
    assert code in done.stdout.splitlines()


@pytest.mark.parametrize("board", TFLM_BOARDS, ids=[board.platform for board in TFLM_BOARDS])
def test_an_arena_one_byte_too_small_is_a_named_fault(firmware: Path, tflm: Path, tmp_path: Path, board: Board) -> None:
    model = (firmware.parent / "build/model.int8.tflite").read_bytes()
    arena = arena_on("cortex_m55" if board is M55 else "cortex_m4", parse_tflite(model, "tiny"))
    audio = write_wav(tmp_path / "a.wav", signals()["silence"])
    # With a third of it, TFLM alone would write through a null pointer.
    for arena_bytes, code in ((arena.needed, 0), (arena.used - 1, 1), (arena.used // 3, 1), (1, 1)):
        defines = f"-DKWS_ARENA_BYTES={arena_bytes}"
        folder = build_with_tflm(firmware, tmp_path / str(arena_bytes), board, tflm, defines, "kws_firmware")
        done = boards.run(board, folder / "kws_firmware", audio)
        assert (done.returncode, "KWS_ARENA_TOO_SMALL" in done.stdout) == (code, bool(code)), done.stdout


def test_audio_that_is_none_ends_the_program_with_a_sentence(built: tuple[Board, Path], tmp_path: Path) -> None:
    board, folder = built
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    for audio, message in ((tmp_path / "bad.wav", "it is no WAV file"), (tmp_path / "none.wav", "cannot be opened")):
        done = boards.run(board, folder / "kws_features", audio)
        assert (done.returncode, message in done.stdout) == (1, True), done.stdout
