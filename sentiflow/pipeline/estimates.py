"""Config + machine or cluster -> a stage's time, memory and disk, estimated before it begins.

The speed is that of the last run of this stage here (:mod:`measured_speeds`); without any, it is
that of built-in rates. While a stage runs, it shows the time left, as measured.
"""

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sentiflow.cluster.resources import Resources
from sentiflow.config.sections import Config
from sentiflow.data.manifest_types import InputFile
from sentiflow.errors import JobError, UserError
from sentiflow.pipeline import measured_speeds, stage_costs, stage_data
from sentiflow.pipeline.measured_speeds import Speed
from sentiflow.pipeline.stage_costs import Costs, ScoringModel
from sentiflow.pipeline.stage_data import StageData
from sentiflow.progress import to_words
from sentiflow.storage.uris import display_uri, names_encoder
from sentiflow.tracking import model_sources
from sentiflow.training import rates

log = logging.getLogger(__name__)

_MIN_SECONDS = 60
"""No estimate is shown for a stage that takes less time."""
_TASK_MEMORY_GB = 0.7
"""Memory of a task."""
_LINEAR_ROW_MEMORY_GB = 4e-6
"""Memory of the linear model's training for a row."""
_ROW_DISK_GB = {"prepare": 95e-9, "score": 16e-9}
"""Size of a row in the output, by stage."""
_MIN_TOLD_LOAD = 50
"""A load from which on the line names it, in percent."""
_ONE_CORE = Resources(num_cpus=1, num_gpus=0, num_nodes=1, min_node_cpus=1)
"""Takes the place of a cluster that is not known: no other takes fewer core hours."""
ESTIMATED = ("prepare", "train", "score")
"""The stages whose time is estimated."""


@dataclass(frozen=True)
class Estimate:
    """What a stage will take."""

    verb: str
    num_rows: float
    seconds: float
    num_cpus: int
    """Cores of the machine or the cluster."""
    core_hours: float
    """Cores that the stage reserves, times its hours."""
    memory_gb: float
    disk_gb: float
    """Size of the output; 0 for a training."""
    uri: str
    """The earlier run that the speed is taken from; empty: the built-in rates."""
    load_percent: int = 0
    """Load by other processes, see :func:`machine_load.find`; it is part of ``seconds``."""

    def to_text(self, *, with_core_hours: bool = False) -> str:
        """Write the estimate in a line; cores of a cluster cost money, so their hours are told."""
        text = f"some {_round_count(self.num_rows)} rows: about {to_words(self.seconds)} "
        text += f"on {self.num_cpus} cores, "
        if with_core_hours:
            text += f"{_round(self.core_hours)} core hours, "
        text += f"{self.memory_gb:.1f} GB of memory"
        if self.disk_gb:
            text += f", {self.disk_gb:.1f} GB on disk"
        if self.load_percent >= _MIN_TOLD_LOAD:
            text += f"; other processes use this machine, too (load {self.load_percent}%)"
        if self.uri:
            text += f"; as fast as {display_uri(self.uri)}"
        return text

    @property
    def is_long(self) -> bool:
        """Say whether the stage takes so long that its estimate is shown."""
        return self.seconds >= _MIN_SECONDS


def count_here() -> Resources:
    """Count the cores of this machine."""
    num_cpus = os.cpu_count() or 1
    return Resources(num_cpus=num_cpus, num_gpus=0, num_nodes=1, min_node_cpus=num_cpus)


def sum_up(verbs: Sequence[str], config: Config, resources: Resources | None) -> str:
    """Estimate several stages together, as if none of them were complete.

    Args:
        verbs: The stages.
        config: The experiment.
        resources: The machine or the cluster; None: it is not known.

    Returns:
        The time and the core hours in a line; only the fewest core hours if the cluster is not
        known.
        Empty if no stage has an estimate.
    """
    found = [estimate(verb, config, resources or _ONE_CORE) for verb in verbs]
    estimates = [each for each in found if each]
    if not estimates:
        return ""
    names = ", ".join(each.verb for each in estimates)
    core_hours = sum(each.core_hours for each in estimates)
    text = f"{_round(core_hours)} core hours ({names})"
    if resources is None:
        return f"at least {text}"
    seconds = sum(each.seconds for each in estimates)
    return f"about {to_words(seconds)} on {resources.num_cpus} cores, {text}"


