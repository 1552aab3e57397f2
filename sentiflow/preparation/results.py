"""Results of all parts -> the counts of a preparation, or the reason why the corpus is refused."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sentiflow.config.classes import UNLABELLED
from sentiflow.data import tweets
from sentiflow.data.manifest_types import Counts, FileEntry, SplitTokens
from sentiflow.data.schema import SPLITS
from sentiflow.errors import JobError, UserError

MIN_ROWS = 10
"""Rows that a class must have, to be in every split and to be learned at all."""
_NUM_EXAMPLES, _NUM_CLASSES = 3, 10

PartJson = dict[str, Any]
"""The result of a part as JSON, as its completion marker keeps it."""
LabelCounts = dict[str, dict[str, int]]
"""Rows by split and label name; ``unlabelled`` counts rows without a label."""
TokenCounts = dict[str, dict[str, int]]
"""By split: ``tokens``, and those ``unknown`` to the vocabulary."""


@dataclass(frozen=True)
class WrittenLabels:
    """The labels of a part as they are written, without the rows that have none."""

    num_values: int
    """Different ones."""
    rows: dict[str, int]
    """Rows by value, see ``tweets.count_unknown``."""


@dataclass(frozen=True, kw_only=True)
class CheckedPart:
    """A part that was read and checked."""

    peak_memory_bytes: int
    """Most memory that the process of the task has taken so far."""
    left_out: dict[str, int]
    """Rows that are left out, by reason: ``steps.LEFT_OUT``."""
    reasons: dict[str, int]
    """Rejected rows by reason."""
    examples: list[str]
    """A few rejected rows as text, for error messages."""
    files: list[FileEntry]
    unknown_labels: dict[str, int] = field(default_factory=dict)
    """Rows that are rejected for a label that no class names, by its value: the most frequent."""
    damaged: int = 0
    """Accepted rows whose text has U+FFFD, which stands for bytes that are invalid."""


@dataclass(frozen=True, kw_only=True)
class IngestedPart(CheckedPart):
    """A part that was read, checked, split and tokenized."""

    labels: LabelCounts
    """Accepted rows."""
    corrected: int = 0
    """Rows among them whose label is one of ``prepare.corrections``."""
    relabelled: int = 0
    """Rows among these that the corpus gives another label, or none, or an unknown one."""

    @property
    def accepted(self) -> int:
        """Accepted rows of all splits."""
        return sum(sum(counts.values()) for counts in self.labels.values())


@dataclass(frozen=True, kw_only=True)
class UnlabelledPart(CheckedPart):
    """A part of the unlabelled texts that was read, checked, tokenized and encoded."""

    accepted: int
    without_token: int
    """Accepted rows in which the vocabulary knows no token."""
    tokens: int
    unknown: int
    """Tokens that the vocabulary lacks."""


@dataclass(frozen=True)
class EncodedPart:
    """A part whose tokens were replaced by ids."""

    peak_memory_bytes: int
    """Most memory that the process of the task has taken so far."""
    encoded: int
    """Rows of a class that can be learned."""
    without_token: int
    """Rows among them in which the vocabulary knows no token."""
    tokens: TokenCounts
    files: list[FileEntry]


def check_rejected(
    parts: Sequence[IngestedPart] | Sequence[UnlabelledPart],
    *,
    max_rejected_fraction: float,
    section: str = "format",
) -> None:
    """Refuse a corpus if too many rows were rejected.

    Args:
        parts: Its parts.
        max_rejected_fraction: Share of the rows that may be rejected.
        section: The section with the format of its files.

    Raises:
        UserError: Too many rows are rejected, or none is accepted.
    """
    accepted = _count_accepted(parts)
    reasons = _sum_counters(part.reasons for part in parts)
    rejected = reasons.total()
    judged = accepted + rejected
    if (judged and rejected / judged > max_rejected_fraction) or not accepted:
        by_reason = tweets.list_reasons(reasons)
        examples = [example for part in parts for example in part.examples][:_NUM_EXAMPLES]
        left_out = _sum_counters(part.left_out for part in parts).total()
        also = f", {left_out:,} left out" if left_out and not accepted else ""
        problem = "no row was accepted" if not accepted else "too many rows were rejected"
        unknown = list_unknown(parts)
        named = f"; labels that format.labels does not name: {unknown}" if unknown else ""
        name = "name them there, as a class or as unlabelled, " if unknown else ""
        raise UserError(
            f"{problem}: {rejected:,} of {judged:,} rejected ({by_reason or 'no rows'}){also}"
            f"{named}",
            hint=f"{name}correct the CSV or the section {section}, or raise "
            "prepare.max_rejected_fraction" + "".join(f"\n  {example}" for example in examples),
        )


def list_unknown(parts: Sequence[CheckedPart]) -> str:
    """List the values of labels for which rows were rejected, with their counts."""
    return tweets.list_unknown(_sum_counters(part.unknown_labels for part in parts))


def choose_classes(
    found: Sequence[WrittenLabels], *, corrected: Mapping[str, int] | None = None
) -> tuple[str, ...]:
    """Take the written labels of all parts as the names of the classes, for ``labels: auto``.

    Args:
        found: The written labels of each part.
        corrected: Rows by corrected label, which may be written in another case.

    Raises:
        UserError: There are too few or too many, or one is no name.
    """
    counts = _sum_counters(part.rows for part in found)
    written = {name.casefold(): name for name in counts}
    for name, number in (corrected or {}).items():
        counts[written.setdefault(name.casefold(), name)] += number
    return tweets.choose_classes(counts, num_values=max(part.num_values for part in found))


def check_classes(parts: Sequence[IngestedPart], *, learned: Sequence[str]) -> list[str]:
    """Refuse a corpus that cannot be trained on.

    Args:
        parts: Results of ingestion.
        learned: Classes that a model is to learn; one without any row is none of them.

    Returns:
        Notes for the user.

    Raises:
        UserError: Fewer than two classes have rows, or one has too few, or none in a split.
    """
    labels = _sum_labels(parts)
    rows = {name: [labels[split][name] for split in SPLITS] for name in learned}
    present, missing = [n for n in rows if any(rows[n])], [n for n in rows if not any(rows[n])]
    if len(present) < 2:
        raise UserError(
            f"none of the {_count_accepted(parts):,} accepted rows is {' or '.join(missing)}",
            hint="a classifier needs two classes or more; is the CSV cut short?",
        )
    if rare := [name for name in present if sum(rows[name]) < MIN_ROWS]:
        shown = [f"{name} ({sum(rows[name])})" for name in rare[:_NUM_CLASSES]]
        more = ", ..." if len(rare) > _NUM_CLASSES else ""
        raise UserError(
            f"a class needs {MIN_ROWS} rows or more, and {len(rare)} of {len(rows)} have fewer: "
            f"{', '.join(shown)}{more}",
            hint="add rows, or leave them out: name the others in train.classes",
        )
    for name in present:
        if not all(rows[name]):
            found = ", ".join(f"{n:,} {split}" for split, n in zip(SPLITS, rows[name], strict=True))
            raise UserError(
                f"the {SPLITS[rows[name].index(0)]} split has no {name} row ({found})",
                hint="every split needs every class: use more rows, larger fractions, another "
                "prepare.split.kind, or leave it out: name the others in train.classes",
            )
    note = f"no row is {' or '.join(missing)}, so that a model does not learn it"
    return [note] if missing else []


def count(
    parts: Sequence[IngestedPart],
    encoded: Sequence[EncodedPart],
    *,
    classes: Sequence[str],
    num_rows: int,
    vocabulary_size: int,
) -> Counts:
    """Count accepted, rejected, left-out and encoded rows for the manifest.

    Args:
        parts: Results of ingestion.
        encoded: Results of encoding.
        classes: All classes in order.
        num_rows: Rows of the input.
        vocabulary_size: Words of the vocabulary.

    Raises:
        JobError: The parts do not add up to the rows of the input.
    """
    return _count_rows(parts, num_rows) | {
        "labels": {
            split: {name: count[name] for name in (*classes, UNLABELLED)}
            for split, count in _sum_labels(parts).items()
        },
        "encoded": sum(part.encoded for part in encoded),
        "encoded_without_token": sum(part.without_token for part in encoded),
        "vocabulary_size": vocabulary_size,
    }


def count_unlabelled(parts: Sequence[UnlabelledPart], *, num_rows: int) -> Counts:
    """Count the unlabelled texts for the manifest, see :func:`count`."""
    tokens, unknown = sum(part.tokens for part in parts), sum(part.unknown for part in parts)
    return _count_rows(parts, num_rows) | {
        "without_token": sum(part.without_token for part in parts),
        "tokens": _describe_tokens(tokens, unknown),
    }


def count_corrections(parts: Sequence[IngestedPart], *, num_labels: int) -> Counts:
    """Count corrections for the manifest.

    Args:
        parts: Results of ingestion.
        num_labels: Labels in the files.
    """
    return {
        "labels": num_labels,
        "rows": sum(part.corrected for part in parts),
        "changed": sum(part.relabelled for part in parts),
    }


def describe_unlabelled(counts: Counts) -> str:
    """Tell the user what became of the unlabelled texts.

    Args:
        counts: By :func:`count_unlabelled`.
    """
    listed = tweets.list_reasons(counts["left_out_by_reason"])
    return (
        f"{counts['rows_read']:,} unlabelled texts read, {counts['accepted']:,} accepted, "
        f"{counts['rejected']:,} rejected, {counts['left_out']:,} left out"
        + (f" ({listed})" if listed else "")
    )


def _count_rows(parts: Sequence[IngestedPart] | Sequence[UnlabelledPart], num_rows: int) -> Counts:
    """Count accepted, rejected and left-out rows."""
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
        "damaged": sum(part.damaged for part in parts),
        "rejected": reasons.total(),
        "left_out": left_out.total(),
        "left_out_by_reason": {name: count for name, count in left_out.items() if count},
        "rejected_by_reason": dict(reasons),
    }


def sum_tokens(encoded: Sequence[EncodedPart]) -> dict[str, SplitTokens]:
    """Count the tokens, and the unknown tokens, of each split."""
    by_split: dict[str, SplitTokens] = {}
    for split in SPLITS:
        total = _sum_counters(part.tokens[split] for part in encoded)
        by_split[split] = _describe_tokens(total["tokens"], total["unknown"])
    return by_split


def _describe_tokens(tokens: int, unknown: int) -> SplitTokens:
    fraction = round(unknown / tokens if tokens else 0.0, 5)
    return {"tokens": tokens, "unknown": unknown, "unknown_fraction": fraction}


def _count_accepted(parts: Sequence[IngestedPart] | Sequence[UnlabelledPart]) -> int:
    return sum(part.accepted for part in parts)


def _sum_labels(parts: Sequence[IngestedPart]) -> dict[str, Counter[str]]:
    return {split: _sum_counters(part.labels[split] for part in parts) for split in SPLITS}


def _sum_counters(counters: Iterable[Mapping[str, int]]) -> Counter[str]:
    return sum(map(Counter, counters), Counter())
