"""Table of texts -> the same with a further column: the steps of preparation.

Each is a function of an Arrow table, and can be called on one by itself. A row with a ``reason`` is
refused or left out; it stays in the table until the files are written.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.sections import SplitSettings
from sentiflow.data import parts
from sentiflow.data.arrow_buffers import one_array
from sentiflow.data.schema import SPLITS
from sentiflow.data.text_hash import hash_strings, normalize_text
from sentiflow.models import tokenizer, vocabulary
from sentiflow.models.tokenizer import Tokens
from sentiflow.preparation import duplicates, splits

EVERY_NTH = "every_nth"
LEFT_OUT = (EVERY_NTH, *duplicates.REASONS)
"""Reasons of rows that are left out; they are not rejected."""


def leave_out(table: pa.Table, *, every_nth: int = 1, repeated: pa.Table | None = None) -> pa.Table:
    """Set the reason of rows that the settings leave out.

    Args:
        table: Has ``row_id`` and ``reason``.
        every_nth: Rows stay whose number is a multiple of this.
        repeated: Rows that ``prepare.duplicates`` leaves out, with the columns of
            ``duplicates.DROPPED``.
    """
    reason, row_id = one_array(table["reason"]), one_array(table["row_id"])
    if repeated is not None and len(repeated):
        place = pc.index_in(row_id, value_set=one_array(repeated["row_id"]))
        reason = pc.coalesce(reason, one_array(repeated["reason"]).take(place))
    if every_nth > 1:
        others = pa.array(row_id.to_numpy() % every_nth != 0)
        reason = pc.if_else(others, EVERY_NTH, reason)
    return set_column(table, "reason", reason)


def hash_texts(table: pa.Table) -> pa.Table:
    """Add the hashes by which texts are compared: ``normalized``, ``check`` and ``exact``."""
    for name, hashes in duplicates.hash_texts(parts.accepted_texts(table)).items():
        table = table.append_column(name, pa.array(hashes))
    return table


def assign_splits(
    table: pa.Table, *, rule: SplitSettings, time_bounds: tuple[int, int] | None = None
) -> pa.Table:
    """Set ``split``: the index in ``schema.SPLITS`` of each row, int8.

    Args:
        table: Has ``row_id``, ``normalized``, ``split`` (the name of a fixed split, or null), and
            ``user`` or ``time`` where the rule needs it.
        rule: The settings.
        time_bounds: Last second of train and of validation, if the split is by time.
    """
    if rule.kind == "tutorial":
        split = splits.assign_by_row_number(table["row_id"].to_numpy())
    elif rule.kind == "time":
        assert time_bounds is not None, "all times have been counted"
        seconds = pc.fill_null(table["time"].cast(pa.int64()), 0).to_numpy()
        split = splits.assign_by_time(seconds, bounds=time_bounds)
    else:
        hashes = table["normalized"].to_numpy()
        if rule.kind == "user":
            hashes = hash_strings(normalize_text(pc.fill_null(one_array(table["user"]), "")))
        split = splits.assign_by_hash(
            hashes,
            validation_fraction=rule.validation_fraction,
            test_fraction=rule.test_fraction,
        )
    fixed = pc.index_in(one_array(table["split"]), value_set=pa.array(SPLITS)).cast(pa.int8())
    return set_column(table, "split", pc.coalesce(fixed, pa.array(split)))


def leave_out_known(table: pa.Table, *, known: np.ndarray, is_held_out: np.ndarray) -> pa.Table:
    """Set the reason of unlabelled texts that labelled rows have, too.

    Texts are compared by one 64-bit hash. Of 10 million unlabelled texts and 3 million known ones,
    the probability that any text is left out by mistake is 2e-6; none is kept by mistake.

    Args:
        table: Has ``normalized`` and ``reason``.
        known: Hashes of the texts of labelled rows, K different uint64 in ascending order.
        is_held_out: Whether each is that of a validation or test row: K bool.
    """
    hashes, reason = table["normalized"].to_numpy(), one_array(table["reason"])
    place = np.searchsorted(known, hashes).clip(max=len(known) - 1)
    names = np.where(is_held_out[place], duplicates.HELD_OUT, duplicates.REPEATED)
    why = pa.array(names, mask=known[place] != hashes)
    return set_column(table, "reason", pc.coalesce(reason, why))


def tokenize(table: pa.Table, *, rule: str) -> pa.Table:
    """Add ``tokens``: the words of each text, none for a row with a reason.

    Args:
        table: Has ``text`` and ``reason``.
        rule: Name of the tokenizer.

    Returns:
        Each list holds indexes into one array of the distinct words of the table.
    """
    return table.append_column(
        "tokens", to_column(tokenizer.tokenize(parts.accepted_texts(table), name=rule))
    )


def encode(table: pa.Table, *, words: vocabulary.Vocabulary, max_length: int) -> pa.Table:
    """Add the ids of the tokens.

    Columns:
        added: ``token_ids`` and ``length``; ``num_unknown``: tokens that the vocabulary lacks;
            ``is_cut``: whether there are more ids than are kept.

    Args:
        table: Has ``tokens``.
        words: The vocabulary.
        max_length: Ids kept of each text.
    """
    tokens = tokens_of(table)
    encoded = words.encode(tokens, max_length=max_length)
    num_dropped = 0 if words.has_unknown else encoded.num_unknown
    is_cut = np.diff(tokens.offsets) - num_dropped > max_length
    lengths = pc.list_value_length(encoded.token_ids).cast(pa.int32())
    table = table.append_column("token_ids", encoded.token_ids)
    table = table.append_column("length", lengths)
    table = table.append_column("num_unknown", pa.array(encoded.num_unknown))
    return table.append_column("is_cut", pa.array(is_cut))


def to_column(tokens: Tokens) -> pa.ListArray:
    """Make a column of lists of words, as indexes into the distinct words."""
    words = pa.DictionaryArray.from_arrays(pa.array(tokens.ids, pa.int32()), tokens.words)
    return pa.ListArray.from_arrays(pa.array(tokens.offsets.astype(np.int32)), words)


def tokens_of(table: pa.Table) -> Tokens:
    """Take the tokens out of the column ``tokens``."""
    lists = one_array(table["tokens"])
    offsets, words = lists.offsets.to_numpy().astype(np.int64), lists.flatten()
    return Tokens(words.dictionary, words.indices.to_numpy(), offsets - offsets[0])


def set_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """Replace a column."""
    return table.set_column(table.column_names.index(name), name, values)
