"""Words as names of folders and labels: they come from strangers."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from kws.errors import KwsError

MAX_WORD_BYTES = 60
# Not allowed in a folder name on Windows; the slash nowhere.
FORBIDDEN_CHARACTERS = frozenset('/\\<>:"|?*')


def check_words(words: Sequence[str]) -> None:
    """Raise KwsError for no word at all, a word that is no safe folder name, or one that is there twice."""
    if not words:
        raise KwsError("There is no word to speak; name at least one.")
    seen: set[str] = set()
    for word in words:
        if problem := word_problem(word):
            raise KwsError(f"The word {word!r} {problem}; choose another word.")
        if same_word_key(word) in seen:
            raise KwsError(f"The word {word!r} is there twice; name each word once.")
        seen.add(same_word_key(word))


def word_problem(word: str) -> str | None:
    """Why `word` cannot be a folder name on every system, as the end of a sentence; None if it can."""
    if not word.strip():
        return "is empty"
    if any("\ud800" <= character <= "\udfff" for character in word):
        return "is not UTF-8"
    if any(unicodedata.category(character)[0] == "C" for character in word):
        return "holds a control character"
    if word != word.strip():
        return "begins or ends with a space"
    if FORBIDDEN_CHARACTERS & set(word):
        return "holds a character that no folder name may hold"
    if word.startswith(("_", ".")) or word.endswith("."):
        return "begins with an underscore or begins or ends with a dot"
    if len(word.encode()) > MAX_WORD_BYTES:
        return f"is longer than {MAX_WORD_BYTES} bytes"
    return None


def same_word_key(word: str) -> str:
    """Equal for words that differ in nothing but case or in how their letters are composed."""
    return unicodedata.normalize("NFC", word).casefold()
