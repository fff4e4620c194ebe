"""Trained models that come with kws, and clips to calibrate them on; README.md here is their model card.

A name stands wherever a command takes a checkpoint. Each model is a checkpoint of `kws train`, made by
`make pretrained`; what it hears lies beside it as NAME_OF_DATA.calibration.npz.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
SUFFIX, CALIBRATION_SUFFIX = ".pt", ".calibration.npz"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}")))


def model_path(text: str) -> Path:
    """The file of a pretrained model for its name; every other text is a path, as is the name of a file that exists."""
    path = Path(text)
    return FOLDER / f"{text}{SUFFIX}" if text in NAMES and not path.exists() else path


def is_pretrained(path: Path) -> bool:
    return path.parent == FOLDER and path.stem in NAMES
