"""`kws detect`: tells the keywords in a recording, or live."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kws.commands.arguments import add_command, positive_number
from kws.pretrained import NAMES, model_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from export.spotting_model import SpottingModel
    from kws.audio import Pcm
    from kws.commands.arguments import Commands
    from kws.detect import EventPrinter, Heard, Listener
    from kws.detector import DetectorParams

LIVE = "live"


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "detect", _run, "Tell the keywords in a recording, or live from a microphone.")
    parser.add_argument(
        "model",
        type=model_path,
        metavar="MODEL",
        help=f"RUN/checkpoint.pt, or {' or '.join(NAMES)}, or BUILD, or an .onnx or .tflite in it; BUILD is "
        "its .tflite under TFLM, which gives the events of the firmware",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--wav", type=Path, metavar="FILE", help="recording of any rate and length (default: none)")
    source.add_argument("--mic", action="store_true", help="listen until Ctrl-C; needs pip install 'kws[mic]'")
    parser.add_argument(
        "--seconds", type=positive_number, metavar="S", help="with --mic: stop after so long (default: Ctrl-C)"
    )
    parser.add_argument(
        "--detector", type=Path, metavar="FILE", help="JSON: thresholds and times of the detector (default: its own)"
    )
    parser.add_argument("--json", action="store_true", help="print each event as a JSON object")
    parser.add_argument(
        "--plot",
        nargs="?",
        const=LIVE,
        metavar="PNG",
        help="posteriors over time: with --wav as a picture of this name, with --mic live in the terminal "
        "(default: none)",
    )


def _run(options: argparse.Namespace) -> None:
    if options.wav is not None and (options.plot == LIVE or options.seconds is not None):
        options.refuse(
            "--plot needs the name of a PNG with --wav" if options.plot == LIVE else "--seconds is for --mic"
        )
    if options.mic and options.plot not in (None, LIVE):
        options.refuse("--plot takes no name with --mic: it draws live")
    from export.spotting_model import open_model
    from kws.detect import EventPrinter, Listener

    model = open_model(options.model)
    params = _params(options.detector, model)
    listener = Listener(model.labels, model.features, params, model.posteriors_of)
    tell = EventPrinter(model.labels, as_json=options.json)
    if options.mic:
        _listen(options, model, params, listener, tell)
    else:
        _read(options, model, listener, tell)


def _read(options: argparse.Namespace, model: SpottingModel, listener: Listener, tell: EventPrinter) -> None:
    from kws.artifact import make_folder
    from kws.heat_map import draw_posteriors
    from kws.progress import note
    from kws.stream import recording_blocks
    from kws.terminal import visible

    picture = None if options.plot is None else Path(options.plot)
    if picture is not None:
        make_folder(picture.parent)
    kept: list[Heard] = []
    events = 0
    for block in recording_blocks(options.wav, model.features):
        heard = listener.push(block)
        tell(heard.events)
        events += len(heard.events)
        if picture is not None:
            kept.append(heard)
    if picture is not None:
        draw_posteriors(picture, kept, model.labels, options.wav.name)
        note(f"Wrote {visible(str(picture))}")
    if not events:
        note(
            f"{visible(str(options.wav))}: no keyword reached its threshold; --plot shows how near they came. "
            "A word needs about half a second of sound before and behind it."
        )


def _listen(
    options: argparse.Namespace, model: SpottingModel, params: DetectorParams, listener: Listener, tell: EventPrinter
) -> None:
    """Ctrl-C is how one stops listening, so it is no failure."""
    import contextlib

    import torch

    from kws.heat_map import live_map
    from kws.microphone import microphone_blocks

    torch.set_num_threads(1)
    rate_hz = model.features.sample_rate_hz
    blocks = microphone_blocks(rate_hz, params.stride_frames(model.features) * model.features.hop_samples)
    view = live_map(model.labels) if options.plot == LIVE else contextlib.nullcontext()
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(blocks), view as show:
        for block in _until(blocks, options.seconds, rate_hz):
            heard = listener.push(block)
            tell(heard.events)
            if show is not None:
                show(heard)


def _until(blocks: Iterator[Pcm], seconds: float | None, rate_hz: int) -> Iterator[Pcm]:
    samples = 0
    for block in blocks:
        yield block
        samples += len(block)
        if seconds is not None and samples >= seconds * rate_hz:
            return


def _params(path: Path | None, model: SpottingModel) -> DetectorParams:
    from kws.detector import DetectorParams, read_detector
    from kws.progress import note

    if path is not None:
        return read_detector(path)
    beside = model.path.parent / "detector.json"
    if beside.is_file():
        note(f"There is a {beside}; give --detector {beside} to use its thresholds.")
    return DetectorParams()
