"""Scored directory and earlier draws -> a new draw of rows to label by hand."""

import contextlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sentiflow.config.sections import Config, TrendsSettings
from sentiflow.data import input_files, lineage, manifest, row_sources
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation.evaluated_rows import TEXT
from sentiflow.shares import draw_history, draws, rows, sample_log, written_labels
from sentiflow.shares.kept_tables import KeptTables
from sentiflow.storage.uris import display_uri

_COLUMNS = ("row_id", "sample", "text", "label")
"""Columns of a file to label. A column of ``trends.by`` with such a name is not added."""


def draw_rows(config: Config, size: int) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Draw unlabelled rows to label by hand, in random order.

    The rows of earlier draws are not drawn again: draws are known from ``<output_uri>/samples/``
    and from ``trends.labels``. Another call draws the same rows until :func:`sample_log.record`
    adds the draw.

    Returns:
        ``row_id``, ``sample`` (by which ``labels.read`` draws the same rows again), the columns of
        ``trends.by``, ``text``, ``label`` (empty); and the classes.

    Raises:
        UserError: There are no complete predictions, every row has a label or was drawn, or neither
            the predictions nor the prepared data have texts.
    """
    settings = config.trends
    uri = config.score.output_uri
    scored = manifest.require(uri, stage="score", setting="score.output_uri")
    rows.check_columns(settings, scored)
    prepared = lineage.prepared_of(scored)
    has_text = rows.find_text_column(scored) is not None
    if not has_text and not prepared:
        raise UserError(
            "the predictions have no text to label",
            hint="name text in score.keep_columns, and score again",
        )
    end = rows.find_end(scored, uri)
    before, drawn_before = _find_draws(config, scored, end)
    by = settings.by[0] if settings.by else ""
    history = (*before, draw_history.Draw(size=size, num_rows=end, by=by))
    kept = find_kept(settings)
    drawn = draws.replay(settings, scored, uri, history, drawn_before, kept, with_text=has_text)
    _check_earlier_draws(config, drawn.rows["row_id"], drawn_before)
    table = drawn.rows[drawn.rows["draw"] == len(before)].reset_index(drop=True)
    if not len(table):
        raise UserError(
            "every row without a label was drawn before",
            hint="label the files of earlier draws, and name them in trends.labels",
        )
    if not has_text and prepared:
        row_ids = table["row_id"].to_numpy()
        table["text"] = lineage.read_prepared(scored, prepared, row_ids, [TEXT])[TEXT].to_pandas()
    names = [name for name in settings.by if name not in _COLUMNS]
    table = table.assign(sample=draw_history.write_history(history), label="")
    table = table[["row_id", "sample", *names, "text", "label"]]
    return table, manifest.find_classes(scored)


def find_kept(settings: TrendsSettings) -> KeptTables:
    """Find what the last run of ``trends`` has kept; nothing is added."""
    with contextlib.suppress(UserError):
        return KeptTables(settings.output_uri, manifest.read(settings.output_uri, stage="trends"))
    return KeptTables()


def _check_earlier_draws(config: Config, drawn: pd.Series, drawn_before: np.ndarray) -> None:
    """Check that the rows of earlier draws are drawn again.

    Raises:
        UserError: A share above ``draws.MAX_MISSING`` is not.
    """
    num_missing = int((~np.isin(drawn_before, drawn)).sum())
    if num_missing > draws.MAX_MISSING * len(drawn_before):
        raise UserError(
            f"{num_missing:,} of {len(drawn_before):,} rows of earlier draws are not drawn again: "
            "the corpus is another one, or a file was drawn by an earlier version and the corpus "
            "has grown since",
            hint=f"move {display_uri(sample_log.find_folder(config))} away, and leave such files "
            "out of trends.labels",
        )


def find_files(patterns: Sequence[str]) -> list[str]:
    """List the files that match some patterns; there may be none before the first draw."""
    uris = []
    for pattern in patterns:
        with contextlib.suppress(UserError):
            uris += input_files.expand([pattern])
    return uris


def _find_draws(
    config: Config, scored: Manifest, end: int
) -> tuple[draw_history.History, np.ndarray]:
    """Find the draws so far, and the rows that were drawn, as far as they are named.

    Args:
        config: Names the log of draws, and files of labels.
        scored: Manifest of the scored directory.
        end: Number of rows that are there now, see ``rows.find_end``.

    Raises:
        UserError: The draws are of another corpus, or do not follow each other.
    """
    logged = sample_log.read(config)
    history = logged.history
    row_ids = np.array(logged.row_ids, np.int64)
    files = find_files(config.trends.labels)
    if files:
        written = written_labels.read(files, scored)
        row_ids = np.union1d(row_ids, written.row_ids)
        of_files = written_labels.find_history(written.histories)
        if draw_history.is_before(history, of_files):
            history = of_files
        elif not draw_history.is_before(of_files, history):
            raise UserError(
                f"trends.labels: {draw_history.write_history(of_files)} is not one of the draws in "
                f"{display_uri(sample_log.find_folder(config))}",
                hint="name files of this corpus, or move this folder away",
            )
    dated = tuple(draw._replace(num_rows=draw.num_rows or end) for draw in history)
    if row_sources.has_own_ids(scored):
        draws.check_arrived(dated, end)
    num_rows = max((draw.num_rows or 0 for draw in dated), default=0)
    if num_rows > end:
        raise UserError(
            f"the last sample was drawn from {num_rows:,} rows, and the predictions have "
            f"{end:,}: they are of another corpus",
            hint=f"move {display_uri(sample_log.find_folder(config))} away to begin again",
        )
    return dated, row_ids
