"""`kws detect`: events from a file and live, printed, drawn, and refused in one sentence."""

from __future__ import annotations

import json
import sys
import threading
import types
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from conftest import Kws, run_kws, tone

from kws.audio import Pcm, to_pcm16
from kws.config import FeatureConfig
from kws.detect import EventPrinter, Heard, Listener
from kws.detector import POSTERIOR_ONE, DetectorParams, Event, posteriors_of_probabilities
from kws.errors import KwsError
from kws.heat_map import LIVE_COLUMNS, LiveMap, draw_posteriors, live_map, posteriors_figure
from kws.microphone import microphone_blocks
from kws.stream import stream_events

RATE_HZ = 16_000
LABELS = ["_silence_", "_unknown_", "beep"]
CONFIG = FeatureConfig()


def loud_is_a_beep(windows: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    share = np.clip((windows.max(axis=(1, 2)) > 5).mean(axis=-1) * 3, 0, 1)
    return posteriors_of_probabilities(np.stack([1 - share, 0 * share, share], axis=1))


def beeps(*at_s: float, seconds: float = 12.0) -> Pcm:
    pcm = np.random.default_rng(0).normal(0, 1e-3, int(seconds * RATE_HZ)).astype(np.float32)
    for start_s in at_s:
        word = tone(1000, 0.6, level=0.5)
        pcm[int(start_s * RATE_HZ) :][: len(word)] += word
    return to_pcm16(pcm)


@pytest.mark.parametrize("block", [1600, 7, 16_001, 200_000])
def test_blocks_of_any_length_give_the_events_of_the_whole(block: int) -> None:
    pcm, params = beeps(1.5, 6.0), DetectorParams(refractory_ms=2000)
    wanted = stream_events(pcm, CONFIG, params, LABELS, loud_is_a_beep)
    assert [event.label for event in wanted] == [2, 2]
    pcm, listener = (pcm[: 3 * RATE_HZ] if block == 7 else pcm), Listener(LABELS, CONFIG, params, loud_is_a_beep)
    heard = [listener.push(pcm[start : start + block]) for start in range(0, len(pcm), block)]
    found = [event for part in heard for event in part.events]
    assert found == (wanted[:1] if block == 7 else wanted)
    assert sum(len(part.times_ms) for part in heard) == 1 + (len(pcm) - RATE_HZ) // 1600


def test_an_event_is_a_line_for_people_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["a", "\x1b[31mred\n", "نعم"]
    events = [Event(label=1, time_ms=12_340, score=30_474), Event(label=2, time_ms=4_000_000, score=POSTERIOR_ONE)]
    EventPrinter(labels, as_json=False)(events)
    assert capsys.readouterr().out == "    12.34 s  \\x1b[31mred\\n  0.93\n  4000.00 s  نعم  1.00\n"
    EventPrinter(labels, as_json=True)(events)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"time_ms": 12_340, "label": labels[1], "score": 0.93},
        {"time_ms": 4_000_000, "label": "نعم", "score": 1.0},
    ]
    assert "\x1b" not in "".join(lines)


def heard_of(columns: int, labels: int = 3) -> Heard:
    posteriors = np.zeros((columns, labels), np.uint16)
    posteriors[:, 0] = POSTERIOR_ONE
    at = columns * 2 // 3
    posteriors[at] = [0, 0, POSTERIOR_ONE]
    times_ms = 1000 + 100 * np.arange(columns)
    event = Event(label=2, time_ms=int(times_ms[at]), score=POSTERIOR_ONE)
    return Heard(times_ms=times_ms, posteriors=posteriors, events=[event])