def _round_count(number: float) -> str:
    """Write a whole number with two significant figures: 1,200,000."""
    return f"{int(float(f'{number:.2g}')):,}"


def _round(number: float) -> str:
    """Write a number with two significant figures.

    Example:
        >>> _round(0.01234), _round(3.14), _round(1234.5)
        ('0.012', '3.1', '1,200')
    """
    return f"{float(f'{number:.2g}'):,g}"


def estimate(
    verb: str,
    config: Config,
    resources: Resources,
    *,
    corpus: Sequence[InputFile] | None = None,
    load_percent: int = 0,
) -> Estimate | None:
    """Estimate a preparation, a training or a scoring.

    Args:
        verb: The stage; for other stages there is no estimate.
        config: The experiment.
        resources: The machine or the cluster.
        corpus: The files of ``score.corpus``, if they are known; None: they are listed.
        load_percent: Load of the machine by other processes, see :func:`machine_load.find`.

    Returns:
        The estimate. None for a stage without rows, and for a stage that uses GPUs unless an
        earlier run here has used some.

    Raises:
        UserError: A file does not exist.
    """
    if verb not in ESTIMATED:
        return None
    try:
        found = _estimate(verb, config, resources, corpus)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        log.debug("no estimate", exc_info=error)  # an odd manifest must not end a job
        return None
    if found and load_percent:
        seconds = found.seconds * (1 + load_percent / 100)
        return replace(found, seconds=seconds, load_percent=load_percent)
    return found


def _estimate(
    verb: str, config: Config, resources: Resources, corpus: Sequence[InputFile] | None
) -> Estimate | None:
    """Estimate a stage, see :func:`estimate`."""
    data = stage_data.find(verb, config, corpus)
    uses_gpus = verb != "prepare" and resources.num_gpus > 0
    if not uses_gpus:
        resources = replace(resources, num_gpus=0, max_gpus=0)
    speed = measured_speeds.find_speed(verb, getattr(config, verb).output_uri, resources)
    if not data.num_rows or (uses_gpus and not speed.uri):
        return None
    if verb == "train":
        return _estimate_training(config, data, speed, resources)
    return _estimate_parts(verb, config, data, speed, resources)


def _estimate_parts(
    verb: str,
    config: Config,
    data: StageData,
    speed: Speed,
    resources: Resources,
) -> Estimate:
    """Estimate a preparation or a scoring."""
    if verb == "prepare":
        settings = config.prepare.model_dump() | {"format": config.format.model_dump()}
        costs = stage_costs.of_preparation(data.num_rows, data.num_bytes, settings)
        num_workers = config.prepare.num_workers
    else:
        models = _find_models(config, data)
        costs = stage_costs.of_scoring(
            data.num_rows, data.tokens_per_row, models, config.score.rows_per_file
        )
        num_workers = config.score.num_workers
    num_tasks = stage_costs.count_tasks(costs.num_parts, resources, num_workers)
    parts = speed.parts * stage_costs.divide_parts(costs, num_tasks)
    seconds = costs.start + parts
    return Estimate(
        verb=verb,
        num_rows=data.num_rows,
        seconds=seconds,
        num_cpus=resources.num_cpus,
        core_hours=num_tasks * seconds / 3600,
        memory_gb=_TASK_MEMORY_GB * num_tasks,
        disk_gb=data.num_rows * _ROW_DISK_GB[verb],
        uri=speed.uri,
    )


