"""Where training runs: the device, and one process or several that `torchrun` started."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from kws.errors import KwsError

_Result = TypeVar("_Result")

# Parameters of mallopt in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# glibc before 2.35 takes no more than 32 MiB for the latter.
_KEPT_BYTES = (1 << 30, 1 << 25)


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process is number `rank` of `count`; number 0 writes the files and speaks."""

    rank: int = 0
    count: int = 1

    @property
    def is_writer(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes of a tensor of equal shape in each, in place."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def share(self, network: nn.Module) -> None:
        """Give every process the weights and running statistics of the first."""
        if self.count > 1:
            for tensor in network.state_dict().values():
                distributed.broadcast(tensor, src=0)

    def wait(self) -> None:
        """Until every process has come to this point."""
        if self.count > 1:
            distributed.barrier()

    def in_turn(self, work: Callable[[], _Result]) -> _Result:
        """`work()` in the first process, then in the others, which find what it left in the cache."""
        if not self.is_writer:
            self.wait()
        result = work()
        if self.is_writer:
            self.wait()
        return result

    def distribute(self, module: nn.Module, device: torch.device) -> nn.Module:
        """`module`, whose gradients will be the mean over the processes."""
        if self.count == 1:
            return module
        return DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)


def prepare_process() -> None:
    """Settings of the whole process that training on a CPU is faster with: no denormal floats, freed memory kept.

    Each step frees what the next one needs again, and glibc would give it back to the system, which hands it out anew
    page by page.
    """
    torch.set_flush_denormal(True)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES[0])
    for size in _KEPT_BYTES:
        if mallopt(_M_MMAP_THRESHOLD, size):
            break


@contextlib.contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started, if it did: over gloo on a CPU, NCCL on GPUs."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    # DistributedDataParallel imports it, and if there is a group by then its functions keep that as a default argument:
    # threads of a group that is kept abort Python if they still hold a tensor when it ends.
    importlib.import_module("torch.distributed.nn")
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(rank=distributed.get_rank(), count=distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def is_first_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def choose_device(name: str) -> torch.device:
    """ "auto" is the GPU if there is one; of several GPUs the one that is this process's.

    Raises KwsError if the named device is not there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = "cuda" if available["cuda"] else "cpu"
    if not available[name]:
        raise KwsError(f"--device {name}: PyTorch finds no such device here; use --device auto or cpu.")
    if name == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        return device
    return torch.device(name)
