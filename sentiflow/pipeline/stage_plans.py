"""A stage of a config -> its plan, with its inputs checked; nothing is written or run here."""

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Literal, Protocol, cast

from sentiflow.config.sections import RUN_STAGES, Config
from sentiflow.data import manifest, prepared_data
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.output_status import find_status
from sentiflow.progress import Progress, say
from sentiflow.storage import retries

Verb = Literal["prepare", "train", "score", "evaluate", "trends", "sweep"]

VERBS: tuple[Verb, ...] = RUN_STAGES
"""The stages of a whole run, in their order."""

FOR_TRENDS: tuple[Verb, ...] = ("score", "trends")
"""The stages of ``trends`` if another program has made the predictions."""

_MODULES: dict[Verb, str] = {
    "prepare": "sentiflow.preparation.prepare",
    "train": "sentiflow.training.train",
    "score": "sentiflow.scoring.score",
    "evaluate": "sentiflow.evaluation.evaluate",
    "trends": "sentiflow.shares.trends",
    "sweep": "sentiflow.training.sweep",
}
"""The module of each stage, with its functions ``resolve`` and ``run``."""
_MAX_PLANS = 3
"""Number of tries to plan a stage, in case of I/O errors. The address of a store may be wrong, so
these are few."""


class StagePlan(Protocol):
    """A stage as it will run: everything that its settings refer to, looked up once."""

    @property
    def config(self) -> Config:
        """The experiment. In a refit the section ``train`` is that of the run to repeat."""

    @property
    def spec(self) -> OutputSpec:
        """The output, with the settings and inputs that decide it."""


def list_stages(config: Config, command: str) -> tuple[Verb, ...]:
    """List the stages of a command, in order.

    ``trends`` scores first if another program has made the predictions: they are only looked up.
    """
    if command == "run":
        return config.run_stages
    if command == "trends" and config.score.predictions:
        return FOR_TRENDS
    return (cast(Verb, command),)


def plan_stage(verb: Verb, config: Config) -> StagePlan:
    """Look up what the settings of a stage refer to; the stage runs by this plan."""
    module = import_stage(verb)

    def resolve() -> StagePlan:
        planned: StagePlan = module.resolve(config)
        return planned

    return retries.repeat_after_io_errors(
        resolve, place=f"the inputs of {verb}", max_failures=_MAX_PLANS
    )


def must_replace(spec: OutputSpec, remaining: Sequence[Verb], *, overwrite: bool) -> bool:
    """Say whether the first remaining stage replaces its result.

    A scoring for ``trends`` is kept, or extended, unless it is of other settings or inputs.

    Args:
        spec: The output of the stage.
        remaining: The stages.
        overwrite: Whether the command may replace results.

    Raises:
        UserError: The output holds other files.
    """
    if overwrite and tuple(remaining) == FOR_TRENDS:
        return find_status(spec).state == "other"
    return overwrite


def import_stage(verb: Verb) -> ModuleType:
    """Import the module of a stage."""
    return importlib.import_module(_MODULES[verb])


def check_inputs(
    config: Config,
    verbs: Sequence[Verb],
    new_files: Sequence[str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Check the inputs and outputs of stages, before the first of them runs.

    Args:
        config: The experiment.
        verbs: The stages.
        new_files: If the first stage extends its result: the files that are new to it. Known files
            are not opened again.
        overwrite: Whether existing results may be replaced.
    """
    from sentiflow.pipeline.preflight import config_checks  # only if a stage has to run

    with Progress(verbs[0], what="checking the inputs"):
        config_checks.require(config, verbs, new_files=new_files, overwrite=overwrite)


def leave_out_evaluation(config: Config, verbs: Sequence[Verb]) -> Sequence[Verb]:
    """Leave out the evaluation of a refit in a whole run, if no test row is left."""
    is_refit = config.train.refit and config.score.reads_prepared
    if tuple(verbs) != VERBS or not is_refit:
        return verbs
    prepared = manifest.read(config.score.prepared_uri)
    if prepared and prepared_data.has_given_test(prepared):
        return verbs
    say(
        "evaluate",
        "left out: a refit is trained on every labelled row; sentiflow card describes it",
    )
    return VERBS[:-1]  # the evaluation is the last stage
