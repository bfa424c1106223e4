"""Owns torch.distributed: the processes of one fit, each of which has a share of the images.

`torchrun` starts several processes. The first one decides, prints and writes; the others encode, sum and train with it.
Without torchrun there is one process, and each method returns what it gets.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, Protocol, TypeVar, final

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ..decoders.nets.base import Net
from ..errors import FitError, LostProcessError, brief
from .ending_signals import ENDING_SIGNALS, ending_signals_as_interrupts, handled_signals

# A process that does not answer for so long counts as lost. The others wait as long while the first one scores.
TIMEOUT = timedelta(hours=3)
COUNT, LOCAL_RANK = "WORLD_SIZE", "LOCAL_RANK"  # environment variables of torchrun
FIRST = 0

Items = TypeVar("Items", bound="Sliceable")


class Sliceable(Protocol):
    """A sequence, a tensor, or pairs."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: slice, /) -> Any: ...


class Processes(ABC):
    """The processes of a fit, as one of them sees them. All of them call the same methods in the same order.

    Args:
        rank: number of this process, from 0 up.
        count: number of processes.
    """

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count

    @property
    def is_first(self) -> bool:
        """Whether this process decides, prints and writes."""
        return self.rank == FIRST

    def share_bounds(self, length: int) -> tuple[int, int]:
        """Where the share of this process begins and ends in a sequence of this length."""
        return self.rank * length // self.count, (self.rank + 1) * length // self.count

    def share(self, items: Items) -> Items:
        """The part of a sequence that is for this process. All parts in the order of the processes are the whole."""
        begin, end = self.share_bounds(len(items))
        return items[begin:end]

    @abstractmethod
    def total(self, tensor: Tensor) -> Tensor:
        """Adds the tensors of all processes; each process gets the same bits."""

    @abstractmethod
    def mean(self, values: Tensor) -> float:
        """The mean over the values of all processes."""

    @abstractmethod
    def texts_of_all(self, texts: Sequence[str]) -> list[str]:
        """The texts of all processes, in the order of the processes."""

    @abstractmethod
    def text_of_first(self, text: str) -> str:
        """The text that the first process gives."""

    @abstractmethod
    def tensors_of_first(self, tensors: Mapping[str, Tensor] | None) -> Mapping[str, Tensor] | None:
        """The tensors that the first process gives."""

    @abstractmethod
    def gathered_by_first(self, tensor: Tensor) -> Tensor:
        """For the first process, the tensors `[n, ...]` of all processes in their order; for others their own."""

    @abstractmethod
    def parallel(self, net: Net) -> Callable[[Tensor], Tensor]:
        """The forward function of a net whose gradients are the means over all processes.

        All processes get the weights of the first one.
        """

    @abstractmethod
    def noticing_losses(self) -> AbstractContextManager[None]:
        """A block with a backward pass. If another process ended, `LostProcessError` is raised."""

    @abstractmethod
    def is_one_interrupted(self) -> bool:
        """Whether a process was interrupted in `fitting_together`; the same answer for all."""

    @abstractmethod
    def announce(self, work: str) -> None:
        """Says as the first process what is fitted next.

        Raises:
            KeyboardInterrupt: this process was interrupted in `fitting_together`.
        """

    @abstractmethod
    def announced(self) -> str:
        """The next work, as another process than the first; empty if the fit has ended."""

    @abstractmethod
    def fitting_together(self) -> AbstractContextManager[None]:
        """The block in which decoders are fitted. An interrupt ends a training, which keeps its best net."""


@final
class OneProcess(Processes):
    """A single process, which does everything."""

    def __init__(self) -> None:
        super().__init__(FIRST, 1)

    def share(self, items: Items) -> Items:
        return items

    def total(self, tensor: Tensor) -> Tensor:
        return tensor

    def mean(self, values: Tensor) -> float:
        return float(values.mean())

    def texts_of_all(self, texts: Sequence[str]) -> list[str]:
        return list(texts)

    def text_of_first(self, text: str) -> str:
        return text

    def tensors_of_first(self, tensors: Mapping[str, Tensor] | None) -> Mapping[str, Tensor] | None:
        return tensors

    def gathered_by_first(self, tensor: Tensor) -> Tensor:
        return tensor

    def parallel(self, net: Net) -> Callable[[Tensor], Tensor]:
        return net

    def noticing_losses(self) -> AbstractContextManager[None]:
        return nullcontext()

    def is_one_interrupted(self) -> bool:
        return False

    def announce(self, work: str) -> None:
        pass

    def announced(self) -> str:
        return ""

    def fitting_together(self) -> AbstractContextManager[None]:
        return ending_signals_as_interrupts()


ONE_PROCESS = OneProcess()


