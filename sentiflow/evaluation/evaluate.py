"""Predictions -> metrics and a report."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from sentiflow.config.sections import Config, EvaluateSettings
from sentiflow.data import lineage, manifest
from sentiflow.data.arrays import hash_texts, one_array
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.outputs import Output, OutputSpec
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError, rows_are
from sentiflow.evaluation import (
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
)
from sentiflow.evaluation.highlights import summarize
from sentiflow.metrics import classification
from sentiflow.plotting import to_curve
from sentiflow.progress import say
from sentiflow.storage import parquet
from sentiflow.tracking import refits, training_rows
from sentiflow.tracking.recording import Recorder

STAGE = "evaluate"
FIGURES, PAGE, MISTAKES, PLOTS = "metrics.json", "report.html", "mistakes.parquet", "plots"
OWNS = (FIGURES, PAGE, manifest.CARD, MISTAKES, PLOTS)

REPORT_VERSION = 14
"""Changes whenever the same predictions would give another report."""


def describe_output(config: Config) -> OutputSpec:
    """Describe the output of the evaluation.

    Raises:
        UserError: There are no complete predictions, or they lack a column of
            ``evaluate.slices``, or the model is a refit that was trained on these rows.
    """
    settings = config.evaluate
    record = manifest.require(settings.scored_uri, stage="score", setting="evaluate.scored_uri")
    training_rows.refuse_refit(record, name="evaluate.scored_uri")
    evaluated_rows.check_columns(settings.slices.columns, record)
    decisive = {
        **settings.model_dump(exclude={"scored_uri", "output_uri"}),
        "report_version": REPORT_VERSION,
    }
    scored = manifest.reference(settings.scored_uri, record)
    return OutputSpec(STAGE, settings.output_uri, decisive, {"scored": scored}, owns=OWNS)


def run(config: Config, output: Output, recorder: Recorder) -> Manifest:
    """Evaluate predictions and render the report; return the manifest.

    Raises:
        UserError: There is no labelled row that the model was not trained on, or a pattern of
            ``evaluate.slices`` matches no text.
    """
    began = time.monotonic()
    spec = output.spec
    scored = manifest.require(spec.inputs["scored"]["uri"], stage="score", setting="")
    by_version, of_versions = dict[str, Any](), list[str]()
    if len(lineage.models_of(scored)) > 1:
        scored, by_version, of_versions = _choose_model(spec.inputs["scored"]["uri"], scored)
    rows, measured, is_unseen, notes = _measure(config.evaluate, spec, scored)
    output.begin()
    model = scored["inputs"]["model"]
    trained = lineage.training_of(model)
    of_one = None if "members" in model else trained
    is_prepared = lineage.is_of_training(scored, trained)
    folds = measurements.measure_folds(of_one, scored) if of_one and is_prepared else None
    result = _compare(config, scored, rows, measured, folds, is_unseen, [*of_versions, *notes])
    for note in result.notes:
        say(STAGE, note)
    files, worst = _render(config, result, rows, scored, of_one, spec)
    content = result.to_json() | {"model_versions": by_version}
    files[FIGURES] = json.dumps(content, indent=2, allow_nan=False).encode()
    written = [output.write(name, each) for name, each in files.items()]
    if len(worst):
        written.append(output.write(MISTAKES, parquet.to_bytes(worst), rows=len(worst)))
    seconds = time.monotonic() - began
    say(STAGE, f"{result.highlights[0].number} {result.highlights[0].meaning} ({seconds:.1f} s)")
    if of_one:
        recorder.measure(of_one.get("mlflow_run_id", ""), scored["inputs"]["corpus"])
    registration.track(result, files, recorder, spec)
    registered = None
    if trained and is_prepared:
        registered = registration.register(
            result, scored, trained, recorder, spec, files[manifest.CARD]
        )
    return output.publish(
        counts={"rows": sum(metrics.num_rows for metrics in measured.figures.values())},
        files=written,
        seconds=seconds,
        run=recorder.describe(),
        figures=content["figures"]
        | ({evaluated_rows.FOLDS: content["cross_validated"]} if folds else {}),
        conclusions=content["conclusions"],
        notes=result.notes,
        model_fingerprint=model["fingerprint"],
        registered=registered,
    )


def _compare(
    config: Config,
    scored: Manifest,
    rows: pa.Table,
    measured: measurements.Measurements,
    folds: measurements.CrossValidated | None,
    is_unseen: bool,
    notes: list[str],
) -> measurements.EvaluationResult:
    """Add to what was measured: checks of the model, other models, and what to remember."""
    probed = model_checks.check_model(config, scored, rows)
    baselines, no_baseline = other_models.measure(rows, scored)
    teacher, no_teacher = other_models.compare_teachers(rows, scored, split=measured.split)
    highlights = summarize(measured, probed, baselines, teacher, folds)
    return measurements.EvaluationResult(
        *(config.name, measured, probed, is_unseen, notes, highlights),
        *(baselines, no_baseline, teacher, no_teacher, folds),
    )


def _render(
    config: Config,
    result: measurements.EvaluationResult,
    rows: pa.Table,
    scored: Manifest,
    trained: Manifest | None,
    spec: OutputSpec,
) -> tuple[dict[str, bytes], pa.Table]:
    """Draw the plots, write card and page; return them by name, and the mistakes."""
    num_examples, worst = config.evaluate.num_examples, mistakes.COLUMNS.empty_table()
    if num_examples and "text" in rows.column_names:
        worst = mistakes.find(rows)
    model, corpus = scored["inputs"]["model"], lineage.name_corpus(scored)
    curve = to_curve(trained["history"] if trained else [])
    plots = report_charts.render(result.measured, rows, curve)
    files = {f"{PLOTS}/{name}": image for name, image in plots.items()}
    files[manifest.CARD] = model_card.render(model, result, corpus=corpus).encode()
    files[PAGE] = report.render_page(
        result,
        plots,
        rows=rows,
        mistakes=worst,
        curve=curve,
        created=datetime.now(UTC).replace(microsecond=0),
        num_examples=num_examples,
        model=lineage.describe_model(model["settings"]),
        corpus=corpus,
        **_describe_origin(scored, trained, spec),
    ).encode()
    return files, mistakes.name_labels(worst, result.measured.classes)


def _measure(
    settings: EvaluateSettings, spec: OutputSpec, scored: Manifest
) -> tuple[pa.Table, measurements.Measurements, bool, list[str]]:
    """Measure the labelled predictions that tell how good the model is.

    Returns:
        The rows of the headline split; what they show; whether it is certain that the model was
        trained on, or chosen by, none of them; and what a reader should know first.
    """
    scored_uri, named = spec.inputs["scored"]["uri"], settings.slices
    searched = [name for name in evaluated_rows.list_searched(scored) if name not in named.columns]
    rows = evaluated_rows.read(scored_uri, scored, columns=[*named.columns, *searched])
    rows, is_unseen, notes = _leave_out_training_rows(rows, scored)
    classes = evaluated_rows.classes_of(rows)
    if not len(rows.filter(evaluated_rows.is_of(classes))):
        raise UserError(
            f"{scored_uri} has no labelled row that the model was not trained on",
            hint=f"evaluation needs rows labelled {evaluated_rows.name_any(classes)}",
        )
    rows, others = evaluated_rows.count_others(rows, scored)
    notes += others
    measured = measurements.measure(
        rows,
        model=scored["inputs"]["model"],
        patterns=named.patterns,
        columns=named.columns,
        searched=searched,
        with_words=settings.num_examples > 0,
    )
    if measured.split == SPLITS[1]:
        is_unseen = False
        notes.append(
            "there is no test split: the validation texts were also used to choose the model, so "
            "expect lower figures on other texts (prepare.split.test_fraction sets texts aside)"
        )
    chosen = evaluated_rows.of_split(rows, measured.split)
    slices.check_patterns(chosen, named.patterns)
    return chosen, measured, is_unseen, notes


def _choose_model(uri: str, scored: Manifest) -> tuple[Manifest, dict[str, Any], list[str]]:
    """Measure each of several models on the rows that it has scored; the report is about one.

    Returns:
        The predictions of the newest model with labelled rows; rows and metrics by version; notes.
    """
    measured, found, notes = dict[str, Any](), list[Manifest](), list[str]()
    for version in lineage.models_of(scored):
        one = lineage.of_version(scored, version)
        rows = _leave_out_training_rows(evaluated_rows.read(uri, one), one)[0]
        rows = evaluated_rows.count_others(rows, one)[0]
        rows = rows.filter(evaluated_rows.is_of(evaluated_rows.classes_of(rows)))
        measured[version] = {"rows": sum(each["rows"] for each in one["scorings"])}
        line = f"model version {version}: {measured[version]['rows']:,} rows scored, "
        if len(rows):
            metrics = classification.measure(evaluated_rows.predicted_of(rows))
            measured[version] |= metrics.to_json()
            found.append(one)
            interval = f"95% interval {metrics.accuracy_low:.1%} to {metrics.accuracy_high:.1%}"
            line += f"{metrics.accuracy:.1%} of {len(rows):,} labelled ones are right ({interval})"
        notes.append(line if len(rows) else f"{line}none with a label that it was not trained on")
    chosen = [*found, scored][0]
    notes.append(f"the report is about model version {next(iter(lineage.models_of(chosen)))}")
    return chosen, measured, notes


def _leave_out_training_rows(rows: pa.Table, scored: Manifest) -> tuple[pa.Table, bool, list[str]]:
    """Leave out rows of the training and validation splits, where predictions have no split.

    Of given test rows, and where there are predictions of several models, by their texts, too.

    Returns:
        The other rows; whether it is certain that the model was trained on none of them; notes.
    """
    several, has_text = lineage.is_one_of_several(scored), "text" in rows.column_names
    try:
        seen, is_known = training_rows.find_row_ids(scored, name="the model", by_splits=False)
    except UserError as error:
        if not several or not has_text:
            if "refit" in scored["inputs"]["model"]:
                raise
            return rows, False, [f"the metrics are too optimistic: {error}"]
        _, are_known = training_rows.find_texts([scored["inputs"]["model"]])
        seen, is_known = np.empty(0, np.int64), all(are_known)
    unseen = rows.filter(~np.isin(rows["row_id"].to_numpy(), seen))
    count, notes = len(rows) - len(unseen), list[str]()
    if refit := scored["inputs"]["model"].get("refit"):
        notes.append(refits.describe(refit))
    if count:
        notes.append(f"{rows_are(count)} left out: they were used to train or choose the model")
    if not is_known:
        notes.append("it is unknown whether the model was trained on some of the rows")
    if has_text and (several or lineage.given_test_files_of(scored)):
        model, corpus = scored["inputs"]["model"], scored["inputs"]["corpus"]
        learned, _ = training_rows.find_texts([model], other_than=corpus["fingerprint"])
        is_learned = np.isin(hash_texts(one_array(unseen["text"])), learned)
        unseen = unseen.filter(~is_learned)
        name = "the model has" if several else "an earlier model"
        if count := int(is_learned.sum()):
            notes.append(f"{rows_are(count)} left out: {name} learned their texts")
    return unseen, is_known, notes


def _describe_origin(
    scored: Manifest, trained: Manifest | None, spec: OutputSpec
) -> dict[str, Any]:
    """Describe for the report how the predictions came about: rows, settings, inputs, versions."""
    prepared = lineage.corpus_of(scored)
    counts = (prepared or scored)["counts"]
    records = [record for record in (prepared, trained, scored) if record]
    rows = {
        "rows read": counts["rows_read"],
        "accepted": counts["accepted"],
        "rejected": counts["rejected"],
        "scored": scored["counts"]["accepted"],
        "scored without a known word": scored["counts"]["prior_only"],
    }
    if counts.get("encoded_cut"):
        rows["cut at the maximum length"] = counts["encoded_cut"]
    return {
        "counts": rows,
        "settings": {record["stage"]: record["settings"] for record in records}
        | {STAGE: spec.settings},
        "lineage": _describe_lineage(prepared, scored, spec),
        "versions": scored["versions"],
    }


def _describe_lineage(
    prepared: Manifest | None, scored: Manifest, spec: OutputSpec
) -> list[tuple[str, str, str]]:
    corpus, model = scored["inputs"]["corpus"], scored["inputs"]["model"]
    inputs = prepared["inputs"] if prepared else {"csv": corpus}
    files = [
        (title, item["uri"], item["tree_sha256"][:16])
        for name, title in (("csv", "input file"), *((n, n) for n in ("corrections", "unlabelled")))
        for item in inputs.get(name, {}).get("files", ())
    ]
    made = [
        *([("prepared data", corpus)] if prepared else []),
        *(("averaged model", each) for each in model.get("members", ())),
        *(("model", model), ("predictions", spec.inputs["scored"])),
    ]
    return [*files, *((title, each["uri"], each["fingerprint"]) for title, each in made)]
