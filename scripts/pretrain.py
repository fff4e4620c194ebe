"""Trains the models that come with kws, and puts them and their calibration clips into kws/pretrained/.

    python -m scripts.pretrain OUT DATA

OUT gets the runs and the builds; what it has already is not made again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from kws.checkpoint import load_checkpoint
from kws.dataset import load_dataset_for
from kws.features import features_of_clips
from kws.pretrained import CALIBRATION_SUFFIX, FOLDER, SUFFIX
from kws.pretrained.calibration import write_calibration
from scripts.kws_runs import built, exit_code, judged, trained

NAME = "speech-commands"
WORDS = "yes,no,up,down,left,right,on,off,stop,go"
MODELS = ("bcresnet-1", "bcresnet-3")
CLIPS_A_LABEL = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for runs, builds and reports")
    parser.add_argument("data", type=Path, metavar="DATA", help="Speech Commands, or a part of it")
    options = parser.parse_args()
    out, data = options.out, options.data
    for model in MODELS:
        checkpoint = trained(out / model / "run", data, "--words", WORDS, "--model", model)
        build = built(out / model / "build", checkpoint, data)
        judged(out / model / "report", build, data)
        shutil.copyfile(checkpoint, FOLDER / f"{NAME}-{model}{SUFFIX}")
    known = load_checkpoint(checkpoint)
    dataset = load_dataset_for(known.labels, data, known.features)
    clips = dataset.calibration_clips(CLIPS_A_LABEL * len(known.labels))
    write_calibration(FOLDER / f"{NAME}{CALIBRATION_SUFFIX}", features_of_clips(clips, known.features))


if __name__ == "__main__":
    sys.exit(exit_code(main))
