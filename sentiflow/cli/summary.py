"""Manifests of a job -> the summary at its end, and commands to type next."""

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import JustifyMethod
from rich.table import Table

from sentiflow.data.manifest_types import Counts, Manifest
from sentiflow.data.schema import SPLITS
from sentiflow.evaluation.baselines import TFIDF
from sentiflow.evaluation.evaluated_rows import headline_split
from sentiflow.evaluation.slices import FOUND
from sentiflow.evaluation.teachers import AGREES
from sentiflow.storage.uris import as_typed

Records = Mapping[str, Manifest]
"""Manifests by job."""

_OF_TFIDF = f"is the accuracy of {TFIDF}: "
_USUAL_DAMAGE = 0.01
"""Share of texts with invalid bytes that is not worth a line."""


def of_run(records: Records, uris: Mapping[str, str]) -> Table:
    """Summarize a whole run.

    Args:
        records: Manifests of all jobs of the run; of a refit there is no evaluation.
        uris: Directories by job.
    """
    table = _table("left", "right", "left")
    _add_counts(table, records["prepare"]["counts"], uris["prepare"])
    if "evaluate" in records:
        _add_evaluation(table, records["evaluate"])
    for verb, (rows, seconds) in _speeds(records).items():
        table.add_row(f"{verb}", f"{rows / seconds:,.0f} tweets/s", f"{seconds:.1f} s")
    return table


def _add_evaluation(table: Table, record: Manifest) -> None:
    """Add what the model reached on the headline split."""
    figures = record["figures"]
    split = headline_split(list(figures))
    metrics = figures[split]
    table.add_row(
        f"{split} accuracy",
        f"{metrics['accuracy']:.1%}",
        f"95 % interval {metrics['accuracy_low']:.1%} to {metrics['accuracy_high']:.1%}, "
        f"{metrics['num_rows']:,} tweets",
    )
    if "by_class" in metrics:
        f1 = {name: found["f1"] for name, found in metrics["by_class"].items()}
        text = "F1 " + ", ".join(f"{f1[name]:.1%} {name}" for name in f1 if f1[name] is not None)
        absent = ", ".join(name for name in f1 if f1[name] is None)
        text += f"; neither labelled nor predicted: {absent}" if absent else ""
        table.add_row("macro F1", f"{metrics['f1_macro']:.1%}", text)
    for number, meaning, _ in record["conclusions"]:
        if meaning.startswith(_OF_TFIDF):
            table.add_row("TF-IDF accuracy", number, meaning.removeprefix(_OF_TFIDF))
        if meaning.startswith(AGREES):
            table.add_row("agreement", number, f"with the {meaning.removeprefix(AGREES)}")
        if meaning.startswith(FOUND):
            table.add_row("slice accuracy", number, "texts with " + meaning.removeprefix(FOUND))


def of_preparation(record: Manifest, uri: str) -> Table:
    """Summarize a preparation: rows, splits, repeated texts, unknown words."""
    counts, repeats, words = record["counts"], record["duplicates"], record["vocabulary"]
    table = _table("left", "right", "left")
    _add_counts(table, counts, uri)
    for split in SPLITS:
        by_label = counts["labels"][split]
        labels = ", ".join(f"{number:,} {label}" for label, number in by_label.items() if number)
        table.add_row(split, f"{sum(by_label.values()):,}", labels)
    normalized, leaked = repeats["normalized"], repeats["normalized"]["leaked_rows"]
    table.add_row(
        "repeated rows",
        f"{normalized['surplus_rows']:,}",
        f"{leaked['test_in_train']:,} test rows have a text of train",
    )
    contradicting = repeats["contradicting"]["texts"]
    table.add_row("contradicting", f"{contradicting:,}", "texts with more than one label")
    unknown = words["tokens"]["test"]["unknown_fraction"]
    table.add_row(
        "words",
        f"{words['words']:,}",
        f"{words['words_with_vector']:,} with a vector; {unknown:.1%} of test tokens unknown",
    )
    if corrected := counts.get("corrections"):
        rows, changed = corrected["rows"], corrected["changed"]
        table.add_row("corrected", f"{rows:,}", f"{changed:,} had another label or none")
    if further := counts.get("unlabelled"):
        _add_counts(table, further, uri, name="unlabelled texts")
        unknown = further["tokens"]["unknown_fraction"]
        table.add_row("  unknown", f"{unknown:.1%}", "of their tokens")
    return table


