"""What is shown on a terminal."""

from __future__ import annotations


def visible(text: str) -> str:
    """`text` with control characters escaped: what comes from a file or a folder's name must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
