from __future__ import annotations

from pathlib import Path

import pytest

from quantize.options import QuantizeOptions
from scripts import compare_recovery


@pytest.mark.slow
def test_the_table_shows_that_the_default_gains_on_a_trained_model(
    trained_run: Path, spoken: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_recovery, "ROWS", {"none": compare_recovery.PLAIN, "default": QuantizeOptions()})
    compare_recovery.compare(trained_run / "checkpoint.pt", spoken)
    table = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    (none,), (default,) = ([row for row in table if row[0] == name] for name in ("none", "default"))
    assert len(none) == len(default) == len(table[0]) == 8
    for column in (table[0].index("validation SQNR"), table[0].index("test SQNR")):
        assert float(default[column].removesuffix(" dB")) > float(none[column].removesuffix(" dB")) + 0.2
