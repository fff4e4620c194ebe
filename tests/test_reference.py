"""The reference kernels in a process of their own: it says why it cannot answer, and never outlives its use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kws.errors import KwsError
from quantize.reference import reference_process


@pytest.mark.slow
def test_a_model_that_it_cannot_run_is_a_sentence() -> None:
    with (
        reference_process() as reference,
        pytest.raises(KwsError, match=r"gave no answer \(.*\); run kws quantize again"),
    ):
        reference.ask(b"garbage", np.zeros((1, 1, 2, 2), np.float32))
        reference.logits()


def test_it_ends_with_the_block_whatever_happens_there() -> None:
    with pytest.raises(ZeroDivisionError), reference_process() as reference:
        assert reference._process.poll() is None
        folder = reference._folder
        raise ZeroDivisionError
    assert reference._process.poll() is not None
    assert not Path(folder).exists()
