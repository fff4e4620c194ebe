"""Random numbers that depend on names and nothing else: not on order, nor on how many workers there are."""

from __future__ import annotations

import hashlib
import json

import numpy as np


def seeded(*parts: str | int) -> np.random.Generator:
    """A generator that depends on `parts` alone."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
