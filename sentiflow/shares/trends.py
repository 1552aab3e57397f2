"""Scored directory -> shares of the classes by column and time, as a table and a page."""

import functools
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isnan

from sentiflow.config import decisive
from sentiflow.config.sections import Config, TrendsSettings
from sentiflow.data import input_files, lineage, manifest
from sentiflow.data.manifest_types import FileEntry, Manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.outputs import Output
from sentiflow.metrics.predicted_shares import compare_unseen
from sentiflow.metrics.shares import MIN_CORRECTED, UNCORRECTED
from sentiflow.progress import Steps, say
from sentiflow.shares import (
    conclusions,
    kept_tables,
    page,
    ratings,
    reached_width,
    rows,
    share_charts,
    table,
)
from sentiflow.shares.sample_log import SaidWidth
from sentiflow.storage import parquet, retries
from sentiflow.tracking.recorder import Recorder

STAGE = "trends"
TABLE = "trends.parquet"
MEANS = "means.parquet"
PAGE = "trends.html"
PLOTS = "plots"

_STEPS = Steps(
    STAGE,
    measure="reading predictions, measuring shares and their intervals",
    compare="comparing groups and periods, drawing plots, writing the page",
)

TRENDS_VERSION = 9
"""Changes whenever the same predictions would give other shares or another page. A result of
another version does not count as complete. Sums that are added in another order change the last
digits of shares (by 1e-12 at most), which no page shows: this is no other version."""


@dataclass(frozen=True)
class TrendsPlan:
    """An estimate of shares as it will run."""

    config: Config
    """The experiment."""
    spec: OutputSpec
    """The output. Its inputs are the predictions and, if there are any, the files of labels."""
    scored: Manifest
    """Manifest of the predictions. If they are replaced meanwhile, the result is not published
    (:meth:`Output.publish`)."""
    settings: TrendsSettings
    """The section ``trends``, with the files of labels in place of their globs."""
    said: SaidWidth | None
    """What was said of the width of intervals when rows were drawn for one; None otherwise."""


def resolve(config: Config) -> TrendsPlan:
    """Plan an estimate of shares.

    Raises:
        UserError: There are no complete predictions, they lack a column of ``trends.by``, a file of
            ``trends.labels`` is missing, or a file of a draw is damaged.
    """
    settings = config.trends
    uri = config.score.output_uri
    record = manifest.require(uri, stage="score", setting="score.output_uri")
    rows.check_columns(settings, record)
    listed = decisive.dump(settings, exclude={"output_uri", "labels"})
    listed["trends_version"] = TRENDS_VERSION
    inputs = {"scored": manifest.reference(uri, record)}
    if settings.labels:
        uris = input_files.expand(settings.labels, setting="trends.labels")
        inputs["labels"] = input_files.describe(uris)
        settings = settings.model_copy(update={"labels": tuple(uris)})
    return TrendsPlan(
        config=config,
        spec=OutputSpec(
            STAGE,
            settings.output_uri,
            listed,
            inputs,
            keeps=(kept_tables.FOLDER,),
        ),
        scored=record,
        settings=settings,
        said=reached_width.find_said(config),
    )


def run(plan: TrendsPlan, output: Output, recorder: Recorder) -> Manifest:
    """Measure the shares and render the page; return the manifest.

    Raises:
        UserError: A file of labels is wrong.
    """
    began = time.monotonic()
    measure = functools.partial(_measure, plan, output)
    with _STEPS.show("measure"):
        trends, kept = retries.repeat_after_io_errors(measure, place=plan.config.score.output_uri)
    output.begin()
    _add_notes(trends, plan.scored)
    with _STEPS.show("compare"):
        results = conclusions.draw_conclusions(trends)
        width = reached_width.compare(trends, plan.said)
        if width is not None:
            results.append(reached_width.describe(width))
        files = _render(plan, trends, results)
    entries = [output.write(name, data) for name, data in files.items()]
    entries += _write_tables(trends, output)
    entries += kept.write(output)
    _track(trends, results, files, recorder)
    for note in trends.notes:
        say(STAGE, note)
    seconds = time.monotonic() - began
    first = results[0]
    say(STAGE, f"{first.number} {first.meaning} ({seconds:.1f} s)")
    if width is not None:
        say(STAGE, " ".join(reached_width.describe(width)[:2]))
    # A table has a line for each group and class.
    num_groups = sum(len(item.table) for item in trends.breakdowns) // len(trends.classes)
    return output.publish(
        counts={
            "rows": trends.num_rows,
            "sample": trends.num_sample,
            "counted": trends.num_counted,
            "skipped": trends.num_skipped,
            "groups": num_groups,
        },
        files=entries,
        seconds=seconds,
        run=recorder.describe(),
        classes=list(trends.classes),
        conclusions=results,
        notes=trends.notes,
        agreement=trends.agreement._asdict() if trends.agreement else None,
        width=width._asdict() if width else None,
    )