@pytest.mark.parametrize("columns", [1, 100, 36_000])
def test_the_picture_has_a_row_a_label_and_marks_the_events(columns: int, tmp_path: Path) -> None:
    from matplotlib.image import imread

    heard = heard_of(columns)
    labels = ["$x", "نعم", "a\nb"]
    axes = posteriors_figure(heard.times_ms, heard.posteriors, heard.events, labels, "$t").axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["$x", "نعم", "a\\nb"]
    ((mark_s, row),) = axes.collections[0].get_offsets()
    assert (mark_s, row) == (heard.events[0].time_ms / 1000, 2)
    image = axes.images[0]
    shown = np.asarray(image.get_array())
    assert shown.shape[0] == 3 and 1 <= shown.shape[1] <= 4000
    left, right, bottom, top = image.get_extent()
    assert (bottom, top) == (2.5, -0.5), "the first label is at the top, where its tick is"
    assert left <= heard.times_ms[0] / 1000 and heard.times_ms[-1] / 1000 <= right
    at = int((mark_s - left) / (right - left) * shown.shape[1])
    assert shown[2, at] == 1.0, "the event stands where its posterior does"
    draw_posteriors(tmp_path / "p.png", [heard], labels, "$t")
    height, width = imread(tmp_path / "p.png").shape[:2]
    assert 50 < height < 1000 and 300 < width < 5000


def test_the_live_map_shows_the_last_inferences_and_cannot_be_steered() -> None:
    shown = LiveMap(["a", "\x1b[2J" + "b" * 40, "[red]"])
    shown.add(heard_of(4))
    lines = shown.text().plain.splitlines()
    assert [line[17:] for line in lines] == ["██ █", "    ", "  ▼ "]
    assert lines[1].startswith("\\x1b[2Jbbbbbbbbb ")
    assert lines[2].startswith("           [red] ")
    shown.add(heard_of(1000))
    assert {len(line) for line in shown.text().plain.splitlines()} == {17 + LIVE_COLUMNS}


def test_a_live_map_without_a_terminal_is_refused() -> None:
    with pytest.raises(KwsError, match="--plot draws into the terminal"), live_map(LABELS):
        pass


class Sounddevice(types.ModuleType):
    """Stands for the module and a microphone, since no test machine has one: plays `pcm` in blocks from a thread, then
    ends (`gone`) or says nothing more."""

    class PortAudioError(Exception):
        pass

    def __init__(self, pcm: Pcm, *, gone: bool, own_hz: int = RATE_HZ, devices: bool = True) -> None:
        super().__init__("sounddevice")
        self.pcm, self.gone, self.own_hz, self.devices, self.closed = pcm, gone, own_hz, devices, False
        self.returned: list[object] = []

    def query_devices(self, kind: str) -> dict[str, Any]:
        if not self.devices:
            raise self.PortAudioError("Error querying device -1")
        return {"default_samplerate": float(self.own_hz)}

    def check_input_settings(self, channels: int, dtype: str, samplerate: int) -> None:
        if samplerate != self.own_hz:
            raise self.PortAudioError("Invalid sample rate", -9997)

    def InputStream(self, **options: Any) -> Any:  # noqa: N802, sounddevice's own name
        return Stream(self, **options)


class Stream:
    def __init__(
        self,
        module: Sounddevice,
        samplerate: int,
        blocksize: int,
        channels: int,
        dtype: str,
        callback: Any,
        finished_callback: Any,
    ) -> None:
        assert (samplerate, channels, dtype) == (module.own_hz, 1, "int16")
        self.module, self.blocksize, self.callback, self.end = module, blocksize, callback, finished_callback
        self.thread = threading.Thread(target=self.play)

    def play(self) -> None:
        status = types.SimpleNamespace(input_overflow=False)
        for start in range(0, len(self.module.pcm), self.blocksize):
            block = self.module.pcm[start : start + self.blocksize, np.newaxis].copy()
            self.module.returned.append(self.callback(block, len(block), None, status))
            block[:] = 0  # PortAudio uses its buffer again.
        if self.module.gone:
            self.module.returned.append(self.end())

    def __enter__(self) -> Stream:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.thread.join()
        self.module.closed = True


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kws.microphone.SILENT_S", 0.2)


