"""Scored directory -> the directory of its evaluation: ``metrics.json``, a page, a model card."""

import functools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config import decisive
from sentiflow.config.sections import Config, EvaluateSettings
from sentiflow.data import lineage, manifest
from sentiflow.data.lineage import ScoredCorpus
from sentiflow.data.manifest_types import FileEntry, Manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.outputs import Output
from sentiflow.errors import UserError
from sentiflow.evaluation import (
    compact_rows,
    cross_validation,
    deciding_words,
    evaluated_classes,
    evaluated_rows,
    measurements,
    mistakes,
    model_card,
    model_checks,
    other_models,
    registration,
    report,
    report_charts,
    slices,
    text_traits,
)
from sentiflow.evaluation.chosen_model import choose_model
from sentiflow.evaluation.cross_validation import CrossValidated
from sentiflow.evaluation.deciding_words import DecidingWords, LoadModel
from sentiflow.evaluation.evaluated_rows import AUTHOR
from sentiflow.evaluation.highlights import summarize
from sentiflow.evaluation.measurements import Measurements
from sentiflow.evaluation.model_checks import CheckedTexts
from sentiflow.evaluation.origin import Origin, describe_origin
from sentiflow.evaluation.result import EvaluationResult
from sentiflow.evaluation.text_source import TextSource
from sentiflow.evaluation.unseen_rows import leave_out_training_rows
from sentiflow.plotting import to_curve
from sentiflow.progress import Steps, say
from sentiflow.storage import parquet, retries
from sentiflow.tracking import training_rows
from sentiflow.tracking.recorder import Recorder

STAGE = "evaluate"
METRICS_FILE = "metrics.json"
PAGE = "report.html"
MISTAKES = "mistakes.parquet"
PLOTS = "plots"

_STEPS = Steps(
    STAGE,
    read="reading predictions and texts",
    measure="measuring metrics and slices",
    folds="measuring cross-validation",
    texts="reading mistakes and texts",
    words="finding the words that decide",
    check="testing the behavior of the model",
    compare="training a baseline to compare the model with",
    draw="drawing plots, writing the report",
    track="sending the results to MLflow",
)

REPORT_VERSION = 17
"""Changes whenever the same predictions would give another report."""


class _MeasuredRows(NamedTuple):
    """Labelled predictions that the model was not trained on, and what they show."""

    rows: pa.Table
    """The headline split, as ``text_traits.describe`` returns its rows."""
    texts: TextSource | None
    """Where the texts of the rows are; None if they are unknown."""
    measured: Measurements
    is_unseen: bool
    """Whether it is certain that none of the rows was used to train or choose the model."""
    notes: list[str]
    """What a reader should know first."""


class _ReadTexts(NamedTuple):
    """Mistakes, and the texts of the few rows whose texts are used."""

    mistakes: pa.Table
    """The columns of ``mistakes.COLUMNS``. It has no rows if there are no texts or
    ``evaluate.num_examples`` is 0."""
    checked: CheckedTexts | None
    """None if the texts are unknown."""
    of_baseline: pa.Table | None
    """The rows that the baseline is measured on, with the column ``text``; None as above."""
    of_words: tuple[pa.Array, pa.Array] | None
    """Texts by which the words of classes are measured, and the names of their predicted classes.
    None: there are no texts, or ``evaluate.num_examples`` is 0."""


class _Files(NamedTuple):
    """What the evaluation writes, except ``metrics.json``."""

    by_name: dict[str, bytes]
    """Plots, card and page."""
    mistakes: pa.Table
    """The columns of ``mistakes.COLUMNS``, but with names of classes. It has no rows if there are
    no texts or ``evaluate.num_examples`` is 0."""


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