def of_evaluation(record: Manifest, uri: str) -> Table:
    """Summarize an evaluation: the most important results, notes, report and model card."""
    return _conclude(record, report=f"{uri}/report.html", model_card=f"{uri}/model_card.md")


def of_trends(record: Manifest, uri: str) -> Table:
    """Summarize the shares: the most important results, notes, page and table."""
    return _conclude(record, page=f"{uri}/trends.html", table=f"{uri}/trends.parquet")


def _conclude(record: Manifest, **files: str) -> Table:
    """List the most important results of a stage, its notes and its files."""
    rows = [(number, meaning) for number, meaning, _ in record["conclusions"]]
    rows += [("note", note) for note in record["notes"]]
    rows += [(name.replace("_", " "), uri) for name, uri in files.items()]
    table = _table("right", "left")
    for row in rows:
        table.add_row(*row)
    return table


def next_steps(uris: Mapping[str, str], store: str, page: str, *, config: Path) -> list[str]:
    """List commands to type after a run.

    Args:
        uris: Directories by job.
        store: URI of the MLflow store, without a user name.
        page: The page of the runs in MLflow's web interface, or nothing.
        config: The settings file.
    """
    model = f"{uris.get('train', uris['score'])}/model"
    predict = shlex.join([_program("sentiflow"), "predict", model])
    promote = shlex.join([_program("sentiflow"), "promote", str(config)])
    card = shlex.join([_program("sentiflow"), "card", uris.get("train", uris["score"])])
    return [
        f"open the report     {uris['evaluate']}/report.html"
        if "evaluate" in uris
        else f"write its card      {card}",
        f"compare runs        {open_runs(store, page, str(config))}",
        f"make it champion    {promote}",
        f'score a text        {predict} "what a lovely day"',
        read_predictions(uris["score"]),
    ]


def read_predictions(uri: str) -> str:
    """Say how to read the predictions of a scored directory."""
    return f'read predictions    pandas.read_parquet("{uri}/predictions")'


def open_runs(store: str, page: str, *arguments: str) -> str:
    """Say how to see the runs of an experiment in a browser.

    Args:
        store: URI of the MLflow store.
        page: The page of its runs.
        arguments: What ``sentiflow ui`` needs to find the store.
    """
    if store.startswith("http"):
        return f"{store}{page}"
    return shlex.join([_program("sentiflow"), "ui", *arguments])


def _table(*sides: JustifyMethod) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for side in sides:
        table.add_column(justify=side)
    return table


def _add_counts(table: Table, counts: Counts, uri: str, *, name: str = "rows read") -> None:
    """Add the number of rows read, accepted, rejected and left out."""
    table.add_row(name, f"{counts['rows_read']:,}", "")
    damaged = counts.get("damaged", 0)
    note = ""
    if damaged > _USUAL_DAMAGE * counts["accepted"]:
        have = "text has" if damaged == 1 else "texts have"
        note = f"{damaged:,} {have} U+FFFD for bytes that are not in the encoding"
    table.add_row("  accepted", f"{counts['accepted']:,}", note)
    where = f"{uri}/rejected: {_list(counts['rejected_by_reason'])}" if counts["rejected"] else ""
    table.add_row("  rejected", f"{counts['rejected']:,}", where)
    if counts["left_out"]:
        by_reason = _list(counts["left_out_by_reason"])
        table.add_row("  left out", f"{counts['left_out']:,}", by_reason)


def _list(by_reason: Mapping[str, int]) -> str:
    order: Sequence[tuple[str, int]] = sorted(by_reason.items(), key=lambda item: -item[1])
    return ", ".join(f"{count:,} {reason}" for reason, count in order)


def _speeds(records: Records) -> dict[str, tuple[int, float]]:
    """Return the rows and seconds of each job."""
    counts = {verb: record["counts"] for verb, record in records.items()}
    rows = {"prepare": counts["prepare"]["rows_read"]}
    if "train" in counts:  # an average is of models that were there
        rows["train"] = counts["train"]["epochs"] * counts["train"]["rows"]
    rows["score"] = counts["score"]["accepted"]
    if "evaluate" in counts:
        rows["evaluate"] = counts["evaluate"]["rows"]
    return {verb: (count, records[verb]["seconds"]) for verb, count in rows.items()}


def _program(name: str) -> str:
    """Write a console script as the user can type it: by its path if it is not on PATH."""
    beside = str(Path(sys.executable).parent / name)
    return name if shutil.which(name) == beside else as_typed(beside)
