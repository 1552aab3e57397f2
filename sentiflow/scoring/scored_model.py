"""The model of a scoring, or an average of several: its classes, its statistics, its place."""

from sentiflow.config.sections import Config
from sentiflow.data.manifest import MODEL
from sentiflow.data.manifest_types import ModelInput
from sentiflow.data.output_status import WORK, OutputSpec
from sentiflow.data.outputs import Output
from sentiflow.models.drift import Profile
from sentiflow.progress import say
from sentiflow.storage.uris import as_typed, join
from sentiflow.tracking import model_sources


def describe(config: Config) -> ModelInput:
    """Describe the model of ``score.model_uri``.

    Raises:
        UserError: There is no such model, or several have no average.
        JobError: MLflow cannot be reached.
    """
    settings = config.score
    assert settings.model_uri, "settings are resolved"
    to = join(settings.output_uri, MODEL)
    return model_sources.describe(settings.model_uri, tracking=config.tracking.uri, to=to)


def fetch(config: Config, output: Output) -> str:
    """Return a directory of the model that all nodes can read.

    A model in MLflow is downloaded for the time of the scoring. An average of several is made one
    package, which stays in the output: what comes later needs its members no more.

    Raises:
        UserError: The model is damaged.
        JobError: MLflow cannot be reached.
    """
    model, tracking = output.spec.inputs["model"], config.tracking.uri
    work = join(output.uri, WORK, MODEL)
    if isinstance(config.score.model_uri, str):
        return model_sources.download(model, to=work, tracking=tracking)
    return model_sources.gather(model, to=join(output.uri, MODEL), work=work, tracking=tracking)


def name(spec: OutputSpec) -> str:
    """Name the model, or all of an average, for a line."""
    model: ModelInput = spec.inputs["model"]
    uris = [as_typed(each["uri"]) for each in model.get("members", [model])]
    return uris[0] if len(uris) == 1 else f"the average of {', '.join(uris)}"


def read_reference(spec: OutputSpec) -> Profile | None:
    """Read the profile of held-out texts from the model package."""
    known = spec.inputs["model"]["reference"]
    try:
        return Profile.from_json(known) if known else None
    except (TypeError, ValueError):
        say("score", "the model has a profile of another version: drift is not measured")
        return None
