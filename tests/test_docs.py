"""Every command that the README and the pages of docs/ show is one that exists, with options that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from kws import cli
from scripts.docs_check import ELSEWHERE, PAGES, ROOT, elsewhere, shown_commands


def kws_arguments(words: list[str]) -> list[str] | None:
    if words[0] == "kws":
        return words[1:]
    if words[0] == "torchrun":
        return words[words.index("kws") + 1 :]
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_kws_command_shown_can_be_parsed(page: Path) -> None:
    for words in shown_commands(page):
        arguments = kws_arguments(words)
        if arguments is None or "-h" in arguments:
            continue
        try:
            cli._parser().parse_args(arguments)
        except SystemExit as refused:
            raise AssertionError(f"{page.name} shows {shlex.join(words)}, which kws does not take") from refused


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_make_target_and_page_shown_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert "demo" in targets
    shown = {words[1] for words in shown_commands(page) if words[0] == "make"} | set(
        re.findall(r"`make ([a-z-]+)", text)
    )
    assert shown - targets == set()
    for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_commands_are_found_on_the_pages() -> None:
    found = [words for page in PAGES for words in shown_commands(page)]
    assert {"kws", "make", "torchrun"} <= {words[0] for words in found}
    assert {words[1] for words in found if words[0] == "kws"} >= {"fetch", "prepare", "train", "quantize", "headers"}


def test_a_command_that_is_not_run_is_tested_where_it_says() -> None:
    for reason in ELSEWHERE.values():
        assert (ROOT / reason.rpartition("; ")[2]).is_file()
    assert elsewhere(["kws", "train", "data", "--resume"])
    assert elsewhere(["kws", "train", "data"]) is None
