"""The same work on many items, by several processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from kws.errors import KwsError
from kws.progress import track

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
CHUNKS_A_WORKER = 8
MAX_CHUNK = 64


def work_through(
    work: Callable[[_Item], _Result], items: Sequence[_Item], workers: int, description: str
) -> Iterator[_Result]:
    """Yield `work(item)` in the order of `items`, with a progress bar; `work` is a function of a module.

    One worker is this process. Raises KwsError if a worker is killed, and what `work` raises.
    """
    if workers == 1 or len(items) < 2:
        yield from track(map(work, items), description, len(items))
        return
    chunk = min(MAX_CHUNK, max(1, len(items) // (workers * CHUNKS_A_WORKER)))
    # "spawn" instead of "fork": a progress bar's thread or a library's may hold a lock at the moment of forking.
    pool = ProcessPoolExecutor(min(workers, len(items)), mp_context=multiprocessing.get_context("spawn"))
    try:
        with _children_ignore_interrupts():
            results = pool.map(work, items, chunksize=chunk)
        yield from track(results, description, len(items))
    except BrokenProcessPool as error:
        raise KwsError("A worker process was killed, perhaps for want of memory; give fewer --workers.") from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _children_ignore_interrupts() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal; the first process alone answers it. Only a main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
