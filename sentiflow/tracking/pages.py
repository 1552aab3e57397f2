"""Experiment -> the page of its training runs in MLflow's web interface.

MLflow opens on a page for prompts and traces, and its own table of runs has no metrics. So each
experiment gets a saved view, which MLflow keeps in a tag: only the trainings, the best first, with
their metrics as columns. In charts, metrics of the test rows come first and those of the system
last.
"""

import json

from sentiflow.errors import JobError, UserError
from sentiflow.storage.uris import without_credentials
from sentiflow.tracking import mlflow_store  # before MLflow, which reads what it sets

# isort: split
from mlflow import MlflowClient

_KEY = "sentiflow"
_METRICS = ("test/accuracy", "test/f1_macro", "validation/accuracy")
_SECTIONS = (
    "test", "validation", "train", "pretrain", "behavior", "bias", "score", "score/drift",
    "prepare", "sweep", "step", "pretrain/step", "Model metrics", "System metrics",
)  # fmt: skip
"""Groups of charts, by what their metrics' names begin with; the last two are MLflow's own."""


def _describe_view() -> str:
    """Write a view as MLflow's web interface does when a user saves one."""
    columns = [f"metrics.`{name}`" for name in _METRICS]
    state = {
        "searchFilter": """tags."sentiflow.stage" = 'train'""",
        "orderByKey": columns[0],
        "orderByAsc": False,
        "selectedColumns": [*columns, "attributes.`Models`"],
        "columnOrder": ["attributes.`Run Name`", *columns],
        "columnWidths": {"attributes.`Run Name`": 320},
        "compareRunCharts": [],
        "compareRunSections": [
            {"uuid": f"{_KEY}-{name}", "name": name, "display": True, "isReordered": False}
            for name in _SECTIONS
        ],
        "isAccordionReordered": True,
    }
    return json.dumps({"name": "Training runs", "createdAt": 0, "state": json.dumps(state)})


VIEW_TAGS = {f"mlflow.sharedViewState.{_KEY}": _describe_view()}
"""Tags of an experiment with the view. It stays as the user changes it in the web interface."""


def find_page(tracking_uri: str, experiment: str) -> str:
    """Find a page as :func:`require_page` does; return nothing where there is none."""
    try:
        return require_page(tracking_uri, experiment)
    except (JobError, UserError):
        return ""


def add_report(text: str, experiment_id: str, run_id: str) -> str:
    """Add to the first line of a description the page with the report of an evaluation's run."""
    first, end, others = text.partition("\n")
    link = f"#/experiments/{experiment_id}/runs/{run_id}/artifacts/report.html"
    return f"{first} [Report]({link}){end}{others}"


def require_page(tracking_uri: str, experiment: str = "") -> str:
    """Find the page of an experiment's trainings, below the address of MLflow's web interface.

    An experiment that another program has made has no view of ours.

    Args:
        tracking_uri: The store.
        experiment: Its name; by default that of the latest run.

    Raises:
        UserError: There is no such store, or it has no such experiment.
        JobError: It refuses, or does not answer.
    """
    with mlflow_store.asking(tracking_uri, "look for runs") as client:
        name = experiment or _name_latest(client)
        found = client.get_experiment_by_name(name) if name else None
    if found is None:
        what = f"no run of {name}" if name else "no run"
        store = without_credentials(tracking_uri)
        raise UserError(f"there is {what} in {store}", hint="sentiflow run CONFIG makes one")
    page = f"/#/experiments/{found.experiment_id}/runs?workflowType=machine_learning"
    return f"{page}&viewStateShareKey={_KEY}" if found.tags.keys() >= VIEW_TAGS.keys() else page


def _name_latest(client: MlflowClient) -> str:
    """Name the experiment with the latest run; nothing if there is no run."""
    names = {each.experiment_id: each.name for each in client.search_experiments()}
    order = ["attributes.start_time DESC"]
    for run in client.search_runs(list(names), max_results=1, order_by=order):
        return str(names[run.info.experiment_id])
    return ""
