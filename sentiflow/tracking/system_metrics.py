"""This machine -> figures of its load every five seconds, as MLflow names them."""

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
    """Give ``log`` the use of cores, memory, disk, network and GPUs, and a step, for the block.

    MLflow's own monitor ends for good when the server does not answer once.
    """
    logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)
    known = mlflow_store.with_password(tracking_uri)
    monitor = SystemMetricsMonitor("", _EVERY_SECONDS, tracking_uri=known)
    ended = threading.Event()

    def watch() -> None:
        step = 0
        monitor.collect_metrics()  # the use of cores is counted from the time asked before
        _clear(monitor)
        while not ended.wait(monitor.sampling_interval):
            monitor.collect_metrics()
            log({f"system/{key}": item for key, item in monitor.aggregate_metrics().items()}, step)
            _clear(monitor)
            step += 1

    thread = threading.Thread(target=watch, name="system load", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _clear(monitor: SystemMetricsMonitor) -> None:
    for part in monitor.monitors:
        part.clear_metrics()
