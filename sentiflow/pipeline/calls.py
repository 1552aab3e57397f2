"""The functions of the Python interface: stages run, results loaded."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sentiflow.config import settings as settings_of
from sentiflow.config.settings import ConfigLike
from sentiflow.pipeline import results, stage_plans, stages
from sentiflow.pipeline.reporting import reporting
from sentiflow.pipeline.results import Evaluated, Prepared, Run, Scored, Trained, Trends
from sentiflow.pipeline.tables import Filters
from sentiflow.storage.uris import absolute_uri
from sentiflow.tracking import commands

if TYPE_CHECKING:
    import pandas as pd

    from sentiflow.evaluation.promotion import Promotion


def run(
    config: ConfigLike,
    settings: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    verbose: bool = False,
) -> Run:
    """Prepare, train, score and evaluate; stages that are complete are skipped.

    The command ``sentiflow run`` does the same: the same settings give the same results. A running
    Ray is used and left running; otherwise Ray is started on this machine for the call.

    Args:
        config: A settings file, the settings as nested dictionaries, or ``runs:/ID``: a run in
            MLflow, which is repeated in another ``output_uri``.
        settings: Changes, by dotted key: ``{"train.num_epochs": 1}``.
        overwrite: Replace results of other settings or inputs.
        verbose: Show Ray's and MLflow's own messages.

    Raises:
        UserError: The input or the settings are wrong. The message says where, and what to do.
        JobError: A stage failed; the same call resumes.

    Example:
        >>> run = sentiflow.run("configs/quickstart.yaml", {"train.seed": 0})  # doctest: +SKIP
        >>> sorted(run.predictions.to_pandas().columns)[:3]  # doctest: +SKIP
        ['confidence', 'label', 'model_version']
        >>> 0.5 < run.metrics["test/accuracy"] <= 1  # doctest: +SKIP
        True
    """
    return _run(config, settings, overwrite=overwrite, verbose=verbose)


def _run(
    config: ConfigLike,
    changes: Mapping[str, Any] | None,
    command: str = "run",
    *,
    overwrite: bool,
    verbose: bool,
) -> Run:
    """Run the stages of a command."""
    with reporting(verbose):
        options = ["--overwrite"] if overwrite else []
        loaded = commands.load(command, config, changes or {}, options=options)
        resolved = loaded.config
        verbs = stage_plans.list_stages(resolved, command)
        outcomes = stages.run(
            resolved, verbs, overwrite=overwrite, verbose=verbose, command=loaded.written
        )
        loaded.compare({outcome.verb: outcome.record for outcome in outcomes})
    finished: dict[str, results.StageResult] = {}
    for outcome in outcomes:
        kind = results.KINDS[outcome.verb]
        finished[outcome.verb] = kind(outcome.uri, outcome.record, outcome.ran)
    return Run(resolved.output_uri, finished)


def prepare(
    config: ConfigLike,
    settings: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    verbose: bool = False,
) -> Prepared:
    """Check, split and encode the texts of ``prepare.csv``; arguments as :func:`run`.

    Example:
        >>> sentiflow.prepare("configs/quickstart.yaml")  # doctest: +SKIP
        Prepared('runs/quickstart/prepared'): 6,000 rows accepted, 0 rejected
    """
    return _run(config, settings, "prepare", overwrite=overwrite, verbose=verbose).prepared


def train(
    config: ConfigLike,
    settings: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    verbose: bool = False,
) -> Trained:
    """Train a model on prepared data; arguments as :func:`run`.

    Example:
        >>> trained = sentiflow.train("configs/quickstart.yaml")  # doctest: +SKIP
        >>> trained.history[["epoch", "validation_accuracy"]].shape  # doctest: +SKIP
        (6, 2)
    """
    return _run(config, settings, "train", overwrite=overwrite, verbose=verbose).trained


def score(
    config: ConfigLike,
    settings: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    verbose: bool = False,
) -> Scored:
    """Label every row of ``score.corpus``, by default prepared data; arguments as :func:`run`.

    Example:
        >>> sentiflow.score("configs/quickstart.yaml")  # doctest: +SKIP
        Scored('runs/quickstart/scored'): 6,000 rows scored
    """
    return _run(config, settings, "score", overwrite=overwrite, verbose=verbose).scored


def evaluate(
    config: ConfigLike,
    settings: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    verbose: bool = False,
) -> Evaluated:
    """Measure predictions against labels, and write the report; arguments as :func:`run`.

    Example:
        >>> evaluated = sentiflow.evaluate("configs/quickstart.yaml")  # doctest: +SKIP
        >>> evaluated.report.uri.endswith("runs/quickstart/report/report.html")  # doctest: +SKIP
        True
    """
    return _run(config, settings, "evaluate", overwrite=overwrite, verbose=verbose).evaluated


def trends(
    config: ConfigLike,
    settings: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    verbose: bool = False,
) -> Trends:
    """Measure the shares of the classes in a scored corpus; arguments as :func:`run`.

    Example:
        >>> shares = sentiflow.trends("configs/quickstart.yaml").shares  # doctest: +SKIP
        >>> shares.columns[3:7].tolist()  # doctest: +SKIP
        ['class', 'rows', 'predicted_share', 'corrected_share']
    """
    return _run(config, settings, "trends", overwrite=overwrite, verbose=verbose).trends


@reporting()
def promote(
    config: ConfigLike,
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
        force: Promote it without a comparison, for example to go back to an earlier version.

    Returns:
        The comparison, and whether the model was ``promoted``; ``print`` shows a few lines.

    Raises:
        UserError: There is no candidate, no prepared data, or no labelled test row.
        JobError: MLflow cannot be reached.

    Example:
        >>> print(sentiflow.promote("configs/quickstart.yaml"))  # doctest: +SKIP
        version 1 is the champion of quickstart now: test accuracy 0.9436, 1,969 rows
    """
    from sentiflow.evaluation import promotion

    return promotion.promote(settings_of.load(config, settings or {}), version=version, force=force)


