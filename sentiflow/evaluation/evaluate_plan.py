"""Config -> the plan of an evaluation: predictions and their corpus, looked up once."""

from dataclasses import dataclass

from sentiflow.config import decisive
from sentiflow.config.sections import Config
from sentiflow.data import lineage, manifest
from sentiflow.data.lineage import ScoredCorpus
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.evaluation import evaluated_rows
from sentiflow.progress import Steps
from sentiflow.tracking import training_rows

STAGE = "evaluate"

STEPS = Steps(
    STAGE,
    read="reading predictions and texts",
    measure="measuring metrics and slices",
    folds="measuring cross-validation",
    texts="reading mistakes and texts",
    check="testing the behavior of the model",
    compare="training a baseline to compare the model with",
    words="finding the words that decide",
    draw="drawing plots, writing the report",
    track="sending the results to MLflow",
)

REPORT_VERSION = 19
"""Changes whenever the same predictions would give another report."""


@dataclass(frozen=True)
class EvaluatePlan:
    """An evaluation as it will run."""

    config: Config
    """The experiment."""
    spec: OutputSpec
    """The output. Its only input is the scored directory."""
    scored: Manifest
    """Manifest of the predictions. If they are replaced meanwhile, the evaluation is not
    published (:meth:`Output.publish`)."""
    corpus: ScoredCorpus
    """The corpus that was scored. Its rows are read only if it has not been replaced meanwhile."""


def resolve(config: Config) -> EvaluatePlan:
    """Plan an evaluation.

    Raises:
        UserError: There are no complete predictions, or they lack a column of
            ``evaluate.slices``, they are of another program, or the model is a refit that was
            trained on these rows.
    """
    settings = config.evaluate
    record = manifest.require(
        settings.scored_uri,
        stage="score",
        setting="evaluate.scored_uri",
        near=[settings.output_uri],
    )
    lineage.require_model(record, name="evaluate.scored_uri")
    training_rows.refuse_refit(record, name="evaluate.scored_uri")
    corpus = lineage.corpus_of(record)
    evaluated_rows.check_columns(settings.slices.columns, record, corpus)
    listed = decisive.dump(settings, exclude={"scored_uri", "output_uri", "headline"})
    listed["report_version"] = REPORT_VERSION
    inputs = {"scored": manifest.reference(settings.scored_uri, record)}
    spec = OutputSpec(STAGE, settings.output_uri, listed, inputs)
    return EvaluatePlan(config=config, spec=spec, scored=record, corpus=corpus)
