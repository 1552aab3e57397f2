"""Results of all parts -> the counts of a preparation, or the reason why the corpus is refused."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sentiflow.data.manifest_types import Counts, FileEntry, SplitTokens
from sentiflow.data.schema import LABEL_NAMES, NEGATIVE, POSITIVE, SPLITS
from sentiflow.errors import JobError, UserError

_NUM_EXAMPLES = 3

LabelCounts = dict[str, dict[str, int]]
"""Rows by split and label name; ``unlabelled`` counts rows without a label."""
TokenCounts = dict[str, dict[str, int]]
"""By split: ``tokens``, and those ``unknown`` to the vocabulary."""


@dataclass(frozen=True)
class IngestedPart:
    """A part that was read, checked, split and tokenized."""

    peak_memory_bytes: int
    """Most memory that the process of the task has taken so far."""
    left_out: dict[str, int]
    """Rows that the settings leave out, by reason: ``steps.LEFT_OUT``."""
    reasons: dict[str, int]
    """Rejected rows by reason."""
    examples: list[str]
    """A few rejected rows as text, for error messages."""
    labels: LabelCounts
    """Accepted rows."""
    files: list[FileEntry]


@dataclass(frozen=True)
class EncodedPart:
    """A part whose tokens were replaced by ids."""

    peak_memory_bytes: int
    """Most memory that the process of the task has taken so far."""
    encoded: int
    """Rows with a binary label."""
    without_token: int
    """Rows among them in which the vocabulary knows no token."""
    tokens: TokenCounts
    files: list[FileEntry]


def check_rejected(parts: Sequence[IngestedPart], *, max_rejected_fraction: float) -> None:
    """Refuse a corpus if too many rows were rejected.

    Raises:
        UserError: Too many rows are rejected, or none is accepted.
    """
    accepted = _count_accepted(parts)
    reasons = _sum_counters(part.reasons for part in parts)
    rejected = reasons.total()
    judged = accepted + rejected
    if (judged and rejected / judged > max_rejected_fraction) or not accepted:
        by_reason = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        examples = [example for part in parts for example in part.examples][:_NUM_EXAMPLES]
        problem = "no row was accepted" if not accepted else "too many rows were rejected"
        raise UserError(
            f"{problem}: {rejected:,} of {judged:,} rejected ({by_reason or 'no rows'})",
            hint="correct the CSV or the section format, or raise prepare.max_rejected_fraction"
            + "".join(f"\n  {example}" for example in examples),
        )


def check_classes(parts: Sequence[IngestedPart]) -> None:
    """Refuse a corpus that cannot be trained on.

    Raises:
        UserError: A class has no row at all, or none in one of the splits.
    """
    labels = _sum_labels(parts)
    for label in (NEGATIVE, POSITIVE):
        if not sum(labels[split][LABEL_NAMES[label]] for split in SPLITS):
            raise UserError(
                f"none of the {_count_accepted(parts):,} accepted rows is {LABEL_NAMES[label]}",
                hint="a classifier needs both classes; is the CSV cut short?",
            )
    for split in SPLITS:
        for label in (NEGATIVE, POSITIVE):
            if not labels[split][LABEL_NAMES[label]]:
                raise UserError(
                    f"the {split} split has no {LABEL_NAMES[label]} row",
                    hint="every split needs both classes: use more rows, larger fractions, or "
                    "another prepare.split.kind",
                )


def count(
    parts: Sequence[IngestedPart],
    encoded: Sequence[EncodedPart],
    *,
    num_rows: int,
    vocabulary_size: int,
) -> Counts:
    """Count accepted, rejected, left-out and encoded rows for the manifest.

    Args:
        parts: Results of ingestion.
        encoded: Results of encoding.
        num_rows: Rows of the input.
        vocabulary_size: Words of the vocabulary.

    Raises:
        JobError: The parts do not add up to the rows of the input.
    """
    accepted = _count_accepted(parts)
    reasons = _sum_counters(part.reasons for part in parts)
    left_out = _sum_counters(part.left_out for part in parts)
    found = accepted + reasons.total() + left_out.total()
    if num_rows != found:
        raise JobError(
            f"the input has {num_rows:,} rows, but the parts have {found:,}: run again with "
            "--overwrite, and report this"
        )
    return {
        "rows_read": num_rows,
        "accepted": accepted,
        "rejected": reasons.total(),
        "left_out": left_out.total(),
        "left_out_by_reason": {name: count for name, count in left_out.items() if count},
        "rejected_by_reason": dict(reasons),
        "labels": {split: dict(count) for split, count in _sum_labels(parts).items()},
        "encoded": sum(part.encoded for part in encoded),
        "encoded_without_token": sum(part.without_token for part in encoded),
        "vocabulary_size": vocabulary_size,
    }


def sum_tokens(encoded: Sequence[EncodedPart]) -> dict[str, SplitTokens]:
    """Count the tokens, and the unknown tokens, of each split."""
    by_split: dict[str, SplitTokens] = {}
    for split in SPLITS:
        total = _sum_counters(part.tokens[split] for part in encoded)
        tokens, unknown = total["tokens"], total["unknown"]
        fraction = round(unknown / tokens if tokens else 0.0, 5)
        by_split[split] = {"tokens": tokens, "unknown": unknown, "unknown_fraction": fraction}
    return by_split


def _count_accepted(parts: Sequence[IngestedPart]) -> int:
    return sum(labels.total() for labels in _sum_labels(parts).values())


def _sum_labels(parts: Sequence[IngestedPart]) -> dict[str, Counter[str]]:
    return {split: _sum_counters(part.labels[split] for part in parts) for split in SPLITS}


def _sum_counters(counters: Iterable[Mapping[str, int]]) -> Counter[str]:
    return sum(map(Counter, counters), Counter())
