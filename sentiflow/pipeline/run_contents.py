"""Plan of a stage -> what its run in MLflow shows from the beginning: settings, inputs, figures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sentiflow.data import manifest, prepared_data
from sentiflow.tracking.runs import AT_A_GLANCE

if TYPE_CHECKING:
    from sentiflow.pipeline.stage_plans import StagePlan, Verb


def describe_settings(planned: "StagePlan", verb: "Verb") -> dict[str, Any]:
    """Return the settings of a stage that MLflow shows as parameters of its run.

    A training also has the settings of its prepared data, which decide its features.
    """
    # A sweep changes settings of the section ``train``; other stages read texts or labels.
    other_section = "train" if verb == "sweep" else "format"
    settings = planned.config.model_dump(mode="json", include={verb, other_section})
    if verb == "train":
        from sentiflow.training import train_plan

        if isinstance(planned, train_plan.TrainPlan):
            settings |= train_plan.describe_settings(planned)
    return settings


def list_figures(planned: "StagePlan", remaining: Sequence["Verb"]) -> list[str]:
    """List the figures that a training will have, for MLflow's page that compares runs.

    The first of them is the figure by which the page compares runs when it is opened.
    """
    if remaining[0] != "train" or planned.config.train.refit:
        return []
    from sentiflow.training import learned_classes, train_plan

    if not isinstance(planned, train_plan.TrainPlan):
        return []
    prepared = planned.prepared
    classes = planned.learned.names
    splits = []
    if "evaluate" in remaining and planned.config.score.reads_prepared:
        if planned.config.train.folds and not prepared_data.has_given_test(prepared):
            splits.append("cross-validated")
        elif learned_classes.count_rows(prepared, "test", classes):
            splits.append("test")
    if learned_classes.count_rows(prepared, "validation", classes):
        splits.append("validation")
    return [f"{AT_A_GLANCE}/{split}_accuracy" for split in splits]


def describe_inputs(inputs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Describe the rows of inputs that are directories, for MLflow; unknown rows are left out."""
    from sentiflow.tracking import datasets

    profiles = {}
    for name in ("prepared", "corpus", "scored"):
        record = manifest.read_input(inputs, name) if name in inputs else None
        profile = datasets.describe_rows(record) if record else {}
        if profile:
            profiles[name] = profile
    return profiles
