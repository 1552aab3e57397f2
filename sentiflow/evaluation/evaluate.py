"""Predictions -> figures and a report."""

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.sections import Config
from sentiflow.data import manifest
from sentiflow.data.manifest import OutputSpec
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import (
    charts,
    evaluated_rows,
    highlights,
    mistakes,
    probing,
    report,
    results,
    training_rows,
)
from sentiflow.evaluation.results import Findings
from sentiflow.progress import say
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join
from sentiflow.tracking.recording import SCORED_FINGERPRINT_TAG, SCORED_TAG, Recorder

STAGE = "evaluate"
METRICS, PAGE, MISTAKES, PLOTS = "metrics.json", "report.html", "mistakes.parquet", "plots"
OWNS = (METRICS, PAGE, MISTAKES, PLOTS)

REPORT_VERSION = 2
"""Changes whenever the same predictions would get another report."""

_HEADLINES = (
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "f1_macro",
    "roc_auc",
    "log_loss",
    "brier",
    "expected_calibration_error",
)


def describe_output(config: Config) -> OutputSpec:
    """Say what the evaluation would make.

    Raises:
        UserError: The predictions are not there, or not complete.
    """
    settings = config.evaluate
    record = manifest.require(settings.scored_uri, stage="score", setting="evaluate.scored_uri")
    decisive = settings.model_dump(exclude={"scored_uri", "output_uri"})
    decisive["report_version"] = REPORT_VERSION
    inputs = {"scored": manifest.reference(settings.scored_uri, record)}
    return OutputSpec(STAGE, settings.output_uri, decisive, inputs, owns=OWNS)


def run(config: Config, recorder: Recorder, *, overwrite: bool) -> dict[str, Any]:
    """Evaluate predictions and render the report; returns the manifest.

    Raises:
        UserError: No row that the model was not trained on has a label to compare with.
    """
    began = time.monotonic()
    target, settings = describe_output(config), config.evaluate
    scored = manifest.require(target.inputs["scored"]["uri"], stage="score", setting="")
    rows = evaluated_rows.read(target.inputs["scored"]["uri"], scored)
    rows, seen = _leave_out_seen(rows, scored)
    evaluated_rows.require_labelled(rows, target.inputs["scored"]["uri"])
    manifest.begin(target, overwrite=overwrite)
    found: Findings = {"name": config.name} | results.measure(
        rows,
        model=_describe_model(scored),
        margin=settings.neutral_margin,
        patterns=settings.slices,
    )
    chosen = evaluated_rows.of_split(rows, found["split"])
    found |= seen | probing.ask(config, scored, chosen)
    found["notes"] = [*seen["notes"], *_find_unmatched(found, settings.slices)]
    found["conclusions"] = highlights.draw(found)
    for note in found["notes"]:
        say(STAGE, note)
    trained: Any = evaluated_rows.training_of(scored) or {}
    data = _collect(config, found, chosen, scored, trained, target)
    files = _render(data)
    for name, content in files.items():
        filesystem.write_bytes(join(target.uri, name), content)
    tables = filesystem.write_part(target.uri, MISTAKES, data.mistakes)
    seconds = time.monotonic() - began
    own = trained if _is_own(trained, scored) else {}
    _track(found, files, recorder, own, target)
    _report(found, seconds)
    return manifest.publish(
        target,
        counts={"rows": sum(values["num_rows"] for values in found["figures"].values())},
        files=[
            *({"path": name, "rows": None, "bytes": len(files[name])} for name in files),
            *tables,
        ],
        seconds=seconds,
        figures=found["figures"],
        conclusions=found["conclusions"],
        notes=found["notes"],
    )


