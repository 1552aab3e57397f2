"""A stage -> its run in MLflow, from its begin to its end."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mlflow.entities import Run

from sentiflow.config import submitter
from sentiflow.data.manifest_types import RunRecord
from sentiflow.tracking import mlflow_store, runs
from sentiflow.tracking.experiment_store import Store
from sentiflow.tracking.recorder import Recorder


@contextmanager
def open_run(
    store: Store,
    stage: str,
    *,
    group: str,
    tags: Mapping[str, str],
    name: str = "",
    user: str = "",
    registers_model: bool = False,
    earlier: Run | None = None,
) -> Iterator[Recorder]:
    """Open a run for a stage; it ends finished, failed, or killed on Ctrl-C and SIGTERM.

    Args:
        store: The store with its experiment.
        stage: The stage.
        group: Id of the command.
        tags: Tags of the run; among them the user's own tags.
        name: Its name. Default: the stage with the end of the group.
        user: The person who runs the job. Default: the user of this machine.
        registers_model: Whether the stage registers the model.
        earlier: A run of the same command, which is continued. Default: a new run.

    Raises:
        UserError: MLflow's user has no permission to log runs, and tracking is required.
    """
    user = user or submitter.find(None)
    name = name or f"{stage} {group[-4:]}"
    kept_tags = _list_kept_tags(stage, user, tags)
    run_record = _begin_record(
        store.experiment,
        group=group,
        name=name,
        tags=runs.to_tags(kept_tags),
        registers_model=registers_model,
    )
    all_tags = {runs.STAGE_TAG: stage, runs.GROUP_TAG: group, **kept_tags, **tags}
    times_repeated = 0
    run_id = ""
    if earlier:
        times_repeated = runs.count_repeats(earlier.data.tags) + 1
        run_id = earlier.info.run_id
        store.continue_run(earlier, all_tags)
    elif store.experiment_id:
        run_id = store.make_run(name, all_tags, needed=store.required)
    recorder = Recorder(
        run_id,
        store,
        run_record=run_record,
        tags=all_tags,
        kept=run_record,
        times_repeated=times_repeated,
    )
    if earlier:
        recorder.set_tags({runs.TIMES_TAG: str(times_repeated)})
    try:
        yield recorder
    except BaseException as error:
        is_killed = isinstance(error, KeyboardInterrupt | SystemExit)
        recorder.end("KILLED" if is_killed else "FAILED", reason=_explain_end(error))
        raise
    else:
        recorder.end("FINISHED")
    finally:
        store.flush()


def _list_kept_tags(stage: str, user: str, tags: Mapping[str, str]) -> dict[str, str]:
    """List the tags of a run that its manifest keeps, too."""
    return {
        "mlflow.source.name": f"sentiflow {stage}",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": user,
        runs.USER_TAG: user,
        **{tag: value for tag, value in tags.items() if runs.is_kept(tag)},
    }


def _begin_record(
    experiment: str, *, group: str, name: str, tags: dict[str, str], registers_model: bool
) -> RunRecord:
    """Describe a run that begins now and has logged nothing yet."""
    return {
        "experiment": experiment,
        "group": group,
        "name": name,
        "start": runs.now_iso(),
        "end": "",
        "params": {},
        "tags": tags,
        "metrics": {},
        "artifacts": [],
        "registers_model": registers_model,
        "mlflow_run_id": "",
    }


def _explain_end(error: BaseException) -> str:
    """Say why a run has ended: name the signal, or return the first line of the error."""
    if not isinstance(error, KeyboardInterrupt):
        return mlflow_store.first_line(error)
    numbers = [value for value in error.args if isinstance(value, int)]
    number = numbers[0] if numbers else signal.SIGINT
    return f"interrupted by {signal.Signals(number).name}"
