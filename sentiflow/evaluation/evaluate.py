"""Predictions -> metrics and a report."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.sections import Config, EvaluateSettings
from sentiflow.data import input_files, manifest
from sentiflow.data.arrow_buffers import one_array
from sentiflow.data.manifest import CARD
from sentiflow.data.manifest_types import Manifest, ModelInput
from sentiflow.data.outputs import Output, OutputSpec
from sentiflow.data.schema import SPLITS
from sentiflow.data.text_hash import hash_texts
from sentiflow.errors import UserError
from sentiflow.evaluation import (
    baselines,
    charts,
    cross_validation,
    evaluated_rows,
    lineage,
    mistakes,
    model_card,
    prediction_files,
    probing,
    registration,
    report,
    results,
    slices,
    teachers,
)
from sentiflow.evaluation.baselines import Baseline
from sentiflow.evaluation.highlights import summarize
from sentiflow.evaluation.results import EvaluationResult, Measurements, ProbeResult
from sentiflow.metrics.registry import METRICS
from sentiflow.plotting import to_curve
from sentiflow.progress import say
from sentiflow.storage import parquet
from sentiflow.tracking import refits
from sentiflow.tracking.recording import Recorder
from sentiflow.tracking.runs import SCORED_FINGERPRINT_TAG, SCORED_TAG

STAGE = "evaluate"
FIGURES, PAGE, MISTAKES, PLOTS = "metrics.json", "report.html", "mistakes.parquet", "plots"
OWNS = (FIGURES, PAGE, CARD, MISTAKES, PLOTS)

REPORT_VERSION = 6
"""Changes whenever the same predictions would give another report."""

_HEADLINES = (
    *(metric.name for metric in METRICS if metric.is_headline),
    "accuracy_low",
    "accuracy_high",
    "expected_calibration_error",
)


def describe_output(config: Config) -> OutputSpec:
    """Describe the output of the evaluation.

    Raises:
        UserError: There are no complete predictions, or they lack a column of
            ``evaluate.slices``, or the model is a refit that was trained on these rows.
    """
    settings = config.evaluate
    record = manifest.require(settings.scored_uri, stage="score", setting="evaluate.scored_uri")
    lineage.refuse_refit(record, name="evaluate.scored_uri")
    evaluated_rows.check_columns(settings.slices.columns, record)
    decisive = settings.model_dump(exclude={"scored_uri", "predictions", "output_uri"})
    decisive["report_version"] = REPORT_VERSION
    inputs = {"scored": manifest.reference(settings.scored_uri, record)}
    if settings.predictions:
        uris = input_files.expand([settings.predictions], setting="evaluate.predictions")
        inputs["predictions"] = input_files.describe(uris)
    return OutputSpec(STAGE, settings.output_uri, decisive, inputs, owns=OWNS)


def run(config: Config, output: Output, recorder: Recorder) -> Manifest:
    """Evaluate predictions and render the report; return the manifest.

    Raises:
        UserError: There is no labelled row that the model was not trained on, or a pattern of
            ``evaluate.slices`` matches no text.
    """
    began = time.monotonic()
    spec = output.spec
    scored = manifest.require(spec.inputs["scored"]["uri"], stage="score", setting="")
    by_model, file = scored, None
    if described := spec.inputs.get("predictions"):
        file = prediction_files.read(described["files"][0]["uri"], scored)
        scored = prediction_files.stand_in(scored, file, described)
    model = scored["inputs"]["model"]
    chosen, measured, is_unseen, notes = _measure(config.evaluate, spec, scored, file)
    output.begin()
    probed = ProbeResult(not_asked=prediction_files.NO_MODEL)
    if file is None:
        probed = probing.probe(config, scored, chosen)
    found_baselines, no_baseline = baselines.measure(chosen, by_model)
    teacher, no_teacher = teachers.compare(
        chosen, scored, split=measured.split, tracking=config.tracking.uri
    )
    trained = lineage.training_of(scored)
    own = trained if trained and _is_own(trained, scored) else None
    folds = cross_validation.measure(own, scored) if own and "members" not in model else None
    highlights = summarize(measured, probed, found_baselines, teacher, folds)
    result = EvaluationResult(
        *(config.name, measured, probed, is_unseen, notes, highlights),
        *(found_baselines, no_baseline, teacher, no_teacher, folds),
    )
    for note in notes:
        say(STAGE, note)
    data = _collect(config, result, chosen, scored, None if "members" in model else trained, spec)
    if file:
        data = replace(data, model=file.about)
    content = result.to_json()
    files = _render(data, content, None if file else model)
    written = [output.write(name, page) for name, page in files.items()]
    table = mistakes.name_labels(data.mistakes, measured.classes)
    if len(table):
        written.append(output.write(MISTAKES, parquet.to_bytes(table), rows=len(table)))
    seconds = time.monotonic() - began
    _track(result, files, recorder, spec)
    _report(measured, found_baselines, teacher, seconds, folds)
    registered = None
    if own:
        text, tags = registration.describe(measured, scored, own, data.corpus)
        run_id = recorder.run_id if "members" in model else own.get("mlflow_run_id", "")
        _track_training(measured, recorder, run_id, spec, text)
        registered = registration.register(
            config.name, scored, run_id, recorder, text=text, tags=tags, card=files[CARD]
        )
    return output.publish(
        counts={"rows": sum(metrics.num_rows for metrics in measured.figures.values())},
        files=written,
        seconds=seconds,
        run=recorder.describe(),
        figures=content["figures"]
        | ({evaluated_rows.FOLDS: content["cross_validated"]} if folds else {}),
        conclusions=content["conclusions"],
        notes=notes,
        model_fingerprint=model["fingerprint"],
        registered=registered,
    )


def _measure(
    settings: EvaluateSettings,
    spec: OutputSpec,
    scored: Manifest,
    file: prediction_files.PredictionFile | None,
) -> tuple[pa.Table, Measurements, bool, list[str]]:
    """Measure the labelled predictions that tell how good the model is.

    Returns:
        The rows of the headline split; what they show; whether it is certain that the model was
        trained on, or chosen by, none of them; and what a reader should know first.
    """
    scored_uri, own = spec.inputs["scored"]["uri"], settings.slices
    searched = [name for name in evaluated_rows.list_searched(scored) if name not in own.columns]
    rows = evaluated_rows.read(scored_uri, scored, columns=[*own.columns, *searched])
    rows, is_unseen, notes = _leave_out_training_rows(rows, scored)
    evaluated_rows.require_labelled(rows, scored_uri)
    rows, others = evaluated_rows.count_others(rows, scored)
    notes += others
    if file:
        split = evaluated_rows.headline_split(pc.unique(rows["split"]).to_pylist())
        rows = prediction_files.put(evaluated_rows.of_split(rows, split), file)
        if not file.has_probabilities:
            notes.append(
                "the file has labels alone: each counts as certain, with a probability of 1"
            )
    measured = results.measure(
        rows,
        model=scored["inputs"]["model"],
        margin=settings.neutral_margin,
        patterns=own.patterns,
        columns=own.columns,
        searched=searched,
        with_words=settings.num_examples > 0,
    )
    if measured.split == SPLITS[1]:
        is_unseen = False
        notes.append(
            "there is no test split: the model was chosen by the validation texts, so expect less "
            "on others (prepare.split.test_fraction sets texts aside)"
        )
    chosen = evaluated_rows.of_split(rows, measured.split)
    slices.check_patterns(chosen, own.patterns)
    return chosen, measured, is_unseen, notes


def _render(
    data: report.ReportData, content: dict[str, Any], model: ModelInput | None
) -> dict[str, bytes]:
    """Write the report, the model card, the metrics and the plots, by the names of their files.

    A file of predictions has no model, and no card.
    """
    plots = charts.render(data.result.measured, data.rows, data.curve)
    card = model_card.render(model, data.result, corpus=data.corpus).encode() if model else b""
    return {
        **{f"{PLOTS}/{name}": image for name, image in plots.items()},
        PAGE: report.render_page(data, plots).encode(),
        **({CARD: card} if model else {}),
        FIGURES: json.dumps(content, indent=2, allow_nan=False).encode(),
    }


def _leave_out_training_rows(rows: pa.Table, scored: Manifest) -> tuple[pa.Table, bool, list[str]]:
    """Leave out rows of the training and validation splits, where predictions have no split.

    Returns:
        The other rows; whether it is certain that the model was trained on none of them; notes.
    """
    try:
        seen = lineage.find_training_rows(scored, name="the model", by_splits=False)
    except UserError as error:
        if "refit" in scored["inputs"]["model"]:
            raise
        return rows, False, [f"the metrics are too optimistic: {error}"]
    unseen = rows.filter(~np.isin(rows["row_id"].to_numpy(), seen.row_ids))
    count, notes = len(rows) - len(unseen), list[str]()
    if known := scored["inputs"]["model"].get("refit"):
        notes.append(refits.describe(known))
    if count:
        notes.append(f"{count:,} rows are left out: the model was trained or chosen by them")
    if not seen.is_known:
        notes.append("it is unknown whether the model was trained on some of the rows")
    if lineage.given_test_files_of(scored) and "text" in unseen.column_names:
        known_texts, rows = lineage.find_earlier_texts(scored), unseen
        unseen = rows.filter(~np.isin(hash_texts(one_array(rows["text"])), known_texts))
        if count := len(rows) - len(unseen):
            notes.append(f"{count:,} rows are left out: an earlier model learned their texts")
    return unseen, seen.is_known, notes


def _is_own(trained: Manifest, scored: Manifest) -> bool:
    """Say whether the scored corpus is the one that the model was trained on."""
    corpus = scored["inputs"]["corpus"]["fingerprint"]
    return bool(trained["inputs"]["prepared"]["fingerprint"] == corpus)


def _collect(
    config: Config,
    result: EvaluationResult,
    rows: pa.Table,
    scored: Manifest,
    trained: Manifest | None,
    spec: OutputSpec,
) -> report.ReportData:
    prepared = lineage.corpus_of(scored)
    return report.ReportData(
        created=datetime.now(UTC).replace(microsecond=0),
        result=result,
        mistakes=mistakes.find(rows)
        if config.evaluate.num_examples and "text" in rows.column_names
        else mistakes.COLUMNS.empty_table(),
        num_examples=config.evaluate.num_examples,
        rows=rows,
        curve=to_curve(trained["history"] if trained else []),
        counts=_count_rows(prepared, scored),
        settings={
            record["stage"]: record["settings"] for record in (prepared, trained, scored) if record
        }
        | {STAGE: spec.settings},
        lineage=_describe_lineage(prepared, scored, spec),
        versions=scored["versions"],
        model=lineage.describe_model(scored["inputs"]["model"]["settings"]),
        corpus=lineage.name_corpus(scored),
    )


def _count_rows(prepared: Manifest | None, scored: Manifest) -> dict[str, int]:
    counts = (prepared or scored)["counts"]
    return {
        "rows read": counts["rows_read"],
        "accepted": counts["accepted"],
        "rejected": counts["rejected"],
        "scored": scored["counts"]["accepted"],
        "scored without a known word": scored["counts"]["prior_only"],
    }


def _describe_lineage(
    prepared: Manifest | None, scored: Manifest, spec: OutputSpec
) -> list[tuple[str, str, str]]:
    corpus, model = scored["inputs"]["corpus"], scored["inputs"]["model"]
    files = prepared["inputs"]["csv"]["files"] if prepared else corpus.get("files", ())
    origins = [("input file", item["uri"], item["tree_sha256"][:16]) for item in files]
    if prepared:
        for name in ("corrections", "unlabelled"):
            further = prepared["inputs"].get(name, {}).get("files", ())
            origins += [(name, item["uri"], item["tree_sha256"][:16]) for item in further]
        origins.append(("prepared data", corpus["uri"], corpus["fingerprint"]))
    origins += [
        ("averaged model", each["uri"], each["fingerprint"]) for each in model.get("members", ())
    ]
    origins.append(("model", model["uri"], model["fingerprint"]))
    scored_input = spec.inputs["scored"]
    return [*origins, ("predictions", scored_input["uri"], scored_input["fingerprint"])]


def _track(
    result: EvaluationResult, files: dict[str, bytes], recorder: Recorder, spec: OutputSpec
) -> None:
    """Log the metrics, those of the headline first, and the report."""
    measured = result.measured
    for split in sorted(measured.figures, key=lambda name: name != measured.split):
        metrics = measured.figures[split].scalars
        names = [*_HEADLINES, *metrics]
        recorder.log_metrics({f"{split}/{name}": metrics.get(name) for name in names})
    if folds := result.cross_validated:
        names = [f"{evaluated_rows.FOLDS}/{name}" for name in folds.metrics.scalars]
        recorder.log_metrics(dict(zip(names, folds.metrics.scalars.values(), strict=True)))
    recorder.log_metrics(
        {  # a metric for each test would make thirty charts in MLflow
            f"behavior/{kind.replace(' ', '_')}": fmean(test.pass_rate for test in tests)
            for kind, tests in groupby(result.probed.behavior, lambda test: test.kind)
        }
        | {f"bias/{bias.category}_spread": bias.spread for bias in result.probed.group_bias}
        | (result.teacher.to_metrics() if result.teacher else {})
    )
    recorder.log_files(files)
    lines = (f"- **{number}** {meaning}" for number, meaning, _ in result.highlights)
    if "predictions" not in spec.inputs:
        recorder.set_tags(_tag_predictions(spec))
    recorder.set_note("\n".join(lines))


def _track_training(
    measured: Measurements, recorder: Recorder, run_id: str, spec: OutputSpec, note: str
) -> None:
    """Log the headlines to the run of the training, or of an average, and describe it.

    That is only done if the corpus is the one that it was trained on: the metrics of another corpus
    would be mistaken for its test metrics.
    """
    training_run = recorder.of_run(run_id)
    training_run.log_metrics(
        {f"{measured.split}/{name}": getattr(measured.metrics, name) for name in _HEADLINES}
    )
    training_run.set_tags(_tag_predictions(spec))
    training_run.set_note(note, report_of=recorder)


def _tag_predictions(spec: OutputSpec) -> dict[str, str]:
    """Say by tags which predictions were evaluated."""
    scored = spec.inputs["scored"]
    return {SCORED_TAG: scored["uri"], SCORED_FINGERPRINT_TAG: scored["fingerprint"]}


def _report(
    measured: Measurements,
    found_baselines: Sequence[Baseline],
    teacher: teachers.TeacherComparison | None,
    seconds: float,
    folds: cross_validation.CrossValidated | None,
) -> None:
    if folds:
        found = folds.metrics
        ends = f"{found.accuracy_low:.4f} to {found.accuracy_high:.4f}"
        say(STAGE, f"{folds.origin}: accuracy {found.accuracy:.4f} (95 % interval {ends})")
    metrics = measured.metrics
    name = "" if measured.split == evaluated_rows.WHOLE else f"{measured.split} "
    f1 = "" if measured.is_binary else f", macro F1 {metrics.f1_macro:.4f}"
    say(
        STAGE,
        f"{name}accuracy {metrics.accuracy:.4f} "
        f"(95 % interval {metrics.accuracy_low:.4f} to {metrics.accuracy_high:.4f}){f1} "
        f"on {metrics.num_rows:,} rows ({seconds:.1f} s)",
    )
    for baseline in found_baselines:
        say(
            STAGE,
            f"{baseline.name}, {baseline.training}, has an accuracy of {baseline.accuracy:.4f}: "
            f"{baseline.verdict.replace('95%', '95 %')}",
        )
    if teacher:
        verdict = teacher.verdict.replace("95%", "95 %")
        say(STAGE, f"{teacher.agreement:.1%} {teachers.AGREES}{teacher.name}: {verdict}")
