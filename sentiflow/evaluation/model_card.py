"""A model, its training and its evaluation -> its model card: Markdown as model hubs show it.

The card begins with metadata that the Hugging Face Hub reads. It holds no text of the corpus and no
location. It holds names of files, classes and slices, which are not trusted and therefore escaped.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jinja2

from sentiflow.config.settings import flatten
from sentiflow.config.text_units import MIDDLE, find_cut, find_unit, name_unit
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import followed_inputs, lineage, manifest
from sentiflow.data.manifest_types import Manifest, ModelInput
from sentiflow.errors import MOST_LISTED, UserError, is_printable
from sentiflow.evaluation.measurements import Measurements, name_texts
from sentiflow.evaluation.page_templates import open_template, write_setting
from sentiflow.evaluation.result import EvaluationResult
from sentiflow.metrics.classification import MIN_ROWS
from sentiflow.metrics.registry import CLASS_METRICS, METRICS, Metric
from sentiflow.models import logit_shares, package_files
from sentiflow.storage.uris import absolute_uri, display_uri
from sentiflow.tracking import model_sources, refits
from sentiflow.tracking.runs import CODE_TAG, COMMIT_TAG, DIRTY_TAG

_MAIN_SETTINGS = ("num_epochs", "batching.global_batch_size", "learning_rate", "seed")
"""Settings of a training that are shown even if they are the defaults."""
_DIRECTORY = re.compile(r"(?:\b[A-Za-z][A-Za-z0-9+.-]*:/|(?<!\S))/(?:[^\s/]+/)+")
"""The directory of a file, in a text such as a note: ``/home/ann/`` or ``s3://bucket/key/``."""
_MARKUP = re.compile(r"[\\`*<>|\[\]#@~$&]|(?<!\w)_|_(?!\w)")
"""Characters that Markdown would read as markup. An underscore within a word is not one."""
_ASSIGNED_BY = {
    "hash": "a hash of the text, so equal texts are in one split",
    "user": "their author",
    "time": "the time of writing: the test texts are the latest",
    "tutorial": "their row number",
    "column": "a column of the corpus",
}
"""What assigned texts to the splits, by ``prepare.split.kind``."""


