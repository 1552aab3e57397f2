"""Plan of a scoring -> the corpus, cut into parts, and a model that all nodes can read."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

from sentiflow.cluster.map_stages import MapStages
from sentiflow.config.class_names import BINARY, SENTIMENT140, UNLABELLED
from sentiflow.config.ordered_classes import read_value
from sentiflow.config.sections import ScoreSettings
from sentiflow.data import (
    column_checks,
    corpus,
    csv_plans,
    followed_inputs,
    manifest,
    prepared_data,
    table_plans,
)
from sentiflow.data.manifest import MODEL
from sentiflow.data.manifest_types import Input, Manifest, ModelInput
from sentiflow.data.outputs import Output
from sentiflow.errors import UserError
from sentiflow.models import package_files
from sentiflow.scoring.corpus_files import CorpusFiles
from sentiflow.scoring.score_plan import ScorePlan
from sentiflow.storage import errors
from sentiflow.storage.uris import display_uri, join
from sentiflow.tracking import model_sources, refits


class Inspected(NamedTuple):
    """A corpus before it is cut."""

    rows: corpus.Plan | corpus.Corpus
    """New files, or prepared data, which are cut already."""
    labels: tuple[str, ...]
    """Names of the classes of the corpus; a label is a position among them."""


def inspect(plan: ScorePlan, files: CorpusFiles, *, unpack_to: str) -> Inspected:
    """Inspect the corpus before anything is written, and check that it has the columns to keep.

    Args:
        plan: The scoring.
        files: The files of the corpus.
        unpack_to: Directory for the content of compressed files.

    Raises:
        UserError: The corpus mixes CSV and Parquet, cannot be read, or lacks a column to keep.
    """
    settings = plan.settings
    # Files that do not name their classes are assumed to have the classes of the model. If these
    # are negative and positive, the files may also have neutral, as Sentiment140 has.
    assumed = SENTIMENT140 if plan.classes == BINARY else plan.classes
    if plan.prepared:
        inspected = _open_prepared(settings, plan.prepared)
    elif corpus.are_tables([item["uri"] for item in files.distinct], setting="score.corpus"):
        inspected = _plan_tables(settings, files, assumed)
    else:
        inspected = _plan_csv(settings, files, assumed, unpack_to)
    column_checks.check_scored(
        inspected.rows,
        settings.keep_columns,
        classes=plan.classes,
        is_ordered=package_files.class_values_of(plan.model) is not None,
    )
    return inspected


def find_class_values(plan: ScorePlan, classes: Sequence[str]) -> dict[str, list[float | None]]:
    """Find the numbers of the classes of predictions by an ordered model.

    Args:
        plan: The scoring.
        classes: Classes of the model, then classes that only the corpus has.

    Returns:
        The key ``class_values`` of the manifest; empty if the model's classes have no order.
    """
    of_model = package_files.class_values_of(plan.model)
    if of_model is None:
        return {}
    known: dict[str, float | None] = {}
    if plan.settings.format:
        known |= plan.settings.format.values or {}
    if plan.prepared:
        of_corpus = manifest.find_class_values(plan.prepared) or ()
        known |= dict(zip(manifest.find_classes(plan.prepared), of_corpus, strict=False))
    known |= dict(zip(plan.classes, of_model, strict=True))
    return {"class_values": [known.get(name, read_value(name)) for name in classes]}


def _open_prepared(settings: ScoreSettings, record: Manifest) -> Inspected:
    prepared = corpus.open_prepared(
        settings.prepared_uri,
        record,
        rows_per_part=settings.rows_per_file,
        keep_columns=settings.keep_columns,
    )
    return Inspected(prepared, manifest.find_classes(record))


def _plan_tables(
    settings: ScoreSettings, files: CorpusFiles, assumed: tuple[str, ...]
) -> Inspected:
    assert settings.format is not None, "settings are resolved"
    labels = tuple(dict.fromkeys((*assumed, *(settings.format.classes or ()))))
    tables = table_plans.plan_scoring(
        files.new,
        text_column=settings.text_column,
        keep_columns=settings.keep_columns,
        classes=labels,
        settings=settings.format,
    )
    return Inspected(tables, labels)


def _plan_csv(
    settings: ScoreSettings, files: CorpusFiles, assumed: tuple[str, ...], unpack_to: str
) -> Inspected:
    form = settings.format
    assert form is not None, "settings are resolved"
    labels = form.classes or assumed
    if form.classes is None:  # the written values are the names
        values = {UNLABELLED: ("",), **{name: (name,) for name in labels}}
        form = form.model_copy(update={"labels": values})
    csvs = csv_plans.plan_csv(
        files.new,
        settings=form,
        rows_per_part=settings.rows_per_file,
        unpack_to=unpack_to,
        needs_all=False,
    )
    return Inspected(csvs, labels)


def cut(
    rows: corpus.Plan | corpus.Corpus, settings: ScoreSettings, maps: MapStages, *, first_row: int
) -> corpus.Corpus:
    """Cut new files into parts; prepared data are cut already.

    Args:
        rows: The files, or prepared data.
        settings: The settings of the stage.
        maps: Does the work on each file.
        first_row: Number of the first row: the number of rows that were scored before.
    """
    if isinstance(rows, corpus.Corpus):
        return rows
    key = corpus.identify_work(rows.files)
    return corpus.cut(
        rows,
        rows_per_part=settings.rows_per_file,
        map_files=functools.partial(maps.map, "read_files", key=key, unit=corpus.GROUPS),
        first_row=first_row,
    )


def fetch_model(plan: ScorePlan, output: Output) -> str:
    """Copy the model where that is needed; return its directory, which all nodes can read.

    A model in MLflow is downloaded for the time of the scoring. Several models are averaged into
    one package. The package stays in the output, so a later job needs only the package.

    Raises:
        UserError: The model is damaged.
        JobError: MLflow cannot be reached.
    """
    model = plan.model
    tracking = plan.config.tracking.uri
    work = join(output.uri, "downloaded")
    if isinstance(plan.settings.model_uri, str):
        return model_sources.download(model, to=work, tracking=tracking)
    if output.previous:
        return join(output.spec.uri, MODEL)
    return model_sources.gather(model, to=join(output.uri, MODEL), work=work, tracking=tracking)


class LearnedFiles(NamedTuple):
    """The files of a corpus whose rows a model was trained on."""

    names: list[str]
    """The files, as messages show them."""
    unknown: str = ""
    """Why it is not known whether there are more; empty if it is known."""


def find_learned_files(source: Input, model: ModelInput) -> LearnedFiles:
    """Name the files of a corpus whose rows the model was trained on, unless a split marks them.

    In prepared data the split of a row says whether the model was trained on it. This does not hold
    for a refit that was trained on all rows: then the prepared data are named.

    Args:
        source: The corpus.
        model: The model.
    """
    refit = model.get("refit")
    is_of_refit = refit and refit["prepared"]["fingerprint"] == source["fingerprint"]
    if refit and is_of_refit and refits.has_seen_test(refit):
        return LearnedFiles([display_uri(source["uri"])])
    unknown = ""
    learned: set[str] = set()
    try:
        for member in model.get("members") or [model]:
            learned |= _identify_learned_files(member)
    except (OSError, UserError) as error:
        unknown = errors.describe(error)
    files = [item for item in source.get("files", ()) if manifest.identify_file(item) in learned]
    return LearnedFiles([display_uri(item["uri"]) for item in files], unknown)


def _identify_learned_files(model: ModelInput) -> set[str]:
    """Identify the files that a model was trained on; none if its training or data are gone.

    Raises:
        OSError: Their storage fails.
        UserError: They are in another store, or damaged.
    """
    training = followed_inputs.read_checked_input(model, "training")
    if training is None:
        return set()
    prepared = followed_inputs.read_checked_input(training["inputs"], "prepared")
    return prepared_data.identify_learned_files(prepared) if prepared else set()
