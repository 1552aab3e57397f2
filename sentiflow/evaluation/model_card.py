"""A model, its training and its evaluation -> its model card: Markdown as model hubs show it.

The card begins with metadata that the Hugging Face Hub reads. Names of files, classes and slices in
it are not trusted. It holds no text of the corpus and no location.
"""

import json
import re
from collections.abc import Mapping

import jinja2

from sentiflow.config.settings import flatten
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import lineage, manifest
from sentiflow.data.manifest_types import Manifest, ModelInput
from sentiflow.errors import MOST_LISTED, UserError
from sentiflow.evaluation.measurements import EvaluationResult, Measurements, name_texts
from sentiflow.evaluation.report import open_template
from sentiflow.metrics.registry import METRICS, Metric
from sentiflow.models import package_files
from sentiflow.storage.uris import absolute_uri, display_uri
from sentiflow.tracking import model_sources, refits
from sentiflow.tracking.runs import CODE_TAG, COMMIT_TAG, DIRTY_TAG

_MAIN_SETTINGS = ("num_epochs", "batching.global_batch_size", "learning_rate", "seed")
"""Settings of a training that are shown even if they are the defaults."""
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
    trainings = [lineage.training_of(each) for each in lineage.members_of(model)]
    trained = trainings[0]
    prepared = manifest.read_input(trained["inputs"], "prepared") if trained else None
    measured = result.measured if result else None
    run = trained.get("run") if trained else None
    name = result.name if result else run["experiment"] if run else "sentiment model"
    return open_template(
        "model_card.md.j2",
        {
            "as_it_is": _Markdown,
            "choose_settings": _choose_settings,
            "teachers": lambda inputs: [
                each["uri"].removesuffix("/trained/model")
                if "uri" in each
                else lineage.name_files([file["uri"] for file in each["files"]])
                for name, each in inputs.items()
                if name.startswith(model_sources.TEACHER)
            ],
        },
        finalize=_escape,
        keep_trailing_newline=True,
        lstrip_blocks=True,
    ).render(
        name=name,
        model=model,
        classes=list(settings["classes"]),
        most_listed=MOST_LISTED,
        about=lineage.describe_model(settings),
        max_length=settings["max_length"],
        trained=trained,
        trainings=[each for each in trainings if each],
        tags={"commit": COMMIT_TAG, "changed": DIRTY_TAG, "code": CODE_TAG},
        num_models=len(trainings),
        prepared=prepared,
        is_one_corpus=len({each["inputs"]["prepared"]["fingerprint"] for each in trainings if each})
        == 1,
        files=lineage.name_files(_list_files(prepared, "csv")),
        unlabelled_files=lineage.name_files(_list_files(prepared, "unlabelled")),
        splits=_count_classes(prepared) if prepared else {},
        assigned_by=_ASSIGNED_BY,
        result=result,
        measured=measured,
        metrics=_list_metrics(measured) if measured else [],
        corpus=corpus,
        texts=name_texts(measured.split) if measured else "",
        validation=validation or {},
        refit=refits.describe(model["refit"]) if "refit" in model else "",
    )


def _list_files(prepared: Manifest | None, name: str) -> list[str]:
    """List the files of an input of prepared data, if it has it."""
    inputs = prepared["inputs"] if prepared else {}
    return [item["uri"] for item in inputs.get(name, {}).get("files", ())]


def find(place: str) -> str:
    """Find the card of a model that was evaluated; write one of a model that was not.

    Args:
        place: The directory of a run, of its training or of a model package; or a model in MLflow.

    Raises:
        UserError: There is no model, or its evaluation has no card.
        JobError: MLflow cannot be reached.
    """
    uri = absolute_uri(place)
    model_uri, package = model_sources.find(uri, tracking=None, setting="the model")
    if evaluation := model_sources.find_evaluation(package, uri):
        return manifest.read_file(*evaluation, manifest.CARD).decode()
    model = package_files.to_input(model_uri, package)
    try:
        return render(model, None, validation=package.get("metrics"))
    except (KeyError, jinja2.UndefinedError) as error:
        raise UserError(
            f"a manifest of {display_uri(uri)} lacks what a card tells: {error}",
            hint="run its stages again",
        ) from error


def _escape(value: object) -> str:
    """Write a value so that Markdown shows it, and reads no table, tag, link or style in it."""
    if isinstance(value, _Markdown):
        return value
    printed = "".join(c if c.isprintable() else " " for c in str(value))
    line = _DIRECTORY.sub("", re.sub(r"\s+", " ", printed))  # without the directories in it
    return re.sub(r"[\\`*<>|\[\]#@~$&]|(?<!\w)_|_(?!\w)", r"\\\g<0>", line)


def _list_metrics(measured: Measurements) -> list[tuple[Metric, str, str]]:
    """List the metrics of the headline split that are defined, with value and interval."""
    values = measured.metrics.values
    return [
        (
            metric,
            metric.form.format(values[metric.name]),
            measured.describe_interval(metric.name, metric.form).removeprefix("95 % interval "),
        )
        for metric in METRICS
        if values.get(metric.name) is not None
    ]


def _count_classes(prepared: Manifest) -> dict[str, dict[str, int]]:
    """Count the texts of each class by split, without classes that have none; of many all."""
    counts: dict[str, dict[str, int]] = prepared["counts"]["labels"]
    used = [name for name in next(iter(counts.values())) if any(c[name] for c in counts.values())]
    if len(used) > MOST_LISTED:  # more columns than a page has room for
        return {split: {"all classes": sum(counts[split].values())} for split in counts}
    return {split: {name: counts[split][name] for name in used} for split in counts}


def _choose_settings(trained: Manifest) -> list[tuple[str, str]]:
    """Choose the settings that are not the defaults, and the main ones."""
    defaults = flatten(TrainSettings().model_dump(mode="json"))
    return [
        (f"train.{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for key, value in flatten(trained["settings"]).items()
        if key in _MAIN_SETTINGS or value != defaults.get(key)
    ]
