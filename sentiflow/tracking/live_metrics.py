"""Rows that are done -> metrics of a stage's run in MLflow while the stage runs."""

import time
from collections.abc import Callable, Mapping

_EVERY_SECONDS = 10.0
"""Seconds between two requests."""


class LiveMetrics:
    """Logs how far a stage is, at most every ten seconds: rows done, and rows a second since then.

    The step of a metric is the number of seconds since the stage began. A stage that takes less
    than ten seconds logs nothing.
    """

    def __init__(self, stage: str, log: Callable[[Mapping[str, float], int], None]) -> None:
        """Begin with the stage.

        Args:
            stage: The stage, with which the names of the metrics begin.
            log: Logs metrics with a step.
        """
        self._stage = stage
        self._log = log
        self._began = time.monotonic()
        self._logged_at = self._began
        self._counted_at = self._began
        """When ``_num_rows`` rows were done."""
        self._num_rows = 0

    def __call__(self, nth: tuple[int, int], num_rows: int) -> None:
        """Note how many rows of a pass are done, and log that if it is time.

        Args:
            nth: Number of the pass, and of all passes.
            num_rows: Rows of this pass that are done; 0 when it begins.
        """
        now = time.monotonic()
        if num_rows == 0:
            self._counted_at = now
            self._num_rows = 0
        if num_rows == self._num_rows or now - self._logged_at < _EVERY_SECONDS:
            return
        number, num_passes = nth
        seconds = max(1e-9, now - self._counted_at)
        metrics = {
            f"{self._stage}/live_rows": float(num_rows),
            f"{self._stage}/live_rows_per_second": (num_rows - self._num_rows) / seconds,
        }
        if num_passes > 1:
            metrics[f"{self._stage}/live_pass"] = float(number)
        self._log(metrics, round(now - self._began))
        self._logged_at = now
        self._counted_at = now
        self._num_rows = num_rows
