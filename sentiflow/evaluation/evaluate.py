"""Scored directory -> the directory of its evaluation: ``metrics.json``, a page, a model card."""

import functools
import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from sentiflow.config.sections import Config, EvaluateSettings
from sentiflow.data import lineage, manifest
from sentiflow.data.manifest_types import Manifest, ModelInput
from sentiflow.data.outputs import Output
from sentiflow.evaluation import (
    baselines,
    compared_teachers,
    cross_validation,
    deciding_words,
    evaluated_model,
    evaluated_rows,
    mistakes,
    model_card,
    model_checks,
    registration,
    report,
    report_charts,
    used_texts,
)
from sentiflow.evaluation.chosen_model import choose_model
from sentiflow.evaluation.cross_validation import CrossValidated
from sentiflow.evaluation.deciding_words import DecidingWords
from sentiflow.evaluation.evaluate_plan import STAGE, STEPS, EvaluatePlan
from sentiflow.evaluation.evaluate_plan import resolve as resolve  # the stage is planned by it
from sentiflow.evaluation.evaluated_model import LoadModel
from sentiflow.evaluation.highlights import summarize
from sentiflow.evaluation.measured_rows import MeasuredRows, measure_unseen
from sentiflow.evaluation.origin import Origin, describe_origin
from sentiflow.evaluation.result import EvaluationResult
from sentiflow.evaluation.used_texts import UsedTexts
from sentiflow.plotting import to_curve
from sentiflow.progress import say
from sentiflow.storage import parquet, retries
from sentiflow.tracking.recorder import Recorder

METRICS_FILE = "metrics.json"
PAGE = "report.html"
MISTAKES = "mistakes.parquet"
PLOTS = "plots"


class _Training(NamedTuple):
    """The training of the evaluated model."""

    first: Manifest | None
    """Its manifest; of an average, of its first model. None if it is gone or was redone."""
    own: Manifest | None
    """The same; None also for an average, which was not trained."""
    has_corpus: bool
    """Whether the scored corpus is its prepared data."""


def run(plan: EvaluatePlan, output: Output, recorder: Recorder) -> Manifest:
    """Evaluate predictions and render the report; return the manifest.

    Raises:
        UserError: There is no labelled row that the model was not trained on, or a pattern of
            ``evaluate.slices`` matches no text.
        JobError: The prepared data were replaced since the evaluation was planned.
    """
    began = time.monotonic()
    config = plan.config
    corpus = plan.corpus
    scored_uri = config.evaluate.scored_uri
    with STEPS.show("read"):
        chosen = choose_model(scored_uri, plan.scored, corpus)  # of all that scored rows
    scored = chosen.scored
    unseen = retries.repeat_after_io_errors(
        lambda: measure_unseen(config.evaluate, scored_uri, scored, corpus), place=scored_uri
    )
    output.begin()
    training = _find_training(scored)
    folds = _measure_folds(training, scored)
    with STEPS.show("texts"):
        texts = retries.repeat_after_io_errors(
            lambda: used_texts.read(config.evaluate, unseen), place=scored_uri
        )
    load_model = functools.cache(lambda: evaluated_model.load(scored, config.tracking.uri))
    result = _make_result(
        config, scored, unseen, texts, load_model, folds=folds, notes=chosen.notes
    )
    words = _find_words(config.evaluate, unseen, texts, load_model)
    for note in result.notes:
        say(STAGE, note)
    origin = describe_origin(scored, corpus, training.own, plan.spec)
    with STEPS.show("draw"):
        files = _render(
            result,
            scored["inputs"]["model"],
            rows=unseen.rows,
            found=texts.mistakes,
            words=words,
            training=training,
            origin=origin,
            num_examples=config.evaluate.num_examples,
        )
    content = result.to_json() | {"model_versions": chosen.by_version}
    files[METRICS_FILE] = json.dumps(content, indent=2, allow_nan=False).encode()
    num_rows_of = {}
    words_by_class = words.of_classes.table
    if len(words_by_class):
        files[deciding_words.FILE] = parquet.to_bytes(words_by_class)
        num_rows_of[deciding_words.FILE] = len(words_by_class)
    written = [output.write(name, file, rows=num_rows_of.get(name)) for name, file in files.items()]
    # The table of mistakes is not for MLflow, which gets the few texts that the page shows.
    named = mistakes.name_labels(texts.mistakes, unseen.measured.classes)
    if len(named):
        written.append(output.write(MISTAKES, parquet.to_bytes(named), rows=len(named)))
    seconds = time.monotonic() - began
    first = result.highlights[0]
    say(STAGE, f"{first.number} {first.meaning} ({seconds:.1f} s)")
    registered = _record(plan, result, scored, training, recorder, files=files)
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
        model_fingerprint=scored["inputs"]["model"]["fingerprint"],
        registered=registered,
        not_registered=recorder.unregistered,
    )


