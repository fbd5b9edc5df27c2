"""What a server counts, for Prometheus."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60)


class Metrics:
    """Counters of one server, and its state at the moment of asking.

    Args:
        counts: Returns the number of jobs in each state.
        n_restarts: Returns how often the worker was started again.
        is_ready: Returns whether the worker is ready.
    """

    def __init__(
        self,
        counts: Callable[[], dict[str, int]],
        n_restarts: Callable[[], int],
        is_ready: Callable[[], bool],
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_State(counts, n_restarts, is_ready))
        self._requests = Counter(
            "sfumato_requests", "Requests.", ["method", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "sfumato_request_seconds",
            "Time to the first byte of an answer.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._received = Counter(
            "sfumato_received_bytes", "Bytes of uploads.", registry=self._registry
        )

    def answered(self, method: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, str(status)).inc()
        self._seconds.observe(seconds)

    def received(self, n_bytes: int) -> None:
        """Count what came in."""
        self._received.inc(n_bytes)

    def text(self) -> bytes:
        """Write all in Prometheus' text format."""
        return generate_latest(self._registry)


class _State(Collector):
    """Reads what is not counted but just is."""

    def __init__(
        self,
        counts: Callable[[], dict[str, int]],
        n_restarts: Callable[[], int],
        is_ready: Callable[[], bool],
    ) -> None:
        self._counts, self._n_restarts, self._is_ready = counts, n_restarts, is_ready

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give the numbers."""
        jobs = GaugeMetricFamily("sfumato_jobs", "Jobs on the list.", labels=["state"])
        counts = self._counts()
        for state in ("queued", "running", "done", "failed", "cancelled"):
            jobs.add_metric([state], counts.get(state, 0))
        yield jobs
        yield GaugeMetricFamily(
            "sfumato_worker_restarts", "Times the worker ended.", value=self._n_restarts()
        )
        yield GaugeMetricFamily(
            "sfumato_ready", "Whether models are loaded.", value=float(self._is_ready())
        )
