"""Text from strangers, such as labels, made safe to print."""

from __future__ import annotations


def visible(text: str) -> str:
    """`text` on one line, control characters escaped: a label is a folder's name and must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
