"""Predictions -> figures and a report."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow import manifest, metrics, report, storage
from sentiflow.errors import UserError
from sentiflow.manifest import Claim
from sentiflow.progress import say
from sentiflow.schema import NEGATIVE, POSITIVE
from sentiflow.sections import Config
from sentiflow.tracking import Recorder
from sentiflow.uris import join

STAGE = "evaluate"
OWNS = ("metrics.json", "report.html", "plots")

WHOLE = "all"
"""Name of the rows of a corpus that has no splits."""

_EVALUATED = ("validation", "test", WHOLE)
_COLUMNS = ["split", "label", "prediction", "probability"]
_HEADLINES = (
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "f1_macro",
    "roc_auc",
    "log_loss",
    "brier",
)


def claim(config: Config) -> Claim:
    """Say what the evaluation would make.

    Raises:
        UserError: The predictions are not there, or not complete.
    """
    settings = config.evaluate
    record = manifest.require(settings.scored_uri, stage="score", setting="evaluate.scored_uri")
    decisive = settings.model_dump(exclude={"scored_uri", "output_uri"})
    inputs = {"scored": manifest.reference(settings.scored_uri, record)}
    return Claim(STAGE, settings.output_uri, decisive, inputs, owns=OWNS)


def run(config: Config, recorder: Recorder, *, overwrite: bool) -> dict[str, Any]:
    """Evaluate predictions and render the report; returns the manifest.

    Raises:
        UserError: No prediction has a label to compare it with.
    """
    began = time.monotonic()
    target = claim(config)
    scored = manifest.require(target.inputs["scored"]["uri"], stage="score", setting="")
    predictions = _read_labelled(target.inputs["scored"]["uri"], scored)
    trained = _find_training(scored)
    manifest.begin(target, overwrite=overwrite)
    data = _collect(config, predictions, scored, trained, target)
    plots = report.render_plots(data)
    files = {f"plots/{name}": content for name, content in plots.items()}
    files["report.html"] = report.render_page(data, plots).encode()
    files["metrics.json"] = (
        json.dumps({"name": data.name, "figures": data.figures}, indent=2)
    ).encode()
    for name, content in files.items():
        storage.write_bytes(join(target.uri, name), content)
    seconds = time.monotonic() - began
    _track(data.figures, files, recorder, trained)
    _report(data.figures, seconds)
    return manifest.publish(
        target,
        counts={"rows": len(predictions)},
        files=[{"path": name, "rows": None, "bytes": len(files[name])} for name in files],
        seconds=seconds,
        figures=data.figures,
    )


def headline(figures: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Choose the split that speaks for the model: test, or all rows of a corpus without splits."""
    name = "test" if "test" in figures else list(figures)[-1]
    return name, figures[name]


def _read_labelled(uri: str, scored: dict[str, Any]) -> pd.DataFrame:
    """Read the evaluated predictions that have a binary label."""
    names = [item["path"] for item in scored["files"] if item["path"].startswith("predictions/")]
    tables = [_read(join(uri, name)) for name in names]
    labelled = [table.filter(_is_evaluated(table)) for table in tables]
    if not sum(len(table) for table in labelled):
        raise UserError(f"{uri} has no labelled row", hint="there is nothing to compare with")
    frame = pa.concat_tables(labelled).to_pandas()
    return frame.assign(split=frame["split"].fillna(WHOLE))


def _read(uri: str) -> pa.Table:
    try:
        return storage.read_parquet(uri, columns=_COLUMNS)
    except (pa.ArrowInvalid, OSError) as error:
        hint = "sentiflow score CONFIG --overwrite makes the predictions anew"
        raise UserError(f"{uri} is gone or damaged", hint=hint) from error


def _is_evaluated(table: pa.Table) -> pa.ChunkedArray:
    """Find the rows with a binary label that the model was not trained on."""
    binary = pc.is_in(table["label"], value_set=pa.array([NEGATIVE, POSITIVE], pa.int8()))
    return pc.and_(binary, pc.not_equal(pc.fill_null(table["split"], WHOLE), "train"))


def _find_training(scored: dict[str, Any]) -> dict[str, Any]:
    """Find the manifest of the training that made the model, if it is still where it was."""
    model = scored["inputs"]["model"]
    training = manifest.read_input({"inputs": model}, "training")
    return training if training.get("model_fingerprint") == model["fingerprint"] else {}


def _collect(
    config: Config,
    predictions: pd.DataFrame,
    scored: dict[str, Any],
    trained: dict[str, Any],
    target: Claim,
) -> report.ReportData:
    figures: dict[str, dict[str, Any]] = {}
    for name in _EVALUATED:
        rows = predictions[predictions["split"] == name]
        if len(rows):
            figures[name] = metrics.binary_figures(
                label=rows["label"].to_numpy(),
                probability=rows["probability"].to_numpy(),
                prediction=rows["prediction"].to_numpy(),
            )
    prepared = manifest.read_input(scored, "corpus")
    return report.ReportData(
        name=config.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        figures=figures,
        predictions=predictions,
        curve=_read_curve(trained["history"]) if trained else None,
        counts=_count_rows(prepared, scored),
        settings=_settings(prepared, trained, scored),
        lineage=_lineage(prepared, scored, target),
        versions=scored["versions"],
    )


def _read_curve(history: list[dict[str, Any]]) -> pd.DataFrame:
    """Lay out the figures by epoch; what was not measured is NaN."""
    return pd.DataFrame(history).astype(float).astype({"epoch": int})


def _count_rows(prepared: dict[str, Any], scored: dict[str, Any]) -> dict[str, int]:
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
    prepared: dict[str, Any], scored: dict[str, Any], target: Claim
) -> list[tuple[str, str, str]]:
    corpus, model = scored["inputs"]["corpus"], scored["inputs"]["model"]
    files = prepared["inputs"]["csv"]["files"] if prepared else corpus["files"]
    lineage = [("input file", item["uri"], item["tree_sha256"][:16]) for item in files]
    if prepared:
        lineage.append(("prepared data", corpus["uri"], corpus["fingerprint"]))
    lineage.append(("model", model["uri"], model["fingerprint"]))
    scored_input = target.inputs["scored"]
    return [*lineage, ("predictions", scored_input["uri"], scored_input["fingerprint"])]


def _track(
    figures: dict[str, Any], files: dict[str, bytes], recorder: Recorder, trained: dict[str, Any]
) -> None:
    """Log the figures and the report; the test headlines also to the run that trained the model."""
    for split, values in figures.items():
        recorder.log_metrics({f"{split}/{name}": value for name, value in values.items()})
    recorder.log_files(files)
    split, values = headline(figures)
    training_run = recorder.of_run(trained.get("mlflow_run_id", ""))
    training_run.log_metrics({f"{split}/{name}": values[name] for name in _HEADLINES})


def _report(figures: dict[str, Any], seconds: float) -> None:
    split, values = headline(figures)
    say(
        STAGE,
        f"{split} accuracy {values['accuracy']:.4f} "
        f"(95 % interval {values['accuracy_low']:.4f} to {values['accuracy_high']:.4f}) "
        f"on {values['num_rows']:,} rows ({seconds:.1f} s)",
    )
