"""scripts/compare_converters.py without onnx2tf, which no test installs: its refusals, and what it makes of a model."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from networks import run
from qdq_graphs import block, built, features_for

from export.lowering import lower
from export.to_tflite import to_tflite
from kws.errors import KwsError

SCRIPT = Path(__file__).parent.parent / "scripts" / "compare_converters.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.mark.slow
def test_a_folder_that_is_no_build_is_one_sentence_before_anything_is_installed(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(tmp_path), str(tmp_path / "venv")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"Error: {tmp_path / 'manifest.json'}: no such file; run kws quantize again.\n"
    assert not (tmp_path / "venv").exists()


def test_a_command_that_fails_is_one_sentence_with_its_last_line(script: dict[str, Any]) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('first\\nno network.')"]
    with pytest.raises(KwsError, match=r"^Installing it failed \(no network\); use one\.$"):
        script["run"](command, "Installing it", "use one")


def test_both_columns_hold_what_the_models_are(script: dict[str, Any], tmp_path: Path) -> None:
    model = built(block)
    tflite = to_tflite(lower(model))
    (tmp_path / "model.tflite").write_bytes(tflite)
    features = features_for(model, clips=40)
    logits = run(model, features)
    clips = script["Clips"](calibration=features, test=features, targets=logits.argmax(axis=1))
    column = script["describe"](tmp_path / "model.tflite", 2.0, logits, clips)
    assert column["accuracy, float"] == "100.00%"
    assert column["accuracy, int8"] == column["same answer as float"]
    assert float(column["logit SQNR"].split()[0]) > 20
    assert column["`.tflite`, bytes"] == f"{len(tflite):,}"
    table = script["markdown"]({"ours": column, "theirs": column | {"conversion, seconds": "9"}}, "40 clips")
    assert table.startswith(
        "| 40 clips | ours | theirs |\n| --- | --- | --- |\n| accuracy, float | 100.00% | 100.00% |"
    )
    assert table.endswith("| conversion, seconds | 2 | 9 |")
