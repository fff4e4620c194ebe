"""Where training runs: the device, and one process or several that `torchrun` started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from kws.errors import KwsError

_Result = TypeVar("_Result")


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


@contextlib.contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started, if it did: over gloo on a CPU, NCCL on GPUs."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
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