def _find_models(config: Config, data: StageData) -> list[ScoringModel]:
    """Find what the speed of the models of a scoring depends on.

    Without a finished model, it is the one that the training of the config will make.
    """
    if config.score.predictions:
        return []
    uris = config.score.model_uris or (config.train.output_uri,)
    found = []
    for uri in uris:
        try:
            model = model_sources.describe(uri, tracking=config.tracking.uri)
            found += measured_speeds.read_models(model)
        except (UserError, JobError):  # it does not exist yet
            num_train = stage_data.find("train", config).num_train
            has_linear = rates.has_linear(config.train.linear, num_train)
            found.append(ScoringModel(config.train.model, data.vector_size, has_linear))
    return found


def _estimate_training(
    config: Config,
    data: StageData,
    speed: Speed,
    resources: Resources,
) -> Estimate | None:
    """Estimate a training with its folds and its teachers."""
    settings = config.train
    if not data.num_train:
        return None
    num_encoders = len([uri for uri in settings.distill.teachers if names_encoder(uri)])
    num_rows = data.num_train
    if settings.distill.teachers:
        num_rows += data.num_unlabelled
    if num_encoders:
        num_rows += stage_costs.count_excerpts(data.num_train)
    has_linear = rates.has_linear(settings.linear, data.num_train)
    num_folds = stage_costs.count_folds(settings, data)
    num_networks: float = speed.num_networks
    if not num_networks or speed.num_folds_trained != num_folds:
        num_networks = _guess_networks(num_folds, has_linear=has_linear)
    work = stage_costs.TrainingWork(
        settings=settings,
        num_rows=num_rows,
        num_pretrained=data.num_train + data.num_unlabelled,
        tokens_per_row=data.tokens_per_row,
        vector_size=data.vector_size,
        num_networks=num_networks,
        num_folds=num_folds,
        has_linear=has_linear,
        num_classes=data.num_classes,
        is_ordered=data.is_ordered,
        num_encoders=num_encoders,
        num_asked=num_rows,
    )
    costs = stage_costs.of_training(work)
    num_workers = _choose_workers(config, costs, resources)
    cpus = resources.cpus_per_train_worker(num_workers, settings.cpus_per_worker)
    network = stage_costs.divide_network(costs, max(1, cpus - 1), num_workers)
    start = costs.start
    if num_workers > 1:
        start += stage_costs.WORKERS_START_SECONDS
    teaching = speed.rest * costs.teaching / resources.num_cpus
    seconds = speed.network * network + speed.linear * costs.linear
    seconds += speed.rest * start + teaching
    memory_gb = _TASK_MEMORY_GB * num_workers
    if has_linear:
        memory_gb += _LINEAR_ROW_MEMORY_GB * num_rows
    core_seconds = (seconds - teaching) * cpus * num_workers + teaching * resources.num_cpus
    return Estimate(
        verb="train",
        num_rows=num_rows,
        seconds=seconds,
        num_cpus=resources.num_cpus,
        core_hours=core_seconds / 3600,
        memory_gb=memory_gb,
        disk_gb=0.0,
        uri=speed.uri,
    )


def _guess_networks(num_folds: int, *, has_linear: bool) -> float:
    """Guess how many networks a training trains: that of the model, and those of its folds.

    Beside a linear model, only the first fold trains one if the network gains nothing. Otherwise
    there is one for each fold and one more. Nobody knows before, so it is the geometric mean of
    both numbers.

    Args:
        num_folds: Folds that are trained.
        has_linear: Whether there is a linear model.
    """
    if num_folds and has_linear:
        return math.sqrt(1 + num_folds)
    return 1 + num_folds


def _choose_workers(config: Config, costs: Costs, resources: Resources) -> int:
    """Choose the number of training workers, about as the training does."""
    settings = config.train
    try:
        most = resources.train_workers(settings)
    except UserError:  # the training itself says what is wrong
        return 1
    if most == 1 or settings.num_workers != "auto":
        return most
    num_steps = max(1.0, costs.steps / stage_costs.STEP_SECONDS)
    step_seconds = costs.network / rates.NETWORK_FACTOR / num_steps
    step_seconds /= math.sqrt(max(1, resources.min_node_cpus - 1))
    return min(most, rates.count_best_workers(step_seconds))
