"""The words that a .tflite answers with, as a hash in its metadata: other labels beside it are told from its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

LABELS_HASH = "labels_sha256"


def labels_sha256(labels: Sequence[str]) -> bytes:
    """Of `labels` in the order of the outputs, as a JSON list in UTF-8 without spaces, non-ASCII escaped."""
    return hashlib.sha256(json.dumps(list(labels), separators=(",", ":")).encode()).digest()
