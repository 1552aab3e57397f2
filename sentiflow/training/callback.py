"""Events of a training -> lines and a progress bar for the user, metrics for MLflow."""

import time
from typing import TYPE_CHECKING

from sentiflow.config.sections import TrainSettings
from sentiflow.progress import Progress, say
from sentiflow.training.results import (
    PRETRAIN,
    TRAIN,
    EpochEnded,
    EpochResult,
    Event,
    Phase,
    Position,
    StepsDone,
    TrainingStarted,
)

if TYPE_CHECKING:
    from sentiflow.tracking.recording import Recorder

STAGE = "train"
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
    ) -> None:
        """Wait for the first event of a training with ``expected_workers`` workers."""
        self.progress, self.recorder = progress, recorder
        self.num_epochs = {PRETRAIN: settings.pretrain.num_epochs, TRAIN: settings.num_epochs}
        self.expected_workers, self.num_workers = expected_workers, 0
        self.last_step = 0
        self.seen_epochs: set[tuple[Phase, int]] = set()
        self.unrecorded: list[tuple[int, dict[str, float | None]]] = []
        self.recorded_at = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Show and record an event."""
        match event:
            case TrainingStarted():
                self._start(event)
            case StepsDone() if event.position.step > self.last_step:
                self._show_steps(event)
            case EpochEnded():
                self._show_epoch(event.position.phase, event.result)
        self.last_step = max(self.last_step, event.position.step)

    def _start(self, event: TrainingStarted) -> None:
        before, self.num_workers = self.num_workers, event.num_workers
        where, workers = _describe_position(event.position), count_workers(self.num_workers)
        if before:
            why = "more workers have room" if self.num_workers > before else "workers were lost"
            say(STAGE, f"{why}; resuming at {where}, {workers}")
            return
        if self.num_workers < self.expected_workers:
            say(STAGE, f"starting with {workers}: the cluster has no room for more now")
        self.progress.start_at(event.position.rows_done)
        if event.position.step:
            say(STAGE, f"resuming at {where}")
            for phase, epochs in ((PRETRAIN, event.pretraining), (TRAIN, event.history)):
                for result in epochs:
                    self._record_epoch(phase, result)

    def _show_steps(self, event: StepsDone) -> None:
        position, metrics = event.position, event.metrics
        note = (
            f"{_PREFIX[position.phase]}epoch {position.epoch + 1} "
            f"of {self.num_epochs[position.phase]}, "
            f"step {position.step:,} of {position.num_steps:,}, "
            f"loss {metrics.loss:.3f}, accuracy {metrics.accuracy:.3f}"
        )
        self.progress.advance(position.rows_done - self.progress.done, note=note)
        self.unrecorded.append((position.step, event.to_metrics()))
        if time.monotonic() - self.recorded_at >= _RECORD_EVERY_SECONDS:
            self._record_steps()

    def _show_epoch(self, phase: Phase, result: EpochResult) -> None:
        if (phase, result.epoch) in self.seen_epochs:
            return
        accuracy = result.validation_accuracy
        validation = "" if accuracy is None else f", validation accuracy {accuracy:.4f}"
        say(
            STAGE,
            f"{_PREFIX[phase]}epoch {result.epoch}: loss {result.train_loss:.4f}{validation} "
            f"({result.seconds:.1f} s, {result.tweets_per_second:,.0f} tweets/s)",
        )
        self._record_steps()
        self._record_epoch(phase, result)

    def _record_steps(self) -> None:
        self.recorder.log_series(self.unrecorded)
        self.unrecorded, self.recorded_at = [], time.monotonic()

    def _record_epoch(self, phase: Phase, result: EpochResult) -> None:
        self.seen_epochs.add((phase, result.epoch))
        self.recorder.log_metrics(result.to_metrics(phase), step=result.epoch)


def count_workers(number: int) -> str:
    """Write a number of workers, such as ``1 worker``."""
    return f"{number} worker{'s' if number > 1 else ''}"


def _describe_position(position: Position) -> str:
    epoch = f"{_PREFIX[position.phase]}epoch {position.epoch + 1}"
    return f"step {position.step:,} of {position.num_steps:,}, in {epoch}"
