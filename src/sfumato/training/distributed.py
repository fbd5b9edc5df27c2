"""Several processes that train one model together, started by torchrun or SLURM.

Each process draws its share of a step's batch; the loss is that of the whole batch, so what is
learned does not depend on how many there are, up to the rounding of sums. The first process
alone writes and prints.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from sfumato.errors import ConfigError, SfumatoError, TrainingError

Result = TypeVar("Result")

CONNECTING_TIME = timedelta(minutes=5)
WAITING_TIME = timedelta(days=7)
"""How long processes wait for the first one, which prepares all cases alone."""
ENDED = "another process of this training ended; if it said why, that stands above"
GOES_ON, FAILS, STOPS = 0.0, 1.0, 2.0
"""What processes tell each other before each step."""


class EndedElsewhereError(TrainingError):
    """Another process could not go on, and says why."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a process stands among those that were started together.

    Attributes:
        rank: Its number, from 0.
        size: How many there are.
        local_rank: Its number among those of the same machine.
        meeting_point: Where they find each other, as torch writes it.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    meeting_point: str = "env://"


def find_place(environment: Mapping[str, str]) -> Place:
    """Read where this process stands from what torchrun or SLURM's srun tell it.

    Raises:
        ConfigError: If only a part of it is there, or numbers are none.
    """
    try:
        if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= environment.keys():
            return Place(
                rank=int(environment["RANK"]),
                size=int(environment["WORLD_SIZE"]),
                local_rank=int(environment.get("LOCAL_RANK", environment["RANK"])),
            )
        # Not SLURM_NTASKS: a batch script has that too, though srun did not start it.
        if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
            return Place(
                rank=int(environment["SLURM_PROCID"]),
                size=int(environment["SLURM_STEP_NUM_TASKS"]),
                local_rank=int(environment["SLURM_LOCALID"]),
                meeting_point=_meeting_point(environment),
            )
    except (KeyError, ValueError) as error:
        raise ConfigError(
            "the number of this process among others cannot be read from the environment"
            f" ({error}); start several with torchrun or srun"
        ) from error
    return Place()


