"""Measured rows -> the few of them whose texts are used, with these texts."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.config.sections import EvaluateSettings
from sentiflow.evaluation import baselines, deciding_words, mistakes, model_checks
from sentiflow.evaluation.measured_rows import MeasuredRows
from sentiflow.evaluation.model_checks import CheckedTexts


class TextsOfWords(NamedTuple):
    """Texts by which the words of classes are measured."""

    text: pa.Array
    """N texts."""
    labels: pa.Array
    """The names of their predicted classes."""


class UsedTexts(NamedTuple):
    """Mistakes, and the texts of the few rows whose texts are used."""

    mistakes: pa.Table
    """The columns of ``mistakes.COLUMNS``. It has no rows if there are no texts or
    ``evaluate.num_examples`` is 0."""
    checked: CheckedTexts | None
    """None if the texts are unknown."""
    of_baseline: pa.Table | None
    """The rows that the baseline is measured on, with the column ``text``; None as above."""
    of_words: TextsOfWords | None
    """None: there are no texts, or ``evaluate.num_examples`` is 0."""


def read(settings: EvaluateSettings, unseen: MeasuredRows) -> UsedTexts:
    """Choose mistakes and other rows whose texts are used, and read these texts."""
    rows = unseen.rows
    no_mistakes = mistakes.COLUMNS.empty_table()
    if unseen.texts is None:
        return UsedTexts(no_mistakes, checked=None, of_baseline=None, of_words=None)
    of_baseline = baselines.choose_rows(rows)
    of_checks = model_checks.choose_rows(rows)
    found = no_mistakes.drop_columns(["text"])
    for_words = deciding_words.choose_rows(rows.slice(0, 0))
    if settings.num_examples:
        found = mistakes.find(rows)
        for_words = deciding_words.choose_rows(rows)
    wanted = [
        of_baseline["row_id"].to_numpy(),
        *of_checks,
        found["row_id"].to_numpy(),
        for_words.row_ids,
    ]
    known = np.unique(np.concatenate(wanted))
    text = unseen.texts.take_texts(known)

    def of(row_ids: np.ndarray) -> pa.Array:
        return text.take(pa.array(np.searchsorted(known, row_ids)))

    of_words = None
    if settings.num_examples:
        of_words = TextsOfWords(of(for_words.row_ids), for_words.labels)
    return UsedTexts(
        mistakes=mistakes.add_texts(found, of(found["row_id"].to_numpy())),
        checked=CheckedTexts(
            of_all=of(of_checks.of_all).to_pylist(),
            to_change=of(of_checks.to_change).to_pylist(),
        ),
        of_baseline=of_baseline.append_column("text", of(of_baseline["row_id"].to_numpy())),
        of_words=of_words,
    )
