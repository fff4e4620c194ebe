"""What is installed has all that the code reads: an editable install would not show a file that is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("kws", "quantize", "export", "firmware_template")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_beside_the_code_is_declared_as_package_data(package: str) -> None:
    tomllib = pytest.importorskip("tomllib", reason="tomllib is part of Python from 3.11 on")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    installed = {path for pattern in declared.get(package, []) for path in (ROOT / package).glob(pattern)}
    needed = {
        path
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    }
    assert needed - installed == set()