def run(plan: EvaluatePlan, output: Output, recorder: Recorder) -> Manifest:
    """Evaluate predictions and render the report; return the manifest.

    Raises:
        UserError: There is no labelled row that the model was not trained on, or a pattern of
            ``evaluate.slices`` matches no text.
        JobError: The prepared data were replaced since the evaluation was planned.
    """
    began = time.monotonic()
    config = plan.config
    spec = plan.spec
    corpus = plan.corpus
    scored_uri = config.evaluate.scored_uri
    with _STEPS.show("read"):
        chosen = choose_model(scored_uri, plan.scored, corpus)  # of all that scored rows
    scored = chosen.scored
    unseen = retries.repeat_after_io_errors(
        lambda: _measure_unseen(config.evaluate, scored_uri, scored, corpus), place=scored_uri
    )
    output.begin()
    model = scored["inputs"]["model"]
    first_training = lineage.training_of(model)  # of an average: of its first model
    own_training = None if "members" in model else first_training  # an average was not trained
    is_corpus_of_training = lineage.is_of_training(scored, first_training)
    folds = None
    if own_training and is_corpus_of_training:
        with _STEPS.show("folds"):
            folds = cross_validation.measure_folds(own_training, scored)
    with _STEPS.show("texts"):
        texts = retries.repeat_after_io_errors(
            lambda: _read_texts(config.evaluate, unseen), place=scored_uri
        )
    load_model = functools.cache(lambda: deciding_words.load_model(scored, config.tracking.uri))
    result = _make_result(
        config, scored, unseen, texts, load_model, folds=folds, notes=chosen.notes
    )
    words = _find_words(config.evaluate, unseen, texts, load_model)
    for note in result.notes:
        say(STAGE, note)
    origin = describe_origin(scored, corpus, own_training, spec)
    with _STEPS.show("draw"):
        rendered = _render(
            config, result, unseen.rows, texts.mistakes, words, scored, own_training, origin
        )
    content = result.to_json() | {"model_versions": chosen.by_version}
    files = dict(rendered.by_name)
    files[METRICS_FILE] = json.dumps(content, indent=2, allow_nan=False).encode()
    tables = {MISTAKES: rendered.mistakes, deciding_words.FILE: words.by_class}
    written = _write_files(output, files, tables)
    seconds = time.monotonic() - began
    first = result.highlights[0]
    say(STAGE, f"{first.number} {first.meaning} ({seconds:.1f} s)")
    if own_training:
        recorder.link_metrics(own_training.get("mlflow_run_id", ""), scored["inputs"]["corpus"])
    registration.log_evaluation(result, files | words.to_files(), recorder, spec)
    registered = None
    if first_training and is_corpus_of_training:
        card = files[manifest.CARD]
        with _STEPS.show("track"):
            registered = registration.register(
                result, scored, first_training, recorder, spec, corpus=corpus.name, card=card
            )
    figures = content["figures"]
    if folds:
        figures = figures | {evaluated_rows.FOLDS: content["cross_validated"]}
    num_rows = sum(each.num_rows for each in result.measured.figures.values())
    return output.publish(
        counts={"rows": num_rows},
        files=written,
        seconds=seconds,
        run=recorder.describe(),
        figures=figures,
        conclusions=content["conclusions"],
        notes=result.notes,
        model_fingerprint=model["fingerprint"],
        registered=registered,
        not_registered=recorder.unregistered,
    )


def _write_files(
    output: Output, files: Mapping[str, bytes], tables: Mapping[str, pa.Table]
) -> list[FileEntry]:
    """Write the files of the evaluation, and the tables that have a row."""
    written = [output.write(name, content) for name, content in files.items()]
    for name, table in tables.items():
        if len(table):
            written.append(output.write(name, parquet.to_bytes(table), rows=len(table)))
    return written


def _find_words(
    settings: EvaluateSettings, unseen: _MeasuredRows, texts: _ReadTexts, load: LoadModel
) -> DecidingWords:
    """Find the words that decide, of the classes and of the mistakes that the page shows."""
    if texts.of_words is None:
        return DecidingWords(deciding_words.SCHEMA.empty_table())
    of_classes, labels = texts.of_words
    shown = mistakes.choose_shown(texts.mistakes, settings.num_examples)
    with _STEPS.show("words"):
        return deciding_words.find(load, of_classes, labels, shown, unseen.measured.classes)