def _measure(plan: TrendsPlan, output: Output) -> tuple[table.ShareTable, kept_tables.KeptTables]:
    """Measure the shares; returns also the tables that the next estimate reuses."""
    kept = kept_tables.KeptTables(plan.spec.uri, output.earlier)
    trends = table.measure(plan.settings, plan.scored, plan.config.score.output_uri, kept)
    return trends, kept


def _add_notes(trends: table.ShareTable, scored: Manifest) -> None:
    """Add what the reader of the shares has to know of the predictions and of their errors."""
    model = scored["inputs"]["model"]
    if lineage.is_of_others(model):
        trends.notes.extend(_describe_given(trends, scored))
    if trends.method == UNCORRECTED:
        trends.notes.insert(0, _explain_uncorrected(trends))
        confusion = scored.get("profile", {}).get("confusion", {})
        for share, meaning in compare_unseen(confusion, model):
            trends.notes.append(f"{share} {meaning}")


def _render(
    plan: TrendsPlan, trends: table.ShareTable, results: list[conclusions.Conclusion]
) -> dict[str, bytes]:
    """Render the plots and the page, by their names."""
    model = plan.scored["inputs"]["model"]
    plots = share_charts.render(trends)
    content = page.render(
        trends,
        plots,
        name=plan.config.name,
        created=datetime.now(UTC).replace(microsecond=0),
        conclusions=results,
        settings=plan.settings,
        model=lineage.describe_model(model["settings"]),
        is_of_others=lineage.is_of_others(model),
        corpus=lineage.corpus_of(plan.scored).name,
    )
    files = {f"{PLOTS}/{name}": image for name, image in plots.items()}
    files[PAGE] = content.encode()
    return files


def _write_tables(trends: table.ShareTable, output: Output) -> list[FileEntry]:
    """Write the table of shares and, for ordered classes, that of means."""
    shares = table.tabulate(trends)
    entries = [output.write(TABLE, parquet.to_bytes(shares), rows=len(shares))]
    if trends.means is not None:
        means = table.tabulate_means(trends.means)
        entries.append(output.write(MEANS, parquet.to_bytes(means), rows=len(means)))
    return entries


def _explain_uncorrected(trends: table.ShareTable) -> str:
    """Say why the shares are not corrected, and what to do."""
    why = "no labels"
    if trends.num_sample or trends.num_counted:
        why = (
            f"fewer than {MIN_CORRECTED} labelled texts that the model has not seen, or such texts "
            f"of fewer than {MIN_CORRECTED} authors"
        )
    way = "sentiflow trends CONFIG --sample 300 --output to_label.csv"
    return f"{why}, so no correction; to draw rows to label: {way}"


def _describe_given(trends: table.ShareTable, scored: Manifest) -> list[str]:
    """Say what is not known of predictions by another program, and which rows have none."""
    notes = ratings.note_unordered(scored)
    num_without = scored["given"]["rows_without"]
    if num_without:
        num_rows = num_without + trends.num_rows
        notes.append(
            f"{num_without:,} of {num_rows:,} rows have no prediction in the files of "
            "score.predictions: shares are of the others"
        )
    if trends.method == UNCORRECTED:
        notes.append(
            "another program has made these predictions, and nothing is known of their errors: "
            "only labels tell them"
        )
    else:
        notes.append(
            "another program has made these predictions: it is not known which labels its maker "
            "has seen; leave such labels out, as the program errs less on their texts"
        )
    return notes


def _track(
    trends: table.ShareTable,
    results: list[conclusions.Conclusion],
    files: dict[str, bytes],
    recorder: Recorder,
) -> None:
    """Log the shares in all rows, the page and the plots."""
    for name, line in trends.whole.iterrows():
        logged = {
            f"trends/share_{name}": line["corrected_share"],
            f"trends/share_{name}_low": line["low"],
            f"trends/share_{name}_high": line["high"],
            f"trends/predicted_share_{name}": line["predicted_share"],
        }
        recorder.log_metrics(
            {key: None if isnan(value) else float(value) for key, value in logged.items()}
        )
    if trends.means is not None:
        _track_mean(trends.means, recorder)
    recorder.log_files(files)
    notes = [f"- **{result.number}** {result.meaning}" for result in results]
    recorder.set_note("\n".join(notes))


def _track_mean(means: table.ShareTable, recorder: Recorder) -> None:
    """Log the mean rating of all rows."""
    mean = table.tabulate_means(means).slice(0, 1).to_pylist()[0]
    recorder.log_metrics(
        {
            "trends/mean_rating": mean["corrected_mean"],
            "trends/mean_rating_low": mean["low"],
            "trends/mean_rating_high": mean["high"],
            "trends/predicted_mean_rating": mean["predicted_mean"],
            "trends/expected_mean_rating": mean["expected_mean"],
        }
    )