def _find_training(scored: Manifest) -> _Training:
    """Find the training of the model that scored the rows."""
    model = scored["inputs"]["model"]
    first = lineage.training_of(model)
    return _Training(
        first=first,
        own=None if "members" in model else first,
        has_corpus=lineage.is_of_training(scored, first),
    )


def _measure_folds(training: _Training, scored: Manifest) -> CrossValidated | None:
    """Measure the cross-validation of the training, if it had one, on its own data."""
    if training.own is None or not training.has_corpus:
        return None
    with STEPS.show("folds"):
        return cross_validation.measure_folds(training.own, scored)


def _find_words(
    settings: EvaluateSettings, unseen: MeasuredRows, texts: UsedTexts, load: LoadModel
) -> DecidingWords:
    """Find the words that decide, of the classes and of the mistakes that the page shows."""
    if texts.of_words is None:
        return DecidingWords(deciding_words.NO_WORDS)
    text, labels = texts.of_words
    shown = mistakes.choose_shown(texts.mistakes, settings.num_examples)
    with STEPS.show("words"):
        return deciding_words.find(load, text, labels, shown, unseen.measured.classes)


def _make_result(
    config: Config,
    scored: Manifest,
    unseen: MeasuredRows,
    texts: UsedTexts,
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
    with STEPS.show("check"):
        checks = model_checks.check_model(config, scored, texts.checked, load)
    with STEPS.show("compare"):
        simple, no_baseline = baselines.measure(texts.of_baseline, scored)
        teacher, no_teacher = compared_teachers.compare(rows, scored, split=measured.split)
    return EvaluationResult(
        name=config.name,
        measured=measured,
        checks=checks,
        is_unseen=unseen.is_unseen,
        notes=[*notes, *unseen.notes],
        highlights=summarize(measured, checks, simple, teacher, folds),
        baselines=simple,
        no_baseline=no_baseline,
        teacher=teacher,
        no_teacher=no_teacher,
        cross_validated=folds,
    )


def _render(
    result: EvaluationResult,
    model: ModelInput,
    *,
    rows: pa.Table,
    found: pa.Table,
    words: DecidingWords,
    training: _Training,
    origin: Origin,
    num_examples: int,
) -> dict[str, bytes]:
    """Draw the plots, and make the card and the page; return them by name.

    Args:
        result: The evaluation.
        model: The evaluated model.
        rows: Rows of the headline split.
        found: The mistakes.
        words: The words that decide.
        training: The training of the model.
        origin: How the predictions came about.
        num_examples: Mistakes of each kind to show.
    """
    curve = to_curve(training.own["history"] if training.own else [])
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
        num_examples=num_examples,
    ).encode()
    return files


def _record(
    plan: EvaluatePlan,
    result: EvaluationResult,
    scored: Manifest,
    training: _Training,
    recorder: Recorder,
    *,
    files: Mapping[str, bytes],
) -> dict[str, Any] | None:
    """Log the evaluation to MLflow, and register the model if this stage does so.

    Args:
        plan: The evaluation.
        result: What it has found.
        scored: Manifest of the predictions.
        training: The training of the model.
        recorder: The run of the evaluation.
        files: The files that the evaluation has written, by name.

    Returns:
        Name and version for the manifest; None if the model was not registered.
    """
    if training.own:
        recorder.link_metrics(training.own.get("mlflow_run_id", ""), scored["inputs"]["corpus"])
    registration.log_evaluation(result, files, recorder, plan.spec)
    if training.first is None or not training.has_corpus:
        return None
    with STEPS.show("track"):
        return registration.register(
            result,
            scored,
            training.first,
            recorder,
            plan.spec,
            corpus=plan.corpus.name,
            card=files[manifest.CARD],
        )
