from __future__ import annotations

import os
import signal

import pytest

from kws.errors import KwsError
from kws.workers import work_through


def square(number: int) -> int:
    return number * number


def process_of(_: int) -> int:
    return os.getpid()


def ignores_interrupts(_: int) -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def refuse_seven(number: int) -> int:
    if number == 7:
        raise KwsError("7 is refused.")
    return number


def kill_self(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_results_come_in_the_order_of_the_items(workers: int, count: int) -> None:
    assert list(work_through(square, range(count), workers, "")) == [number**2 for number in range(count)]


def test_one_worker_is_this_process_and_more_are_others() -> None:
    assert set(work_through(process_of, range(9), 1, "")) == {os.getpid()}
    assert os.getpid() not in set(work_through(process_of, range(9), 2, ""))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_worker_arrives_as_it_is(workers: int) -> None:
    with pytest.raises(KwsError, match=r"^7 is refused\.$"):
        list(work_through(refuse_seven, range(20), workers, ""))


def test_a_killed_worker_is_one_sentence() -> None:
    with pytest.raises(KwsError, match=r"was killed.*fewer --workers"):
        list(work_through(kill_self, range(4), 2, ""))


def test_workers_ignore_interrupts_and_this_process_answers_them() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        results = work_through(ignores_interrupts, range(20), 2, "")
        assert next(results)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert all(results)
    finally:
        signal.signal(signal.SIGINT, before)