def listen(monkeypatch: pytest.MonkeyPatch, module: Sounddevice) -> Generator[Pcm, None, None]:
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return microphone_blocks(RATE_HZ, 1600)


def test_a_microphone_gives_its_samples_until_it_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    pcm = beeps(1.5, seconds=5)
    module, found = Sounddevice(pcm, gone=True), []
    with pytest.raises(KwsError, match="The microphone is gone; check that it is plugged in"):
        for block in listen(monkeypatch, module):
            found.append(block)
    np.testing.assert_array_equal(np.concatenate(found), pcm)
    assert module.closed
    assert set(module.returned) == {None}, "PortAudio's callbacks must return nothing"


@pytest.mark.usefixtures("impatient")
def test_a_microphone_that_says_nothing_more_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KwsError, match=r"The microphone gave no samples for 0\.2 s; check"):
        list(listen(monkeypatch, Sounddevice(beeps(seconds=1), gone=False)))


def test_the_stream_is_closed_when_one_stops_listening(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Sounddevice(beeps(seconds=1), gone=False)
    blocks = listen(monkeypatch, module)
    next(blocks)
    blocks.close()
    assert module.closed


def test_another_rate_is_converted_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = Sounddevice(np.zeros(5 * 48_000, np.int16), gone=True, own_hz=48_000)
    found = []
    with pytest.raises(KwsError, match="gone"):
        for block in listen(monkeypatch, module):
            found.append(block)
    assert 4.9 * RATE_HZ < sum(map(len, found)) <= 5 * RATE_HZ
    assert "its 48000 Hz are converted" in capsys.readouterr().err


def test_samples_that_nobody_took_in_time_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = Sounddevice(beeps(seconds=15), gone=False)
    blocks = listen(monkeypatch, module)
    next(blocks)
    blocks.close()
    assert capsys.readouterr().err.count("some samples were lost") == 1


def test_a_machine_without_a_microphone_or_its_libraries_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(KwsError, match="This machine has no microphone; plug one in, or give --wav"):
        next(listen(monkeypatch, Sounddevice(beeps(), gone=False, devices=False)))
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(KwsError, match=r"needs sounddevice; run pip install 'kws\[mic\]'"):
        next(microphone_blocks(RATE_HZ, 1600))
    monkeypatch.delitem(sys.modules, "sounddevice")
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(KwsError, match="needs the PortAudio library; install it"):
        next(microphone_blocks(RATE_HZ, 1600))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "one of the arguments --wav --mic is required"),
        (["--wav", "a.wav", "--mic"], "not allowed with"),
        (["--wav", "a.wav", "--plot"], "--plot needs the name of a PNG"),
        (["--wav", "a.wav", "--seconds", "3"], "--seconds is for --mic"),
        (["--mic", "--plot", "a.png"], "--plot takes no name with --mic"),
        (["--mic", "--seconds", "0"], "not above 0"),
    ],
)
def test_sources_and_plots_that_do_not_go_together(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from kws import cli

    with pytest.raises(SystemExit) as exited:
        cli.main(["detect", "model.tflite", *arguments])
    assert exited.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("model", ["nothing.tflite", "nothing.pt", "words.txt", "empty"])
def test_a_path_that_is_no_model_gets_one_sentence(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from kws import cli

    (tmp_path / "empty").mkdir()
    assert cli.main(["detect", str(tmp_path / model), "--wav", "a.wav"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"kws: {tmp_path / model}") and error.count("\n") == 1


@pytest.fixture(scope="module")
def spoken_recording(spoken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips of two words with a second of silence before each, stereo and at another rate."""
    import soxr

    folder = tmp_path_factory.mktemp("recording")
    clips = [path for word in ("yes", "stop") for path in sorted((spoken / word).iterdir())[:5]]
    samples = np.concatenate([np.pad(soundfile.read(path)[0], (RATE_HZ, 0)) for path in clips])
    at_44100 = soxr.resample(samples, RATE_HZ, 44_100)
    soundfile.write(folder / "words.wav", np.stack([at_44100, at_44100], 1), 44_100)
    return folder / "words.wav"


@pytest.mark.slow
def test_every_form_of_a_model_hears_the_words(built: Path, trained_run: Path, spoken_recording: Path) -> None:
    from export.firmware_model import read_firmware_model
    from kws.audio import read_audio
    from kws.detector import posteriors_of_logits
    from quantize.runtimes import TflmRuntime

    def events(model: Path) -> list[tuple[int, str]]:
        lines = run_kws("detect", model, "--wav", spoken_recording, "--json").stdout.splitlines()
        return [(event["time_ms"], event["label"]) for event in map(json.loads, lines)]

    facts, device = read_firmware_model(built / "model.int8.tflite"), TflmRuntime(built / "model.int8.tflite")
    assert facts.features is not None
    pcm = to_pcm16(read_audio(spoken_recording, RATE_HZ))
    of_firmware = stream_events(
        pcm,
        facts.features,
        DetectorParams(),
        facts.labels,
        lambda w: posteriors_of_logits(device(w), facts.output.scale),
    )
    wanted = [(event.time_ms, facts.labels[event.label]) for event in of_firmware]
    assert len(wanted) >= 5
    assert {label for _, label in wanted} <= {"yes", "stop", "go", "no"}
    assert events(built) == events(built / "model.int8.tflite") == wanted
    for model in (built / "model.int8.onnx", built / "model.onnx", trained_run / "checkpoint.pt"):
        found = events(model)
        near = [any(word == said and abs(at - ms) <= 300 for at, word in found) for ms, said in wanted]
        assert sum(near) >= 0.7 * len(wanted), model


@pytest.mark.slow
def test_a_detector_is_used_if_named_and_pointed_at_if_not(
    built: Path, spoken_recording: Path, tmp_path: Path, kws: Kws
) -> None:
    eager = tmp_path / "eager.json"
    eager.write_text('{"threshold": 0.05, "refractory_ms": 0}')
    few = kws("detect", built, "--wav", spoken_recording)
    many = kws("detect", built, "--wav", spoken_recording, "--detector", eager, "--plot", tmp_path / "p.png")
    assert len(many.stdout.splitlines()) > 2 * len(few.stdout.splitlines()) > 8
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert f"Wrote {tmp_path / 'p.png'}" in many.stderr
    assert "--detector" not in few.stderr
    assert "no keyword" not in few.stderr


@pytest.mark.slow
def test_models_that_were_changed_or_have_no_features_are_refused(built: Path, tmp_path: Path, kws: Kws) -> None:
    import shutil

    folder = shutil.copytree(built, tmp_path / "copy")
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE_HZ), RATE_HZ)
    soundfile.write(tmp_path / "short.wav", np.zeros(160), RATE_HZ)
    short = kws("detect", folder, "--wav", tmp_path / "short.wav", check=False)
    assert (short.returncode, short.stdout) == (1, "")
    assert "lasts 10 ms" in short.stderr
    (folder / "model.onnx").write_bytes(b"changed")
    changed = kws("detect", folder / "model.onnx", "--wav", tmp_path / "a.wav", check=False)
    assert changed.returncode == 1
    assert "differs from what manifest.json" in changed.stderr
    (folder / "other.onnx").write_bytes(b"other")
    other = kws("detect", folder / "other.onnx", "--wav", tmp_path / "a.wav", check=False)
    assert "other.onnx: is none of" in other.stderr
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["features"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    featureless = kws("detect", folder, "--wav", tmp_path / "a.wav", check=False)
    assert "has no features" in featureless.stderr
    (folder / "detector.json").write_text("{}")
    labelled = kws("detect", built, "--wav", tmp_path / "a.wav", "--detector", tmp_path / "d.json", check=False)
    assert labelled.returncode == 1 and "d.json: no such file" in labelled.stderr
