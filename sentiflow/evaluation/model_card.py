"""A model, its training and its evaluation -> its model card: Markdown as model hubs show it.

The card begins with the metadata that the Hugging Face Hub reads: see
https://github.com/huggingface/hub-docs/blob/main/modelcard.md. Names of files, classes and slices
in it are not trusted. It holds no text of the corpus and no location.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import yaml

from sentiflow.config.settings import flatten
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import manifest
from sentiflow.data.manifest import CARD
from sentiflow.data.manifest_types import Manifest, ModelInput
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.evaluation.group_bias import CAVEAT
from sentiflow.evaluation.report import fill
from sentiflow.evaluation.results import EvaluationResult, name_texts
from sentiflow.evaluation.slices import MIN_ROWS, SliceMetrics
from sentiflow.metrics import paired
from sentiflow.metrics.registry import METRICS, Metric
from sentiflow.models import package_files
from sentiflow.storage.uris import absolute_uri, as_typed, join, names_model
from sentiflow.tracking import model_sources, refits
from sentiflow.tracking.model_sources import TEACHER
from sentiflow.tracking.runs import CODE_TAG, COMMIT_TAG, DIRTY_TAG

_MAX_SLICES, _MAX_DATASETS = 20, 10
_MAIN_SETTINGS = ("num_epochs", "batching.global_batch_size", "learning_rate", "seed")
"""Settings of a training that are shown even if they are the defaults."""
_TABLE_FILE = re.compile(r"(\.(csv|tsv|txt|parquet|gz|bz2|zst|xz|lz4|zip))+$", re.IGNORECASE)
_DIRECTORY = re.compile(r"(?:\b[A-Za-z][A-Za-z0-9+.-]*:/|(?<!\S))/(?:[^\s/]+/)+")
"""Where a file is, in a text such as a note: ``/home/ann/`` or ``s3://bucket/key/``."""
_ASSIGNED_BY = {
    "hash": "a hash of the text, so equal texts are in one split",
    "user": "their author",
    "time": "the time of writing: the test texts are the latest",
    "tutorial": "their row number",
    "column": "a column of the corpus",
}
"""How texts came into the splits, by ``prepare.split.kind``."""


class _Markdown(str):
    """Text that is printed as it is."""


class _Figure(NamedTuple):
    """A metric and its value."""

    metric: Metric
    value: float | None
    low: float | None = None
    """Ends of the 95 % interval; None where it has none."""
    high: float | None = None
    no_interval: str = ""
    """Why it has none; empty if that is not known."""

    @property
    def text(self) -> str:
        """Write the value."""
        return "" if self.value is None else self.metric.form.format(self.value)

    @property
    def interval(self) -> str:
        """Write the interval, or why there is none."""
        if self.low is None or self.high is None:
            return self.no_interval and f"no interval: {self.no_interval}"
        return f"{self.metric.form.format(self.low)} to {self.metric.form.format(self.high)}"