def _make_result(
    config: Config,
    scored: Manifest,
    unseen: _MeasuredRows,
    texts: _ReadTexts,
    load: LoadModel,
    *,
    folds: CrossValidated | None,
    notes: list[str],
) -> EvaluationResult:
    """Check the model, compare it with other models, and choose the highlights.

    Args:
        config: The experiment.
        scored: Manifest of the predictions.
        unseen: The measured rows and their measurements.
        texts: The texts that checks and the baseline take.
        load: Loads the model.
        folds: The figures of cross-validation, if the model was trained with folds.
        notes: Notes of the result that come before the notes of ``unseen``.
    """
    rows = unseen.rows
    measured = unseen.measured
    with _STEPS.show("check"):
        checks = model_checks.check_model(config, scored, texts.checked, load)
    with _STEPS.show("compare"):
        baselines, no_baseline = other_models.measure(texts.of_baseline, scored)
        teacher, no_teacher = other_models.compare_teachers(rows, scored, split=measured.split)
    return EvaluationResult(
        name=config.name,
        measured=measured,
        checks=checks,
        is_unseen=unseen.is_unseen,
        notes=[*notes, *unseen.notes],
        highlights=summarize(measured, checks, baselines, teacher, folds),
        baselines=baselines,
        no_baseline=no_baseline,
        teacher=teacher,
        no_teacher=no_teacher,
        cross_validated=folds,
    )


def _render(
    config: Config,
    result: EvaluationResult,
    rows: pa.Table,
    found: pa.Table,
    words: DecidingWords,
    scored: Manifest,
    trained: Manifest | None,
    origin: Origin,
) -> _Files:
    """Draw the plots, and make the card and the page.

    Args:
        config: The experiment.
        result: The evaluation.
        rows: Rows of the headline split.
        found: The mistakes.
        words: The words that decide.
        scored: Manifest of the predictions.
        trained: Manifest of the training; None if it is gone, or if the model is an average.
        origin: How the predictions came about.
    """
    model = scored["inputs"]["model"]
    curve = to_curve(trained["history"] if trained else [])
    plots = report_charts.render(result.measured, rows, curve)
    files = {f"{PLOTS}/{name}": image for name, image in plots.items()}
    files[manifest.CARD] = model_card.render(model, result, corpus=origin.corpus).encode()
    files[PAGE] = report.render_page(
        result,
        plots,
        rows=rows,
        mistakes=found,
        words=words,
        curve=curve,
        origin=origin,
        num_examples=config.evaluate.num_examples,
    ).encode()
    return _Files(files, mistakes.name_labels(found, result.measured.classes))