class _Unescaped(str):
    """Text that :func:`_escape` leaves as it is; templates make it by the filter ``unescaped``."""


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
        result: Its evaluation; None if the model was not evaluated.
        corpus: The evaluated texts, in a line.
        validation: Metrics of the validation texts, shown if the model was not evaluated.
    """
    settings = model["settings"]
    assert settings is not None, "a package has settings"
    trainings = [lineage.training_of(each) for each in lineage.members_of(model)]
    template = open_template(
        "model_card.md.j2",
        {
            "unescaped": _Unescaped,
            "choose_settings": _choose_settings,
            "teachers": _name_teachers,
        },
        finalize=_escape,
        keep_trailing_newline=True,
        lstrip_blocks=True,
    )
    return template.render(
        name=_choose_name(result, trainings[0]),
        model=model,
        classes=list(settings["classes"]),
        most_listed=MOST_LISTED,
        about=lineage.describe_model(settings),
        max_length=settings["max_length"],
        unit=name_unit(find_unit(settings)),
        cuts_middle=find_cut(settings) == MIDDLE,
        logit_shares=logit_shares.describe_model(model, trainings[0]),
        refit=refits.describe(model["refit"]) if "refit" in model else "",
        corpus=corpus,
        validation=validation or {},
        **_describe_trainings(trainings),
        **_describe_data(trainings[0]),
        **_describe_result(result),
    )


def _choose_name(result: EvaluationResult | None, trained: Manifest | None) -> str:
    """Return the name of the experiment, from the evaluation or else from the training."""
    if result:
        return result.name
    run = trained.get("run") if trained else None
    return run["experiment"] if run else "sentiment model"


def _describe_trainings(trainings: list[Manifest | None]) -> dict[str, Any]:
    """Describe the training of each model of an average; None is a training that is gone."""
    known = [each for each in trainings if each]
    corpora = {each["inputs"]["prepared"]["fingerprint"] for each in known}
    return {
        "trained": trainings[0],
        "trainings": known,
        "num_models": len(trainings),
        "is_one_corpus": len(corpora) == 1,
        "tags": {"commit": COMMIT_TAG, "changed": DIRTY_TAG, "code": CODE_TAG},
    }


def _describe_data(trained: Manifest | None) -> dict[str, Any]:
    """Describe the prepared data of a training, if they still exist."""
    prepared = followed_inputs.follow(trained["inputs"], "prepared") if trained else None
    return {
        "prepared": prepared,
        "files": lineage.name_files(_list_files(prepared, "csv")),
        "unlabelled_files": lineage.name_files(_list_files(prepared, "unlabelled")),
        "splits": _count_classes(prepared) if prepared else {},
        "assigned_by": _ASSIGNED_BY,
    }


def _describe_result(result: EvaluationResult | None) -> dict[str, Any]:
    """Choose metrics and intervals of the headline split; none without an evaluation."""
    if not result:
        return {"result": None}
    measured = result.measured
    return {
        "result": result,
        "measured": measured,
        "metrics": _list_metrics(measured),
        "min_rows": MIN_ROWS,
        "class_metrics": [metric for metric in CLASS_METRICS if not metric.of_probabilities],
        "intervals": measured.intervals[measured.split],
        "texts": name_texts(measured.split),
    }


def _list_files(prepared: Manifest | None, name: str) -> list[str]:
    """List the files of an input of prepared data; none without this input."""
    inputs = prepared["inputs"] if prepared else {}
    return [file["uri"] for file in inputs.get(name, {}).get("files", ())]


def _name_teachers(inputs: Mapping[str, Any]) -> list[str]:
    """Name the teachers among the inputs of a training: runs, or files with answers."""
    names = []
    for name, teacher in inputs.items():
        if not name.startswith(model_sources.TEACHER):
            continue
        if "uri" in teacher:
            names.append(teacher["uri"].removesuffix("/trained/model"))
        else:
            names.append(lineage.name_files([file["uri"] for file in teacher["files"]]))
    return names


def find(place: str) -> str:
    """Return the card of a model: from its evaluation, or made now if it was not evaluated.

    Args:
        place: The directory of a run, of its training or of a model package; or a model in MLflow.

    Raises:
        UserError: There is no model, its evaluation has no card, or its manifest lacks an entry.
        JobError: MLflow cannot be reached.
    """
    uri = absolute_uri(place)
    model_uri, package = model_sources.find(uri, tracking=None, setting="the model")
    evaluation = model_sources.find_evaluation(package, uri)
    if evaluation:
        evaluation_uri, record = evaluation
        return manifest.read_file(evaluation_uri, record, manifest.CARD).decode()
    model = package_files.to_input(model_uri, package)
    try:
        return render(model, None, validation=package.get("metrics"))
    except (KeyError, jinja2.UndefinedError) as error:
        raise UserError(
            f"a manifest of {display_uri(uri)} lacks an entry of the card: {error}",
            hint="run its stages again",
        ) from error


def _escape(value: object) -> str:
    """Write a value in one line without markup and without directories."""
    if isinstance(value, _Unescaped):
        return value
    printed = "".join(c if is_printable(c) else " " for c in str(value))
    line = re.sub(r"\s+", " ", printed)
    without_directories = _DIRECTORY.sub("", line)
    return _MARKUP.sub(r"\\\g<0>", without_directories)


class _MetricRow(NamedTuple):
    """A row of the table of metrics."""

    metric: Metric
    value: str
    interval: str


def _list_metrics(measured: Measurements) -> list[_MetricRow]:
    """List the metrics of the headline split that are defined."""
    rows = []
    for metric in METRICS:
        value = measured.metrics.values.get(metric.name)
        if value is None:
            continue
        interval = measured.describe_interval(metric.name, metric.form)
        rows.append(
            _MetricRow(
                metric=metric,
                value=metric.form.format(value),
                interval=interval.removeprefix("95% interval "),  # as the column says
            )
        )
    return rows


def _count_classes(prepared: Manifest) -> dict[str, dict[str, int]]:
    """Count the texts of each class by split.

    Classes without texts are left out. Many classes are counted together.
    """
    counts: dict[str, dict[str, int]] = prepared["counts"]["labels"]
    classes = next(iter(counts.values()))
    used = [name for name in classes if any(of_split[name] for of_split in counts.values())]
    if len(used) > MOST_LISTED:  # more columns than a page has room for
        return {split: {"all classes": sum(counts[split].values())} for split in counts}
    return {split: {name: counts[split][name] for name in used} for split in counts}


def _choose_settings(trained: Manifest) -> list[tuple[str, str]]:
    """Choose the settings that differ from the defaults, and the main ones."""
    defaults = flatten(TrainSettings().model_dump(mode="json"))
    chosen = []
    for key, value in flatten(trained["settings"]).items():
        if key in _MAIN_SETTINGS or value != defaults.get(key):
            chosen.append((f"train.{key}", write_setting(value)))
    return chosen