def render(
    model: ModelInput,
    result: EvaluationResult | None,
    *,
    corpus: str = "",
    validation: Mapping[str, float] | None = None,
) -> str:
    """Write a model card in Markdown.

    Args:
        model: The model, as an input of the predictions.
        result: Its evaluation; None if there is none.
        corpus: The evaluated texts, in a line.
        validation: Metrics of the validation texts, shown if there is no evaluation.
    """
    settings = model["settings"]
    assert settings is not None, "a package has settings"
    trainings = [lineage.training_of_model(each) for each in lineage.members_of(model)]
    trained = trainings[0]
    prepared = manifest.read_input(trained["inputs"], "prepared") if trained else None
    uris = _list_files(prepared, "csv")
    measured = result.measured if result else None
    name = result.name if result else _name_experiment(trained)
    metrics = _list_metrics(result) if result else []
    return _find_template().render(
        front_matter=_Markdown(_write_metadata(name, uris, result, metrics, corpus)),
        name=name,
        model=model,
        classes=list(settings["classes"]),
        about=lineage.describe_model(settings),
        max_length=settings["max_length"],
        trained=trained,
        trainings=[each for each in trainings if each],
        tags={"commit": COMMIT_TAG, "changed": DIRTY_TAG, "code": CODE_TAG},
        num_models=len(trainings),
        prepared=prepared,
        is_one_corpus=len({each["inputs"]["prepared"]["fingerprint"] for each in trainings if each})
        == 1,
        files=lineage.name_files(uris),
        unlabelled_files=lineage.name_files(_list_files(prepared, "unlabelled")),
        splits=_count_classes(prepared) if prepared else {},
        assigned_by=_ASSIGNED_BY,
        result=result,
        measured=measured,
        probed=result.probed if result else None,
        metrics=metrics,
        corpus=corpus,
        texts=name_texts(measured.split) if measured else "",
        slices=_choose_slices(result) if result else [],
        min_rows=MIN_ROWS,
        sure=paired.SURE,
        caveat=CAVEAT,
        validation=validation or {},
        refit=refits.describe(model["refit"]) if "refit" in model else "",
        run=refits.name_run(model["refit"]) if "refit" in model else "",
        run_figures=_list_run_figures(model["refit"]["metrics"]) if "refit" in model else [],
    )


def _find_template() -> jinja2.Template:
    """Find the page, whose text is Markdown."""
    environment = jinja2.Environment(  # noqa: S701  the page is not HTML
        loader=jinja2.PackageLoader("sentiflow.evaluation"),
        finalize=_escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "fill": fill,
        "p": paired.write_p,
        "as_it_is": _Markdown,
        "choose_settings": _choose_settings,
    }
    environment.tests["teacher"] = lambda name: name.startswith(TEACHER)
    return environment.get_template("model_card.md.j2")


def _list_files(prepared: Manifest | None, name: str) -> list[str]:
    """List the files of an input of prepared data, if it has it."""
    inputs = prepared["inputs"] if prepared else {}
    return [item["uri"] for item in inputs.get(name, {}).get("files", ())]


def find(place: str) -> str:
    """Find the card of a model that was evaluated; write one of a model that was not.

    Args:
        place: The directory of a run, of its evaluation, of its training or of a model package; or
            a model in MLflow.

    Raises:
        UserError: There is no model and no evaluation, or the evaluation has no card.
        JobError: MLflow cannot be reached.
    """
    uri = absolute_uri(place)
    try:
        model_uri, package = model_sources.find(uri, tracking=None, setting="the model")
    except UserError:
        if names_model(uri):
            raise
        card = _read_card(uri) or _read_card(
            join(uri, model_sources.REPORT)
        )  # of another run's model
        if card is None:
            raise
        return card
    model = package_files.to_input(model_uri, package)
    evaluation = model_sources.find_evaluation(package, uri)
    card = _read_card(evaluation[0]) if evaluation else None
    try:
        return card or render(model, None, validation=package.get("metrics"))
    except (jinja2.UndefinedError, KeyError) as error:
        raise UserError(
            f"{as_typed(uri)}: a manifest of its run lacks what a card shows: {error}",
            hint="was it changed by hand? The card needs the manifests as they were written",
        ) from error


def _read_card(uri: str) -> str | None:
    """Read the card of an evaluation; None if there is none."""
    record = manifest.read(uri)
    if record is None or record["stage"] != "evaluate":
        return None
    return manifest.read_file(uri, record, CARD).decode()


def _escape(value: object) -> str:
    """Write a value so that Markdown shows it, and reads no table, tag, link or style in it."""
    if isinstance(value, _Markdown):
        return value
    return re.sub(r"[\\`*<>|\[\]#@~$&]|(?<!\w)_|_(?!\w)", r"\\\g<0>", _to_line(str(value)))


def _to_line(text: str) -> str:
    """Write a text in a line, without directories and without characters that are not printed."""
    plain = re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text))
    return _DIRECTORY.sub("", plain)


def _name_experiment(trained: Manifest | None) -> str:
    run = trained.get("run") if trained else None
    return run["experiment"] if run else "sentiment model"