def _meeting_point(environment: Mapping[str, str]) -> str:
    """Choose a machine and a port that all tasks of a SLURM step come upon by themselves.

    Examples:
        >>> _meeting_point({"SLURM_STEP_NODELIST": "node[07-09,12],x1", "SLURM_JOB_ID": "4"})
        'tcp://node07:20004'
    """
    address = environment.get("MASTER_ADDR")
    if address is None:
        nodes = environment["SLURM_STEP_NODELIST"]
        match = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^,]*))?", nodes)
        address = "".join(part or "" for part in match.groups()) if match else nodes
    number = int(environment["SLURM_JOB_ID"]) + 1000 * int(environment.get("SLURM_STEP_ID", "0"))
    port = environment.get("MASTER_PORT", 20000 + number % 10000)
    return f"tcp://{address}:{port}"


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes that train a model together; alone, nothing is asked of others.

    Attributes:
        place: Where this process stands.
    """

    place: Place = Place()
    _talk: Any = None
    """Where short messages go; apart from gradients, for which nobody waits for days."""

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.place.size

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.place.rank == 0

    def share(self, n: int) -> range:
        """Return which of n things are this process's part; all parts are about as large."""
        rank, size = self.place.rank, self.size
        return range(n * rank // size, n * (rank + 1) // size)

    def of_first(self, work: Callable[[], Result]) -> Result:
        """Let the first process work, and give all of them its result.

        Raises:
            EndedElsewhereError: If the first one failed, in the others.
        """
        if self.size == 1:
            return work()
        told: list[Any] = [None]
        failure = None
        if self.is_first:
            try:
                told = [(work(),)]
            except BaseException as error:
                failure = error
        with lost_processes():
            distributed.broadcast_object_list(told, group=self._talk, device=_CPU)
        if failure is not None:
            raise failure
        if told[0] is None:
            raise EndedElsewhereError(ENDED)
        (result,) = told[0]
        return result

    def of_each(self, work: Callable[[], Result]) -> Result:
        """Let every process work; if it fails in one of them, it fails in all.

        Raises:
            EndedElsewhereError: If one failed, in all but the first.
            TrainingError: If another one failed, in the first, which is told why.
            KeyboardInterrupt: If one stops.
        """
        if self.size == 1:
            return work()
        failure, result = None, None
        try:
            result = (work(),)
        except Exception as error:
            failure = error
        states = self.exchange(GOES_ON if failure is None else FAILS)
        if STOPS in states:
            raise KeyboardInterrupt
        if FAILS in states:
            self._fail(failure, states.index(FAILS))
        assert result is not None
        return result[0]

    def _fail(self, failure: Exception | None, rank: int) -> None:
        told: list[Any] = [None] * self.size
        with lost_processes():
            distributed.all_gather_object(told, _words(failure), group=self._talk)
        if not self.is_first:
            raise EndedElsewhereError(ENDED) from failure
        raise failure or TrainingError(f"process {rank}: {told[rank]}")

    def common(self, failure: SfumatoError) -> SfumatoError:
        """Return what to raise for an error that all processes meet: one of them says it."""
        return failure if self.is_first else EndedElsewhereError(ENDED)

    def stop(self) -> None:
        """Have the other processes, which are about to draw, stop as by Ctrl-C."""
        self.exchange(STOPS)

    def exchange(self, number: float) -> list[float]:
        """Tell all processes a number, and hear theirs, in their order."""
        if self.size == 1:
            return [number]
        numbers = [torch.zeros(1, dtype=torch.float64) for _ in range(self.size)]
        mine = torch.tensor([number], dtype=torch.float64)
        with lost_processes():
            distributed.all_gather(numbers, mine, group=self._talk)
        return [n.item() for n in numbers]

    def gather(self, part: torch.Tensor) -> tuple[torch.Tensor, slice]:
        """Put the processes' parts of a batch together.

        Returns:
            The whole, the same in every process, and where the own part lies in it.
        """
        if self.size == 1:
            return part, slice(None)
        lengths = [int(n) for n in self.exchange(len(part))]
        first = sum(lengths[: self.place.rank])
        mine = slice(first, first + len(part))
        whole = part.new_zeros((sum(lengths), *part.shape[1:]))
        whole[mine] = part
        # A sum of zeros and one part: parts may differ in length, which gathering does not take.
        with lost_processes():
            distributed.all_reduce(whole)
        return whole, mine

    def synchronise(self, network: nn.Module) -> nn.Module:
        """Wrap a network so that gradients are averaged over processes, and weights start alike."""
        if self.size == 1:
            return network
        with lost_processes():
            return nn.parallel.DistributedDataParallel(network)


ALONE = World()
_CPU = torch.device("cpu")


@contextmanager
def join(environment: Mapping[str, str] = os.environ) -> Iterator[World]:
    """Find the processes that were started together with this one, if any.

    Raises:
        TrainingError: If they cannot be reached.
    """
    place = find_place(environment)
    if place.size == 1:
        yield ALONE
        return
    # Tensors on the CPU, such as short messages, go by gloo, those on a GPU by NCCL.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        distributed.init_process_group(
            backend,
            init_method=place.meeting_point,
            rank=place.rank,
            world_size=place.size,
            timeout=CONNECTING_TIME,
        )
        talk = distributed.new_group(backend="gloo", timeout=WAITING_TIME)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"process {place.rank} cannot reach the other {place.size - 1} ({_first_line(error)})"
        ) from error
    try:
        yield World(place=place, _talk=talk)
    finally:
        distributed.destroy_process_group()


@contextmanager
def lost_processes() -> Iterator[None]:
    """Turn torch's complaint that a process is gone into an error that says so.

    Raises:
        EndedElsewhereError: If another process ended.
    """
    try:
        yield
    except RuntimeError as error:
        is_lost = isinstance(error, distributed.DistError) or "gloo" in str(error)
        if isinstance(error, SfumatoError) or not is_lost:
            raise
        raise EndedElsewhereError(ENDED) from error


def _words(failure: Exception | None) -> str:
    if failure is None:
        return ""
    if isinstance(failure, SfumatoError | OSError):
        return str(failure)
    return f"{type(failure).__name__}: {failure} (this is a defect in sfumato)"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
