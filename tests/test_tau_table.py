from __future__ import annotations

import sys

import pytest

from scripts import tau_table


def number(cell: str) -> int:
    return int(cell.replace(",", ""))


@pytest.mark.slow
def test_other_weights_cost_the_same(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tau_table, "MODEL_TAUS", {"bcresnet-1": 1})
    monkeypatch.setattr(sys, "argv", ["tau_table"])
    assert tau_table.main() == 0
    headings, _, printed = capsys.readouterr().out.splitlines()
    cells = printed.strip("| ").split(" | ")
    assert headings.strip("| ").split(" | ") == tau_table.HEADINGS
    assert cells[:4] == ["bcresnet-1", "9,232", "2.4 M", "balance"]
    *others, file_bytes, _ = tau_table.row("bcresnet-1", "balance", seed=1)
    assert others == cells[:-2]
    assert number(file_bytes) == pytest.approx(number(cells[-2]), rel=0.01)


def test_random_weights_differ_by_seed_and_are_alive() -> None:
    first, again, other = (tau_table.random_network("bcresnet-1", seed).state_dict() for seed in (0, 0, 1))
    norms = [name for name in first if name.endswith(("running_mean", "running_var"))]
    assert norms and all(first[name].std() > 0 and not first[name].equal(other[name]) for name in norms)
    assert all(first[name].equal(again[name]) for name in first)