def headline(figures: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Choose the split that speaks for the model, and its figures."""
    name = evaluated_rows.headline_split(list(figures))
    return name, figures[name]


def _describe_model(scored: Manifest) -> dict[str, Any]:
    """Tell of the model what its predictions do, or else, if they are older, its package."""
    model: dict[str, Any] = scored["inputs"]["model"]
    if model.get("settings"):
        return model
    package = manifest.read_input(scored["inputs"], "model") or {}
    return model | {name: package.get(name) for name in ("settings", "calibration")}


def _leave_out_seen(rows: pa.Table, scored: Manifest) -> tuple[pa.Table, Findings]:
    """Leave out rows that the model was made by, as far as no split tells them, and say so.

    Returns:
        The others; ``is_unseen``, whether it has seen none of them for sure; and ``notes``.
    """
    try:
        seen = training_rows.find(scored, name="the model", by_splits=False)
    except UserError as error:
        note = f"the figures flatter the model: {error}"
        return rows, {"is_unseen": False, "notes": [note]}
    fresh = rows.filter(~np.isin(rows["row_id"].to_numpy(), seen.row_ids))
    count, notes = len(rows) - len(fresh), []
    if count:
        notes.append(f"{count:,} rows are left out: the model was made by them")
    if not seen.is_known:
        notes.append("the model's training is gone: whether it has seen the rows is not known")
    return fresh, {"is_unseen": seen.is_known, "notes": notes}


def _find_unmatched(found: Findings, patterns: Mapping[str, str]) -> list[str]:
    """Say which of a user's slices have no text."""
    names = {item["name"] for item in found["slices"]}
    if patterns and not names:
        return ["slices of your own need the texts: score with score.keep_columns=[text]"]
    return [f"no text is in the slice {name}" for name in patterns if name not in names]


def _is_own(trained: dict[str, Any], scored: Manifest) -> bool:
    """Say whether the scored corpus is the one whose rows the training put aside."""
    corpus = scored["inputs"]["corpus"]["fingerprint"]
    return bool(trained) and trained["inputs"]["prepared"]["fingerprint"] == corpus


def _collect(
    config: Config,
    found: Findings,
    rows: pa.Table,
    scored: Manifest,
    trained: dict[str, Any],
    target: OutputSpec,
) -> report.ReportData:
    prepared = evaluated_rows.corpus_of(scored)
    return report.ReportData(
        name=config.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        findings=found,
        mistakes=_find_mistakes(rows, config.evaluate.num_examples),
        num_examples=config.evaluate.num_examples,
        rows=rows,
        curve=_read_curve(trained["history"]) if trained else None,
        counts=_count_rows(prepared, scored),
        settings=_settings(prepared, trained, scored) | {STAGE: target.settings},
        lineage=_lineage(prepared, scored, target),
        versions=scored["versions"],
    )


def _find_mistakes(rows: pa.Table, num_examples: int) -> pa.Table:
    """Choose the mistakes to read; none where the texts are not at hand, or not to be shown."""
    if "text" not in rows.column_names or not num_examples:
        return mistakes.COLUMNS.empty_table()
    names = ("row_id", "label", "probability", "prediction")
    columns = {name: rows[name].to_numpy() for name in names}
    return mistakes.find(text=rows["text"].combine_chunks(), **columns)


def _read_curve(history: list[dict[str, Any]]) -> pd.DataFrame:
    """Lay out the figures by epoch; what was not measured is NaN."""
    curve = pd.DataFrame(history).drop(columns="ended", errors="ignore")
    return curve.astype(float).astype({"epoch": int})


def _count_rows(prepared: Manifest, scored: Manifest) -> dict[str, int]:
    counts = prepared.get("counts") or scored["counts"]
    return {
        "rows read": counts["rows_read"],
        "accepted": counts["accepted"],
        "rejected": counts["rejected"],
        "scored": scored["counts"]["accepted"],
        "scored with the prior only": scored["counts"]["prior_only"],
    }


def _settings(*records: dict[str, Any]) -> dict[str, Any]:
    return {record["stage"]: record["settings"] for record in records if record}


def _lineage(
    prepared: Manifest, scored: Manifest, target: OutputSpec
) -> list[tuple[str, str, str]]:
    corpus, model = scored["inputs"]["corpus"], scored["inputs"]["model"]
    files = prepared["inputs"]["csv"]["files"] if prepared else corpus.get("files", ())
    lineage = [("input file", item["uri"], item["tree_sha256"][:16]) for item in files]
    if prepared:
        lineage.append(("prepared data", corpus["uri"], corpus["fingerprint"]))
    lineage.append(("model", model["uri"], model["fingerprint"]))
    scored_input = target.inputs["scored"]
    return [*lineage, ("predictions", scored_input["uri"], scored_input["fingerprint"])]


def _render(data: report.ReportData) -> dict[str, bytes]:
    """Make the files of a report, by their names."""
    columns = {name: data.rows[name].to_numpy() for name in ("label", "probability", "num_tokens")}
    calibrated, before = data.findings["calibration"], None
    if calibrated and calibrated["temperature"] != 1:
        before = results.before_temperature(
            columns["probability"], columns["num_tokens"], temperature=calibrated["temperature"]
        )
    plots = charts.render(
        data.findings,
        label=columns["label"],
        probability=columns["probability"].astype(np.float64),
        before=before,
        curve=data.epochs,
    )
    files = {f"{PLOTS}/{name}": content for name, content in plots.items()}
    files[PAGE] = report.render_page(data, plots).encode()
    files[METRICS] = json.dumps(data.findings, indent=2, allow_nan=False).encode()
    return files


def _track(
    found: Findings,
    files: dict[str, bytes],
    recorder: Recorder,
    trained: dict[str, Any],
    target: OutputSpec,
) -> None:
    """Log the figures and the report.

    Headlines on the rows that the training itself put aside go to its run, too; those on another
    corpus would pass for them there.
    """
    for split, values in found["figures"].items():
        recorder.log_metrics({f"{split}/{name}": value for name, value in values.items()})
    recorder.log_metrics(
        _mean_pass_rates(found["behavior"])
        | {f"bias/{bias['category']}_spread": bias["spread"] for bias in found["group_bias"]}
    )
    recorder.log_files(files)
    split, values = headline(found["figures"])
    lines = (f"- **{figure}** {meaning}" for figure, meaning, _ in found["conclusions"])
    scored = target.inputs["scored"]
    tags = {SCORED_TAG: scored["uri"], SCORED_FINGERPRINT_TAG: scored["fingerprint"]}
    recorder.set_tags(tags | {"mlflow.note.content": "\n".join(lines)})
    if trained:
        training_run = recorder.of_run(trained.get("mlflow_run_id", ""))
        training_run.log_metrics({f"{split}/{name}": values[name] for name in _HEADLINES})
        training_run.set_tags(tags)


def _mean_pass_rates(tests: list[dict[str, Any]]) -> dict[str, float]:
    """Average the tests of each kind: thirty charts would hide all others."""
    rates: dict[str, list[float]] = defaultdict(list)
    for test in tests:
        if test["pass_rate"] is not None:
            rates[f"behavior/{test['kind'].replace(' ', '_')}"].append(test["pass_rate"])
    return {name: float(np.mean(values)) for name, values in rates.items()}


def _report(found: Findings, seconds: float) -> None:
    split, values = headline(found["figures"])
    name = "" if split == evaluated_rows.WHOLE else f"{split} "
    say(
        STAGE,
        f"{name}accuracy {values['accuracy']:.4f} "
        f"(95 % interval {values['accuracy_low']:.4f} to {values['accuracy_high']:.4f}) "
        f"on {values['num_rows']:,} rows ({seconds:.1f} s)",
    )
