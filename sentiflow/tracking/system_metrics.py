"""This machine -> its system metrics every five seconds, by MLflow's names."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sentiflow.tracking import mlflow_store  # before MLflow, which reads what it sets

# isort: split
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

_EVERY_SECONDS = 5.0


@contextmanager
def watching(log: Callable[[dict[str, float], int], None], *, tracking_uri: str) -> Iterator[None]:
    """Call ``log`` with the use of cores, memory, disk, network and GPUs, and a step.

    MLflow's own thread is not used: it ends when the server fails to answer once.
    """
    logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)
    known = mlflow_store.with_password(tracking_uri)
    monitor = SystemMetricsMonitor("", _EVERY_SECONDS, tracking_uri=known)
    ended = threading.Event()

    def watch() -> None:
        step = 0
        monitor.collect_metrics()  # the use of cores is measured since the call before
        _clear(monitor)
        while not ended.wait(monitor.sampling_interval):
            monitor.collect_metrics()
            log(
                {f"system/{key}": value for key, value in monitor.aggregate_metrics().items()}, step
            )
            _clear(monitor)
            step += 1

    thread = threading.Thread(target=watch, name="system metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _clear(monitor: SystemMetricsMonitor) -> None:
    for part in monitor.monitors:
        part.clear_metrics()
