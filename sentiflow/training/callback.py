"""Events of a training -> lines for the user, and metrics in the run of MLflow."""

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sentiflow.config.train_sections import TrainSettings
from sentiflow.progress import Progress, say
from sentiflow.training.results import PRETRAIN, TRAIN, EpochResult, Event, Phase

if TYPE_CHECKING:
    from sentiflow.tracking.recording import Recorder

_RECORD_EVERY_SECONDS = 5.0
_PREFIX: dict[Phase, str] = {PRETRAIN: "pretraining ", TRAIN: ""}


class TrainCallback:
    """Shows and records each step and epoch once, also if a restart repeats it."""

    def __init__(
        self,
        progress: Progress,
        recorder: "Recorder",
        settings: TrainSettings,
        expected_workers: int,
        *,
        num_epochs: Mapping[Phase, int],
        num_classes: int = 2,
    ) -> None:
        """Expect the events of a training that asks for ``expected_workers`` workers."""
        self.progress, self.recorder = progress, recorder
        self.num_epochs = num_epochs
        self.shows_f1 = num_classes > 2 or settings.selection.metric == "macro_f1"
        self.expected_workers, self.num_workers = expected_workers, 0
        self.phase: Phase = PRETRAIN if num_epochs[PRETRAIN] else TRAIN
        self.last_step = 0
        self.seen_epochs: set[tuple[Phase, int]] = set()
        self.unrecorded: list[tuple[int, dict[str, float]]] = []
        self.recorded_at = -math.inf  # the first step at once: MLflow shows the first metric first

    def __call__(self, event: Event) -> None:
        """Show and record an event."""
        if event.is_start:
            self._start(event)
        elif event.phase != self.phase:
            self.progress.start_at(event.rows_done)  # the rate of training is another one
        self.phase = event.phase
        if event.metrics and event.step > self.last_step:
            self._show_steps(event, event.metrics)
        for phase, epochs in ((PRETRAIN, event.pretraining), (TRAIN, event.history)):
            for result in epochs:
                if (phase, result.epoch) not in self.seen_epochs:
                    self._take_epoch(phase, result, is_new=not event.is_start)
        self.last_step = max(self.last_step, event.step)

    def _start(self, event: Event) -> None:
        before, self.num_workers = self.num_workers, event.num_workers
        workers = count_workers(self.num_workers)
        where = (
            f"step {event.step:,} of {event.num_steps:,}, "
            f"in {_PREFIX[event.phase]}epoch {event.epoch + 1}"
        )
        if before:
            why = "more workers have room" if self.num_workers > before else "workers were lost"
            say(TRAIN, f"{why}; resuming at {where}, {workers}")
            return
        if self.num_workers < self.expected_workers:
            say(TRAIN, f"starting with {workers}: the cluster has no room for more now")
        self.progress.start_at(event.rows_done)
        if event.step:
            say(TRAIN, f"resuming at {where}")

    def _show_steps(self, event: Event, metrics: Mapping[str, float]) -> None:
        prefix = _PREFIX[event.phase]
        note = (
            f"{prefix}epoch {event.epoch + 1} of {self.num_epochs[event.phase]}, "
            f"step {event.step:,} of {event.num_steps:,}, "
            f"loss {metrics['loss']:.3f}, accuracy {metrics['accuracy']:.3f}"
        )
        self.progress.advance(event.rows_done - self.progress.done, note=note)
        folder = "pretrain/step" if event.phase == PRETRAIN else "step"
        named = {f"{folder}/{name}": metrics[name] for name in sorted(metrics)}  # accuracy first
        self.unrecorded.append((event.step, named))
        if time.monotonic() - self.recorded_at >= _RECORD_EVERY_SECONDS:
            self._record_steps()

    def _take_epoch(self, phase: Phase, result: EpochResult, *, is_new: bool) -> None:
        """Record an epoch, and show it unless it comes from a checkpoint."""
        self.seen_epochs.add((phase, result.epoch))
        if is_new:
            self._record_steps()
            metrics: dict[str, float | None] = {"loss": result.train_loss}
            if phase == PRETRAIN:
                metrics["validation loss"] = result.validation_loss
            else:
                metrics["validation accuracy"] = result.validation_accuracy
                metrics["macro F1"] = result.validation_f1_macro if self.shows_f1 else None
            known = [f"{name} {value:.4f}" for name, value in metrics.items() if value is not None]
            say(
                TRAIN,
                f"{_PREFIX[phase]}epoch {result.epoch}: {', '.join(known)} "
                f"({result.seconds:.1f} s, {result.tweets_per_second:,.0f} tweets/s)",
            )
        self.recorder.log_metrics(result.to_metrics(phase), step=result.epoch)

    def _record_steps(self) -> None:
        self.recorder.log_series(self.unrecorded)
        self.unrecorded, self.recorded_at = [], time.monotonic()


def count_workers(number: int) -> str:
    """Write a number of workers in words: ``1 worker``, ``2 workers``."""
    return f"{number} worker{'s' if number > 1 else ''}"
