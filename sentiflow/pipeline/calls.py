"""Calls of a Python program -> stages run, with progress shown and errors that say what to do."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sentiflow import progress
from sentiflow.config import settings
from sentiflow.errors import JobError, UserError
from sentiflow.pipeline import results, stages
from sentiflow.storage import errors


def run(
    config: settings.ConfigLike,
    changes: Mapping[str, Any] | None,
    verbs: Sequence[stages.Verb] = (),
    *,
    overwrite: bool,
    verbose: bool,
) -> results.Run:
    """Run stages, as the command ``run`` or that of one stage does.

    Args:
        config: The settings.
        changes: Values by dotted key, which replace settings.
        verbs: The stages; by default those of a whole run.
        overwrite: Replace results of other settings or inputs.
        verbose: Show Ray's and MLflow's own messages.

    Raises:
        UserError: Input or settings are wrong.
        JobError: A stage failed.
    """
    command = verbs[0] if len(verbs) == 1 else "run"
    with reporting(verbose):
        resolved = settings.load(config, changes or {}, command=command)
        verbs = verbs or stages.whole_run(resolved)
        outcomes = stages.run(resolved, verbs, overwrite=overwrite, verbose=verbose)
    done: dict[str, results.StageResult] = {
        o.verb: results.KINDS[o.verb](o.uri, o.record, o.ran) for o in outcomes
    }
    return results.Run(resolved.output_uri, done)


@contextmanager
def reporting(verbose: bool = False) -> Iterator[None]:
    """Show the progress of a call; let its errors be those of :mod:`sentiflow.errors`."""
    with progress.shown(verbose=verbose), warnings.catch_warnings():
        if not verbose:
            warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:
            explained = errors.explain(error) or error
            if isinstance(explained, UserError | JobError):
                explained.args = (str(explained).replace("--overwrite", "overwrite=True"),)
            if explained is error:
                raise
            raise explained from error
