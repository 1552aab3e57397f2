"""Batch sentiment on Ray: CSV -> Parquet -> recurrent model -> scored corpus -> report.

The functions here are the Python interface; docs/python.md shows them at work. What they need is
imported when they are called, as Ray, PyTorch and MLflow take seconds.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sentiflow.errors import JobError, UserError

if TYPE_CHECKING:
    import pandas as pd

    from sentiflow.cluster.texts import read_texts
    from sentiflow.config.settings import ConfigLike
    from sentiflow.evaluation.promotion import Promotion
    from sentiflow.models.model import Model
    from sentiflow.pipeline.results import (
        Evaluated,
        Prepared,
        Report,
        Run,
        Scored,
        Trained,
        Trends,
    )
    from sentiflow.pipeline.tables import Filters, Table
    from sentiflow.training.encoder_teacher import write_answers

# Ray and MLflow read these when they are imported: no command reports to anybody by default.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

__version__ = "0.1.0"

__all__ = [
    "Evaluated",
    "JobError",
    "Model",
    "Prepared",
    "Report",
    "Run",
    "Scored",
    "Table",
    "Trained",
    "Trends",
    "UserError",
    "__version__",
    "evaluate",
    "load_model",
    "load_run",
    "prepare",
    "promote",
    "read_predictions",
    "read_texts",
    "run",
    "score",
    "train",
    "trends",
    "write_answers",
]

_RESULTS = "sentiflow.pipeline.results"
_MODULES = {
    "read_texts": "sentiflow.cluster.texts",
    "write_answers": "sentiflow.training.encoder_teacher",
    "Table": "sentiflow.pipeline.tables",
    "Model": "sentiflow.models.model",
    **dict.fromkeys(
        ("Evaluated", "Prepared", "Report", "Run", "Scored", "Trained", "Trends"),
        _RESULTS,
    ),
}
"""Modules of the public names that are imported when they are used."""


def load_model(
    uri: "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]",
    *,
    tracking_uri: str | None = None,
    device: str | None = None,
) -> "Model":
    """Load a model to label texts in this process; Ray is not needed.

    Args:
        uri: The ``output_uri`` of a run, a model package, or a model in MLflow:
            ``models:/NAME@champion``, ``models:/NAME/3``, ``runs:/ID/model``. Or a list of models
            of the same classes: the mean of their probabilities.
        tracking_uri: MLflow's store; by default that of ``MLFLOW_TRACKING_URI``, else
            ``mlflow.db`` in the working directory.
        device: ``cpu`` or ``cuda``; by default a GPU if there is one.

    Raises:
        UserError: There is no such model, it is damaged, or classes differ.
        JobError: MLflow cannot be reached.

    Example:
        >>> model = sentiflow.load_model("runs/quickstart")  # doctest: +SKIP
        >>> model.predict(["I love this", "so sad"])["predicted_label"].tolist()  # doctest: +SKIP
        ['positive', 'negative']
    """
    from sentiflow.config import settings
    from sentiflow.pipeline import calls, results

    with calls.reporting():
        named = [uri] if isinstance(uri, str | os.PathLike) else uri
        uris = settings.read_models([os.fspath(each) for each in named])
        return results.load_model(uris, tracking_uri=tracking_uri, device=device)


def run(
    config: "ConfigLike",
    settings: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    verbose: bool = False,
) -> "Run":
    """Prepare, train, score and evaluate; stages that are complete are skipped.

    It is the command ``sentiflow run``: the same settings give the same results. A running Ray is
    used and left running; otherwise one is started on this machine for the call.

    Args:
        config: A settings file, or the settings as nested dictionaries.
        settings: Changes, by dotted key: ``{"train.num_epochs": 1}``.
        overwrite: Replace results of other settings or inputs.
        verbose: Show Ray's and MLflow's own messages.

    Raises:
        UserError: The input or the settings are wrong: what, where, and what to do.
        JobError: A stage failed; the same call resumes.

    Example:
        >>> run = sentiflow.run("configs/quickstart.yaml", {"train.seed": 0})  # doctest: +SKIP
        >>> sorted(run.predictions.to_pandas().columns)[:3]  # doctest: +SKIP
        ['confidence', 'label', 'model_version']
        >>> 0.5 < run.metrics["test/accuracy"] <= 1  # doctest: +SKIP
        True
    """
    from sentiflow.pipeline import calls

    return calls.run(config, settings, overwrite=overwrite, verbose=verbose)


def prepare(
    config: "ConfigLike",
    settings: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    verbose: bool = False,
) -> "Prepared":
    """Check, split and encode the texts of ``prepare.csv``; arguments as :func:`run`.

    Example:
        >>> sentiflow.prepare("configs/quickstart.yaml")  # doctest: +SKIP
        Prepared('runs/quickstart/prepared'): 6,000 rows accepted, 0 rejected
    """
    from sentiflow.pipeline import calls

    return calls.run(config, settings, ["prepare"], overwrite=overwrite, verbose=verbose).prepared


def train(
    config: "ConfigLike",
    settings: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    verbose: bool = False,
) -> "Trained":
    """Train a model on prepared data; arguments as :func:`run`.

    Example:
        >>> trained = sentiflow.train("configs/quickstart.yaml")  # doctest: +SKIP
        >>> trained.history[["epoch", "validation_accuracy"]].shape  # doctest: +SKIP
        (6, 2)
    """
    from sentiflow.pipeline import calls

    return calls.run(config, settings, ["train"], overwrite=overwrite, verbose=verbose).trained


def score(
    config: "ConfigLike",
    settings: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    verbose: bool = False,
) -> "Scored":
    """Label every row of ``score.corpus``, by default the prepared one; arguments as :func:`run`.

    Example:
        >>> sentiflow.score("configs/quickstart.yaml")  # doctest: +SKIP
        Scored('runs/quickstart/scored'): 6,000 rows scored
    """
    from sentiflow.pipeline import calls

    return calls.run(config, settings, ["score"], overwrite=overwrite, verbose=verbose).scored


def evaluate(
    config: "ConfigLike",
    settings: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    verbose: bool = False,
) -> "Evaluated":
    """Measure predictions against labels, and write the report; arguments as :func:`run`.

    Example:
        >>> evaluated = sentiflow.evaluate("configs/quickstart.yaml")  # doctest: +SKIP
        >>> evaluated.report.uri.endswith("runs/quickstart/report/report.html")  # doctest: +SKIP
        True
    """
    from sentiflow.pipeline import calls

    return calls.run(config, settings, ["evaluate"], overwrite=overwrite, verbose=verbose).evaluated


def trends(
    config: "ConfigLike",
    settings: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    verbose: bool = False,
) -> "Trends":
    """Measure the shares of the classes in a scored corpus; arguments as :func:`run`.

    Example:
        >>> shares = sentiflow.trends("configs/quickstart.yaml").shares  # doctest: +SKIP
        >>> shares.columns[3:7].tolist()  # doctest: +SKIP
        ['class', 'rows', 'predicted_share', 'corrected_share']
    """
    from sentiflow.pipeline import calls

    return calls.run(config, settings, ["trends"], overwrite=overwrite, verbose=verbose).trends


def promote(
    config: "ConfigLike",
    settings: Mapping[str, Any] | None = None,
    *,
    version: int | None = None,
    force: bool = False,
) -> "Promotion":
    """Make a registered model the champion if it is better than the present one on the test rows.

    Args:
        config: A settings file, or the settings: the name, the store and the prepared data.
        settings: Changes, by dotted key.
        version: The version to promote. Default: the candidate, the one that was trained last.
        force: Promote it without a comparison, as to go back to an earlier version.

    Returns:
        What was compared, and whether it was ``promoted``; ``print`` shows it in a few lines.

    Raises:
        UserError: There is no candidate, no prepared data, or no labelled test row.
        JobError: MLflow cannot be reached.

    Example:
        >>> print(sentiflow.promote("configs/quickstart.yaml"))  # doctest: +SKIP
        version 1 is the champion of quickstart now: test accuracy 0.9436, 1,969 rows
    """
    from sentiflow.config.settings import load
    from sentiflow.pipeline import calls

    with calls.reporting():
        from sentiflow.evaluation import promotion

        return promotion.promote(load(config, settings or {}), version=version, force=force)


def load_run(output_uri: "str | os.PathLike[str]") -> "Run":
    """Load the results of a run that is finished, or of its finished stages.

    Args:
        output_uri: The directory that its config names, local or in object storage.

    Raises:
        UserError: There is no finished stage.

    Example:
        >>> run = sentiflow.load_run("runs/quickstart")  # doctest: +SKIP
        >>> list(run.stages)  # doctest: +SKIP
        ['prepare', 'train', 'score', 'evaluate']
    """
    from sentiflow.pipeline import calls, results

    with calls.reporting():
        return results.Run.load(os.fspath(output_uri))


def read_predictions(
    run: "str | os.PathLike[str] | Run | Scored",
    columns: Sequence[str] | None = None,
    *,
    filters: "Filters" = (),
) -> "pd.DataFrame":
    """Read the predictions of a scored corpus as a DataFrame; join it on ``row_id``.

    ``load_run(...).predictions.to_arrow()`` reads them as a table of Arrow.

    Args:
        run: A run, or its ``output_uri``, or the ``output_uri`` of a scoring.
        columns: Those to read; all by default. docs/outputs.md describes them.
        filters: Conditions that rows must all meet: ``[("split", "==", "test")]``.

    Raises:
        UserError: There are no complete predictions, or no such column.

    Example:
        >>> sentiflow.read_predictions("runs/quickstart", ["row_id", "split"]).shape
        ... # doctest: +SKIP
        (6000, 2)
    """
    from sentiflow.pipeline import calls, results

    with calls.reporting():
        return results.find_predictions(run).to_pandas(columns, filters=filters)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
