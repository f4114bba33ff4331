"""A server's own figures for Prometheus: a registry per server, so that several servers in one process don't mix theirs."""

import mmap
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from inkfold.serve.messages import Response

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
BATCH_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class ServerMetrics:
    """All figures of one server. Names and labels are few and fixed: nothing that clients send becomes a label."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "inkfold_requests_total", "Answers by path and status.", ("path", "status"), registry=self._registry
        )
        self.refusals = Counter("inkfold_refusals_total", "Refusals by their code.", ("code",), registry=self._registry)
        self.request_seconds = Histogram(
            "inkfold_request_seconds", "From a whole request to its answer.", buckets=SECONDS, registry=self._registry
        )
        self.batch_drawings = Histogram(
            "inkfold_batch_drawings", "Drawings in one forward pass.", buckets=BATCH_SIZES, registry=self._registry
        )
        self.add_gauge("inkfold_resident_bytes", "Memory of this process.", resident_bytes)

    def add_gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Add a value that is read whenever the figures are collected; its name ends with its unit."""
        Gauge(name, description, registry=self._registry).set_function(read)

    def response(self) -> Response:
        """Return all figures in Prometheus's text format 0.0.4."""
        text = generate_latest(_WithoutCreationTimes(self._registry))
        return Response(200, text, CONTENT_TYPE, (("cache-control", "no-store"),))


class _WithoutCreationTimes(Collector):
    """Leaves out the `_created` series; prometheus-client can switch them off for the whole process only."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


def resident_bytes() -> float:
    """Return the bytes of memory that this process holds; 0 where the system doesn't say it cheaply."""
    try:
        return float(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0.0
