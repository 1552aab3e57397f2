"""The manifest of prepared data -> its classes, and the splits that were given to its files."""

import itertools
from collections.abc import Iterator

from sentiflow.config.class_names import BINARY, MIN_CLASS_ROWS
from sentiflow.data import manifest
from sentiflow.data.manifest_types import InputFile, Manifest

TOKENS_PER_ROW = 15.0
"""Tokens of a short text: where no row has any, or none can be read, rows count as such texts."""


def find_tokens_per_row(prepared: Manifest) -> float:
    """Compute how many tokens the network reads of a train row."""
    num_tokens = prepared["vocabulary"]["tokens"]["train"]["tokens"]
    num_rows = sum(prepared["counts"]["labels"]["train"].values())
    return average_tokens(num_tokens, num_rows)


def average_tokens(num_tokens: float, num_rows: float) -> float:
    """Compute the tokens of a row from those of some rows.

    Example:
        >>> average_tokens(600, 20), average_tokens(0, 20), average_tokens(0, 0)
        (30.0, 15.0, 15.0)
    """
    return num_tokens / max(1, num_rows) or TOKENS_PER_ROW


def given_splits(prepared: Manifest) -> Iterator[tuple[InputFile, str | None]]:
    """Pair each input file of prepared data with the split given to its rows; None: not given."""
    files = prepared["inputs"]["csv"]["files"]
    of_first_files = prepared["settings"].get("fixed_files", [])
    splits = itertools.chain(of_first_files, itertools.repeat(None))
    return zip(files, splits, strict=False)


def has_given_test(prepared: Manifest) -> bool:
    """Say whether the test rows of prepared data are from files of their own."""
    return "test" in prepared.get("fixed_splits", ())


def identify_learned_files(prepared: Manifest) -> set[str]:
    """Identify the input files of prepared data by content, without files of given test rows."""
    return {
        manifest.identify_file(file) for file, split in given_splits(prepared) if split != "test"
    }


def find_learnable(record: Manifest) -> tuple[str, ...]:
    """Return the classes whose rows prepare encodes, in the order of :func:`manifest.find_classes`.

    These are all classes; for Sentiment140 only negative and positive.
    """
    if record["settings"]["format"]["kind"] == "sentiment140":
        return BINARY
    return manifest.find_classes(record)


def find_default_classes(record: Manifest) -> tuple[str, ...]:
    """Return the classes of prepared data that a model learns unless the settings name others.

    A class needs ``MIN_CLASS_ROWS`` rows, not counting given test rows. If only negative and
    positive can be learned, both always are.
    """
    learnable = find_learnable(record)
    if learnable == BINARY:
        return learnable
    rows_by_class = dict.fromkeys(learnable, 0)
    for split, rows in record["counts"]["labels"].items():
        if split == "test" and has_given_test(record):
            continue
        for name in learnable:
            rows_by_class[name] += rows.get(name, 0)
    return tuple(name for name, rows in rows_by_class.items() if rows >= MIN_CLASS_ROWS)