def _write_metadata(
    name: str,
    uris: Sequence[str],
    result: EvaluationResult | None,
    metrics: Sequence[_Figure],
    corpus: str,
) -> str:
    """Write the metadata of the Hub as YAML."""
    names = [uri.rpartition("/")[2] for uri in uris[:_MAX_DATASETS]]
    known = [item for item in metrics if item.metric.hub]
    found: dict[str, Any] = {
        "library_name": "sentiflow",
        "pipeline_tag": "text-classification",
        "tags": ["sentiment-analysis", "sentiflow", "pytorch"],
    }
    if names:
        found["datasets"] = list(dict.fromkeys(map(_to_id, names)))
    if result:
        split = result.measured.split
        dataset = {"type": _to_id(corpus.partition(", ")[0]), "name": _to_line(corpus)}
        if split in SPLITS:
            dataset["split"] = split
        found["metrics"] = [item.metric.hub["type"] for item in known]
        found["model-index"] = [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "text-classification", "name": "Sentiment analysis"},
                        "dataset": dataset,
                        "metrics": [_to_hub(item) for item in known],
                    }
                ],
            }
        ]
    plain = json.loads(json.dumps(found))  # without types of numpy
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=1000).strip()


def _to_hub(figure: _Figure) -> dict[str, Any]:
    """Describe a metric for the Hub, which has no field for an interval: it is in the name."""
    title = figure.metric.title
    named = title if figure.low is None else f"{title} (95% interval {figure.interval})"
    return {**figure.metric.hub, "value": figure.value, "name": named}


def _to_id(name: str) -> str:
    """Name a file as the Hub names datasets: without its ending, of letters, digits and ``-_.``."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", _TABLE_FILE.sub("", name))
    return re.sub(r"([-.])[-.]+", r"\1", plain).strip("-.") or "texts"


def _list_metrics(result: EvaluationResult) -> list[_Figure]:
    """List the metrics of the headline split that are defined."""
    measured = result.measured
    known = vars(measured.metrics)
    intervals = measured.intervals[measured.split]
    missing = measured.no_intervals[measured.split]
    figures = list[_Figure]()
    for metric in METRICS:
        if (value := known[metric.name]) is not None:
            low, high = intervals.get(metric.name, (None, None))
            figures.append(_Figure(metric, value, low, high, missing.get(metric.name, "")))
    return figures


def _list_run_figures(metrics: Mapping[str, float]) -> list[tuple[str, ...]]:
    """List the figures of the run that a refit repeats: title, validation, test, and interval."""
    names = ("validation/{}", "test/{}", "test/{}_low", "test/{}_high")
    rows = list[tuple[str, ...]]()
    for metric in METRICS:
        validation, test, low, high = (metrics.get(name.format(metric.name)) for name in names)
        of_test, of_validation = _Figure(metric, test, low, high), _Figure(metric, validation)
        if of_test.text or of_validation.text:
            rows.append((metric.title, of_validation.text, of_test.text, of_test.interval))
    return rows


def _count_classes(prepared: Manifest) -> dict[str, dict[str, int]]:
    """Count the texts of each class by split, without classes that have none."""
    counts: dict[str, dict[str, int]] = prepared["counts"]["labels"]
    used = [name for name in next(iter(counts.values())) if any(c[name] for c in counts.values())]
    return {split: {name: counts[split][name] for name in used} for split in counts}


def _choose_settings(trained: Manifest) -> list[tuple[str, str]]:
    """Choose the settings that are not the defaults, and the main ones."""
    defaults = flatten(TrainSettings().model_dump(mode="json"))
    return [
        (f"train.{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for key, value in flatten(trained["settings"]).items()
        if key in _MAIN_SETTINGS or value != defaults.get(key)
    ]


def _choose_slices(result: EvaluationResult) -> list[SliceMetrics]:
    """Choose the slices of the user's own and those that are worse beyond chance, worst first."""
    shown = [item for item in result.measured.slices if item.is_own or item.is_worse]
    order = sorted(shown, key=lambda item: (item.num_rows < MIN_ROWS, item.accuracy))
    return order[:_MAX_SLICES]
