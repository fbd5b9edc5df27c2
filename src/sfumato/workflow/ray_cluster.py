"""Work on many items on the machines of a Ray cluster; a machine may be lost at any time."""

import logging
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Any, TypeVar

from sfumato.errors import ConfigError
from sfumato.workflow.workers import Lost

Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT_PER_CORE = 2
"""Items handed out for each core of the cluster: one is worked on, one is at hand."""
MOST_RETRIES = 5
"""How often an item is started again elsewhere after its process or machine was lost."""


def work_on_ray(
    work: Callable[[Item], Result], items: Iterable[Item], address: str, n_gpus: int = 0
) -> Generator[tuple[Item, Result | Lost]]:
    """Work on items on a Ray cluster that is running already.

    Items of a machine that is lost are worked on again by others, so work must give the same
    when it is done twice. All machines must see the same files under the same paths.

    Args:
        work: What is done with an item; a function of a module that all machines have.
        items: What is worked on, taken one by one as cores get free.
        address: "auto" for the cluster that this machine belongs to, or host:port.
        n_gpus: How many GPUs an item needs, beside one core.

    Yields:
        Each item with its result, in the order in which they are done; `Lost` where every
        try was lost.

    Raises:
        ConfigError: If Ray is not installed, there is no such cluster, or it has no GPU.
    """
    ray = _connect(address)
    try:
        if n_gpus and not ray.cluster_resources().get("GPU"):
            raise ConfigError(f"--ray {address}: the cluster has no GPU; choose --device cpu")
        remote = ray.remote(num_cpus=1, num_gpus=n_gpus, max_retries=MOST_RETRIES)(work_once)
        shared_work = ray.put(work)
        waiting = iter(items)
        in_flight: dict[Any, Item] = {}
        while True:
            # Machines come and go, so cores are counted again and again.
            n_wanted = max(1, IN_FLIGHT_PER_CORE * int(ray.cluster_resources().get("CPU", 0)))
            for item in islice(waiting, max(0, n_wanted - len(in_flight))):
                in_flight[remote.remote(shared_work, item)] = item
            if not in_flight:
                return
            (done,), _ = ray.wait(list(in_flight), num_returns=1)
            yield in_flight.pop(done), _result(ray, done)
    finally:
        ray.shutdown()


def work_once(work: Callable[[Item], Result], item: Item) -> Result:
    """Work on one item, on a machine of the cluster."""
    return work(item)


def _connect(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--ray needs Ray; install it with pip install 'sfumato[ray]'") from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"--ray {address}: there is no such cluster; start one with ray start --head, and give"
            " its address"
        ) from error
    return ray


def _result(ray: Any, done: Any) -> Any:
    try:
        return ray.get(done)
    except ray.exceptions.RayError as error:
        first_line = str(error).strip().splitlines()[0]
        return Lost(reason=f"every try on the cluster was lost ({first_line})")