@final
class TorchProcesses(Processes):
    """The processes of a torch.distributed group that exists. Tensors are on the CPU.

    Args:
        device: device of this process, on which nets are trained.
    """

    def __init__(self, device: str) -> None:
        super().__init__(dist.get_rank(), dist.get_world_size())
        self._device = torch.device(device)
        self._is_together = self._is_interrupted = False

    def total(self, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        with _errors_as_losses():
            dist.reduce(total, FIRST)
            dist.broadcast(total, FIRST)  # the sum of the first one: a closed form must be the same in all processes
        return total

    def mean(self, values: Tensor) -> float:
        numbers = torch.tensor([float(values.double().sum()), values.numel()], dtype=torch.float64)
        sum_of_all, count = self.total(numbers).tolist()
        return sum_of_all / count

    def texts_of_all(self, texts: Sequence[str]) -> list[str]:
        parts = (json.loads(self._bytes_of(rank, json.dumps(list(texts)).encode())) for rank in range(self.count))
        return [text for part in parts for text in part]

    def text_of_first(self, text: str) -> str:
        return self._bytes_of(FIRST, text.encode()).decode()

    def tensors_of_first(self, tensors: Mapping[str, Tensor] | None) -> Mapping[str, Tensor] | None:
        packed = save({key: tensor.contiguous() for key, tensor in tensors.items()}) if tensors else b""
        content = self._bytes_of(FIRST, packed)
        return load(content) if content else None

    def gathered_by_first(self, tensor: Tensor) -> Tensor:
        lengths = [int(length) for length in self.texts_of_all([str(len(tensor))])]
        with _errors_as_losses():
            if not self.is_first:
                if len(tensor):
                    dist.send(tensor.contiguous(), FIRST)
                return tensor
            others = {rank: tensor.new_empty((n, *tensor.shape[1:])) for rank, n in enumerate(lengths) if rank and n}
            for rank, other in others.items():
                dist.recv(other, rank)
        return torch.cat([tensor, *others.values()])

    def parallel(self, net: Net) -> Callable[[Tensor], Tensor]:
        devices = [self._device] if self._device.type == "cuda" else None
        with _errors_as_losses():
            return DistributedDataParallel(net, device_ids=devices)

    def noticing_losses(self) -> AbstractContextManager[None]:
        return _errors_as_losses()

    def is_one_interrupted(self) -> bool:
        return bool(self.total(torch.tensor(int(self._is_interrupted))))

    def announce(self, work: str) -> None:
        if self._is_interrupted:
            raise KeyboardInterrupt
        self.text_of_first(work)

    def announced(self) -> str:
        work = self.text_of_first("")
        if not work:
            self._require_all()
        return work

    @contextmanager
    def fitting_together(self) -> Iterator[None]:
        """Delays interrupts: a process that left alone would leave the others waiting."""
        self._is_together = True
        try:
            yield
        except (FitError, KeyboardInterrupt):  # the others have it too, or wait for work
            self._end()
            raise
        else:
            self._end()
        finally:
            self._is_together = False

    def interrupt(self) -> None:
        """Handles a signal.

        Raises:
            KeyboardInterrupt: nothing is fitted yet, so this process can end at any moment.
        """
        self._is_interrupted = True
        if not self._is_together:
            raise KeyboardInterrupt

    def _end(self) -> None:
        if self.is_first:
            self.text_of_first("")
            self._require_all()

    def _require_all(self) -> None:
        """Raises `LostProcessError` if a process ended since the last exchange."""
        self.total(torch.zeros(1))

    def _bytes_of(self, rank: int, content: bytes) -> bytes:
        """The bytes that the process `rank` gives. Plain bytes: a pickled object could run code."""
        length = torch.tensor(len(content))
        with _errors_as_losses():
            dist.broadcast(length, rank)
            data = torch.frombuffer(bytearray(content), dtype=torch.uint8) if self.rank == rank and content else None
            if data is None:
                data = torch.empty(int(length), dtype=torch.uint8)
            if len(data):
                dist.broadcast(data, rank)
        return data.numpy().tobytes()


@contextmanager
def _errors_as_losses() -> Iterator[None]:
    """Raises `LostProcessError` for the errors of torch.distributed, which are `RuntimeError`."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise LostProcessError(
            "another process of this command ended or does not answer, so this one ended as well, without a result; "
            f"look for its message above. The same command goes on from what is finished. PyTorch says: {brief(error)}"
        ) from error


def own_device(name: str) -> str:
    """The device of this process: of several processes, each has a GPU of its own.

    Raises:
        FitError: there are fewer GPUs than processes, or the device cannot be used by several processes.
    """
    if not _has_torchrun() or name == "cpu":
        return name
    if name != "cuda":
        raise FitError(f"expected cpu or cuda as the device of several processes, got {name}")
    local, gpus = int(os.environ[LOCAL_RANK]), torch.cuda.device_count()
    if not dist.is_nccl_available():
        raise FitError(
            "this PyTorch cannot exchange between GPUs: NCCL is not in it, as in those for Windows and macOS; "
            "use the device cpu, or one process"
        )
    if local >= gpus:
        raise FitError(
            f"expected a GPU for each process of this machine, got {gpus} for process {local + 1}; "
            "start fewer processes with torchrun's --nproc-per-node"
        )
    return f"cuda:{local}"


@contextmanager
def joined_processes(device: str) -> Iterator[Processes]:
    """The processes that torchrun started; one process without torchrun.

    Args:
        device: device of this process, see `own_device`.

    Raises:
        LostProcessError: another process ended, or does not answer.
    """
    if not _has_torchrun():
        yield ONE_PROCESS
        return
    if device != "cpu":
        torch.cuda.set_device(device)
    with _errors_as_losses():
        dist.init_process_group("gloo" if device == "cpu" else "cpu:gloo,cuda:nccl", timeout=TIMEOUT)
    try:
        processes = TorchProcesses(device)
        with handled_signals(processes.interrupt, ("SIGINT", *ENDING_SIGNALS)):
            yield processes
    finally:
        dist.destroy_process_group()


def _has_torchrun() -> bool:
    """Whether torchrun started several processes. Other programs set the same variables for their own processes."""
    several = int(os.environ.get(COUNT, "1")) > 1
    return several and dist.is_available() and dist.is_torchelastic_launched()