def _measure_unseen(
    settings: EvaluateSettings, scored_uri: str, scored: Manifest, corpus: ScoredCorpus
) -> _MeasuredRows:
    """Measure the labelled predictions that the model was not trained on.

    Raises:
        UserError: There are none, or a pattern of ``evaluate.slices`` matches no text.
        JobError: The prepared data were replaced since the evaluation was planned.
    """
    patterns = settings.slices.patterns
    columns = settings.slices.columns
    candidates = evaluated_rows.list_searched(scored, corpus)
    searched = [name for name in candidates if name not in columns]
    with _STEPS.show("read"):
        numbers = compact_rows.read(scored_uri, scored, columns=[*columns, *searched])
        rows, is_unseen, notes = leave_out_training_rows(
            numbers.rows, scored, corpus, numbers.texts
        )
    sources = numbers.sources
    texts = numbers.texts
    del numbers  # so that its rows are freed once they are divided
    classes = evaluated_rows.classes_of(rows)
    if not (rows["label"].to_numpy() < len(classes)).any():
        raise UserError(
            f"{scored_uri} has no labelled row that the model was not trained on",
            hint=f"evaluation needs rows labelled {evaluated_rows.name_any(classes)}",
        )
    rows, notes_on_classes = evaluated_classes.match_classes(rows, scored)
    notes = [*notes, *evaluated_rows.note_unknown_authors(scored), *notes_on_classes]
    by_split = evaluated_rows.divide_by_split(rows)
    del rows
    split = evaluated_rows.headline_split(list(by_split))
    model = scored["inputs"]["model"]
    with _STEPS.show("read"):
        by_split[split], sample = text_traits.describe(
            by_split[split],
            sources,
            settings=model["settings"],
            patterns=patterns,
            searched=searched,
            with_words=settings.num_examples > 0,  # with 0 the report shows nothing of the texts
        )
    for name in list(by_split):  # not before: the sample is drawn by the hashes
        by_split[name] = evaluated_rows.replace_hashes(by_split[name])
    rows = by_split[split]
    slices.check_patterns(rows, patterns)
    pa.default_memory_pool().release_unused()  # what the texts took
    with _STEPS.show("measure"):
        measured = measurements.measure(
            by_split,
            sample,
            model=model,
            patterns=patterns,
            columns=columns,
            searched=searched,
            class_values=lineage.class_values_of(scored),
        )
    if measured.split == "validation":
        is_unseen = False
        notes.append(
            "there is no test split: the validation texts were also used to choose the model, so "
            "expect lower figures on other texts (prepare.split.test_fraction sets texts aside)"
        )
    notes += _note_authors(rows, measured)
    return _MeasuredRows(
        rows=rows, texts=texts, measured=measured, is_unseen=is_unseen, notes=notes
    )


def _read_texts(settings: EvaluateSettings, unseen: _MeasuredRows) -> _ReadTexts:
    """Choose mistakes and other rows whose texts are used, and read these texts."""
    rows = unseen.rows
    no_mistakes = mistakes.COLUMNS.empty_table()
    if unseen.texts is None:
        return _ReadTexts(no_mistakes, checked=None, of_baseline=None, of_words=None)
    of_baseline = other_models.choose_rows(rows)
    of_checks = model_checks.choose_rows(rows)
    wanted = [of_baseline["row_id"].to_numpy(), *of_checks]
    found = None
    for_words = None
    if settings.num_examples:
        found = mistakes.find(rows)
        for_words = deciding_words.choose_rows(rows)
        wanted += [found["row_id"].to_numpy(), for_words.row_ids]
    known = np.unique(np.concatenate(wanted))
    text = unseen.texts.take_texts(known)

    def of(row_ids: np.ndarray) -> pa.Array:
        return text.take(pa.array(np.searchsorted(known, row_ids)))

    shown = no_mistakes
    if found is not None:
        shown = mistakes.add_texts(found, of(found["row_id"].to_numpy()))
    of_words = None
    if for_words is not None:
        of_words = (of(for_words.row_ids), for_words.labels)
    return _ReadTexts(
        mistakes=shown,
        checked=CheckedTexts(
            of_all=of(of_checks.of_all).to_pylist(),
            to_change=of(of_checks.to_change).to_pylist(),
        ),
        of_baseline=of_baseline.append_column("text", of(of_baseline["row_id"].to_numpy())),
        of_words=of_words,
    )


def _note_authors(rows: pa.Table, measured: Measurements) -> list[str]:
    """Say that intervals and tests are by author, or why there is no interval."""
    if AUTHOR not in rows.column_names:
        return []
    texts = measurements.name_texts(measured.split)
    if measured.metrics.no_interval:
        return [f"the {texts} give no interval: {measured.metrics.no_interval}"]
    num_authors = len(pc.unique(rows[AUTHOR]))
    return [f"the {texts} are of {num_authors:,} authors: intervals and tests are by author"]