@reporting()
def load_run(output_uri: str | os.PathLike[str]) -> Run:
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
    return results.Run.load(os.fspath(output_uri))


@reporting()
def read_predictions(
    run: str | os.PathLike[str] | Run | Scored,
    columns: Sequence[str] | None = None,
    *,
    filters: Filters = (),
    with_source: bool = False,
) -> "pd.DataFrame":
    """Read the predictions of a scored corpus as a DataFrame; join them on ``row_id``.

    ``load_run(...).predictions.to_arrow()`` reads them as a table of Arrow.

    Args:
        run: A run, or its ``output_uri``, or the ``output_uri`` of a scoring.
        columns: Columns to read; all by default. docs/outputs.md describes them.
        filters: Conditions that rows must all meet: ``[("split", "==", "test")]``.
        with_source: Add the columns ``source`` and ``source_row``: the file of each row, and its
            number in the file, see :meth:`Scored.find_sources`.

    Raises:
        UserError: There are no complete predictions, or no such column.

    Example:
        >>> sentiflow.read_predictions("runs/quickstart", ["row_id", "split"]).shape
        ... # doctest: +SKIP
        (6000, 2)
    """
    if not isinstance(run, Run | Scored):
        root = absolute_uri(os.fspath(run)).removesuffix("/predictions")
        run = Scored.find(root) or Scored.load(root)
    if not with_source:
        return run.predictions.to_pandas(columns, filters=filters)
    scored = run.scored if isinstance(run, Run) else run
    wanted = columns if columns is None else list(dict.fromkeys(["row_id", *columns]))
    frame = scored.predictions.to_pandas(wanted, filters=filters)
    # A job may have replaced the predictions while they were read: then it knows the sources, too.
    current = scored.renew() or scored
    frame[["source", "source_row"]] = current.find_sources(frame["row_id"])
    if columns is None:
        return frame
    return frame[[*columns, "source", "source_row"]]
