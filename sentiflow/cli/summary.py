"""Manifests of a job -> the summary at its end, and commands to type next."""

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sentiflow.data.manifest_types import Counts, Manifest
from sentiflow.data.schema import SPLITS
from sentiflow.evaluation.evaluated_rows import headline_split
from sentiflow.storage.uris import as_typed

Records = Mapping[str, Manifest]
"""Manifests by job."""

Rows = list[tuple[str, ...]]

_USUAL_DAMAGE = 0.01
"""Share of texts with invalid bytes that is not worth a line."""


def of_run(records: Records, uris: Mapping[str, str]) -> Rows:
    """Summarize a whole run.

    Args:
        records: Manifests of all jobs of the run; of a refit there is no evaluation.
        uris: Directories by job.
    """
    rows = _list_counts(records["prepare"]["counts"], uris["prepare"])
    if "evaluate" in records:
        rows += _list_evaluation(records["evaluate"])
    for verb, number in _count_texts(records).items():
        seconds = records[verb]["seconds"]
        rows.append((verb, f"{number / seconds:,.0f} tweets/s", f"{seconds:.1f} s"))
    return rows


def _list_evaluation(record: Manifest) -> Rows:
    """List what the model reached on the headline split."""
    figures = record["figures"]
    split = headline_split(list(figures))
    metrics = figures[split]
    interval = f"{metrics['accuracy_low']:.1%} to {metrics['accuracy_high']:.1%}"
    text = f"95 % interval {interval}, {metrics['num_rows']:,} tweets"
    rows: Rows = [(f"{split} accuracy", f"{metrics['accuracy']:.1%}", text)]
    if "by_class" in metrics:
        f1 = {name: found["f1"] for name, found in metrics["by_class"].items()}
        each = [f"{value:.1%} {name}" for name, value in f1.items() if value is not None]
        rows.append(("macro F1", f"{metrics['f1_macro']:.1%}", f"F1 {', '.join(each)}"))
    return rows


def of_preparation(record: Manifest, uri: str) -> Rows:
    """Summarize a preparation: rows, splits, repeated texts, unknown words."""
    counts, repeats, words = record["counts"], record["duplicates"], record["vocabulary"]
    rows = _list_counts(counts, uri)
    for split in SPLITS:
        by_label = counts["labels"][split]
        labels = ", ".join(f"{number:,} {label}" for label, number in by_label.items() if number)
        rows.append((split, f"{sum(by_label.values()):,}", labels))
    normalized, contradicting = repeats["normalized"], repeats["contradicting"]["texts"]
    leaked = f"{normalized['leaked_rows']['test_in_train']:,} test rows have a text of train"
    unknown = f"{words['tokens']['test']['unknown_fraction']:.1%} of test tokens unknown"
    known = f"{words['words_with_vector']:,} with a vector; {unknown}"
    rows += [
        ("repeated rows", f"{normalized['surplus_rows']:,}", leaked),
        ("contradicting", f"{contradicting:,}", "texts with more than one label"),
        ("words", f"{words['words']:,}", known),
    ]
    if corrected := counts.get("corrections"):
        changed = f"{corrected['changed']:,} had another label or none"
        rows.append(("corrected", f"{corrected['rows']:,}", changed))
    if further := counts.get("unlabelled"):
        unknown = f"{further['tokens']['unknown_fraction']:.1%}"
        rows += _list_counts(further, uri, name="unlabelled texts")
        rows.append(("  unknown", unknown, "of their tokens"))
    return rows


def of_evaluation(record: Manifest, uri: str) -> Rows:
    """Summarize an evaluation: the most important results, notes, report and model card."""
    files = [("report", f"{uri}/report.html"), ("model card", f"{uri}/model_card.md")]
    return _conclude(record) + files


def of_trends(record: Manifest, uri: str) -> Rows:
    """Summarize the shares: the most important results, notes, page and table."""
    files = [("page", f"{uri}/trends.html"), ("table", f"{uri}/trends.parquet")]
    return _conclude(record) + files


def _conclude(record: Manifest) -> Rows:
    """List the most important results of a stage, and its notes."""
    rows: Rows = [(number, meaning) for number, meaning, _ in record["conclusions"]]
    return rows + [("note", note) for note in record["notes"]]


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


def to_text(rows: Rows) -> str:
    """Write rows in columns, the last but one to the right; the last is broken into lines."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for place in range(len(rows[0])):
        table.add_column(justify="right" if place == len(rows[0]) - 2 else "left")
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _list_counts(counts: Counts, uri: str, *, name: str = "rows read") -> Rows:
    """List the number of rows read, accepted, rejected and left out."""
    damaged, note, where = counts.get("damaged", 0), "", ""
    if damaged > _USUAL_DAMAGE * counts["accepted"]:
        have = "text has" if damaged == 1 else "texts have"
        note = f"{damaged:,} {have} U+FFFD for bytes that are not in the encoding"
    if counts["rejected"]:
        where = f"{uri}/rejected: {_list_reasons(counts['rejected_by_reason'])}"
    rows: Rows = [
        (name, f"{counts['rows_read']:,}", ""),
        ("  accepted", f"{counts['accepted']:,}", note),
        ("  rejected", f"{counts['rejected']:,}", where),
    ]
    if counts["left_out"]:
        why = _list_reasons(counts["left_out_by_reason"])
        rows.append(("  left out", f"{counts['left_out']:,}", why))
    return rows


def _list_reasons(by_reason: Mapping[str, int]) -> str:
    order: Sequence[tuple[str, int]] = sorted(by_reason.items(), key=lambda item: -item[1])
    return ", ".join(f"{count:,} {reason}" for reason, count in order)


def _count_texts(records: Records) -> dict[str, int]:
    """Return the number of texts that each job went through."""
    counts = {verb: record["counts"] for verb, record in records.items()}
    texts = {"prepare": counts["prepare"]["rows_read"]}
    if "train" in counts:  # an average is of models that were there
        texts["train"] = counts["train"]["epochs"] * counts["train"]["rows"]
    texts["score"] = counts["score"]["accepted"]
    if "evaluate" in counts:
        texts["evaluate"] = counts["evaluate"]["rows"]
    return texts


def _program(name: str) -> str:
    """Write a console script as the user can type it: by its path if it is not on PATH."""
    beside = str(Path(sys.executable).parent / name)
    return name if shutil.which(name) == beside else as_typed(beside)
