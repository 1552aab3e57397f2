"""Results of all parts -> the counts of a preparation, or the reason why the corpus is refused."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sentiflow.config.class_names import MIN_CLASS_ROWS, UNLABELLED
from sentiflow.data import row_checks
from sentiflow.data.manifest_types import Counts, FileEntry, merge_counts
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError, few, rows_are

NUM_EXAMPLES = 3
"""Rejected rows that a message shows."""

PartJson = dict[str, Any]
"""Some fields of :class:`PartCounts` as JSON, as a completion marker keeps them."""
LabelCounts = dict[str, dict[str, int]]
"""Rows by split and label name; ``unlabelled`` counts rows without a label."""


@dataclass(frozen=True, kw_only=True)
class PartCounts:
    """What has become of the rows of a part in one map stage, or of those of several parts.

    Reading a part sets the first fields, encoding it the last four.
    """

    peak_memory_bytes: int
    """Most memory that a process has taken so far."""
    files: list[FileEntry]
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows that are left out, by reason: ``steps.LEFT_OUT``."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Rejected rows by reason."""
    examples: list[str] = field(default_factory=list)
    """A few rejected rows as text, for error messages."""
    unknown_labels: dict[str, int] = field(default_factory=dict)
    """Rows that are rejected for a label that no class names, by its value: the most frequent."""
    rejected_test: int = 0
    """Rejected rows that are given as test rows."""
    damaged: int = 0
    """Accepted rows whose text has U+FFFD, which stands for invalid bytes and for U+0000."""
    labels: LabelCounts = field(default_factory=dict)
    """Accepted rows."""
    corrected: int = 0
    """Rows among them whose label is one of ``prepare.corrections``."""
    encoded: int = 0
    """Rows that were encoded: unlabelled ones, or those of a class that can be learned."""
    without_token: int = 0
    """Rows among them in which the vocabulary knows no token."""
    cut: int = 0
    """Rows among them with more tokens than ``prepare.max_length``."""
    tokens: dict[str, dict[str, int]] = field(default_factory=dict)
    """By split: ``tokens``, and those ``unknown`` to the vocabulary."""

    @classmethod
    def of(cls, parts: Sequence[PartJson]) -> "PartCounts":
        """Add up the results of all parts in one map stage."""
        peak = max(part["peak_memory_bytes"] for part in parts)
        return cls(**merge_counts(parts) | {"peak_memory_bytes": peak})

    @property
    def accepted(self) -> int:
        """Accepted rows of all splits."""
        return sum(sum(counts.values()) for counts in self.labels.values())

    @property
    def labelled(self) -> int:
        """Accepted rows with a label."""
        return self.accepted - sum(counts.get(UNLABELLED, 0) for counts in self.labels.values())

    @property
    def rejected(self) -> int:
        """Rejected rows."""
        return sum(self.reasons.values())


def check_rejected(
    counts: PartCounts, *, max_rejected_fraction: float, section: str = "format"
) -> None:
    """Refuse a corpus if too many rows were rejected, or too many labels are unknown.

    Args:
        counts: The counts of all parts.
        max_rejected_fraction: Share of the rows that may be rejected, and of the labels that may
            be unknown.
        section: The section with the format of its files.

    Raises:
        UserError: Too many rows are rejected, or none is accepted.
    """
    judged, unknown_labels = (
        counts.accepted + counts.rejected,
        counts.reasons.get(row_checks.UNKNOWN_LABEL, 0),
    )
    share = unknown_labels / max(1, counts.labelled + unknown_labels)
    if counts.accepted and max(counts.rejected / judged, share) <= max_rejected_fraction:
        return
    problem = "too many rows were rejected" if counts.accepted else "no row was accepted"
    reasons = row_checks.list_reasons(counts.reasons) or "no rows"
    also, way_out = "", f"correct the CSV or the section {section}"
    if counts.unknown_labels:
        unknown = row_checks.list_unknown(counts.unknown_labels)
        also = f", {share:.1%} of the labels; labels that format.labels does not name: {unknown}"
        way_out = f"name them there, as a class or as unlabelled, {way_out}"
    examples = "".join(f"\n  {example}" for example in counts.examples[:NUM_EXAMPLES])
    raise UserError(
        f"{problem}: {counts.rejected:,} of {judged:,} rejected ({reasons}){also}",
        hint=f"{way_out}, or raise prepare.max_rejected_fraction{examples}",
    )


def check_test(counts: PartCounts, *, max_rejected_fraction: float) -> list[str]:
    """Refuse given test rows if too many of them were rejected.

    Returns:
        Notes for the user.

    Raises:
        UserError: Too many are rejected, or none is accepted.
    """
    rejected, accepted = counts.rejected_test, sum(counts.labels["test"].values())
    if rejected > max_rejected_fraction * (rejected + accepted) or not accepted:
        raise UserError(
            f"too many test rows were rejected: {rejected:,} of {rejected + accepted:,} "
            f"(of all rows: {row_checks.list_reasons(counts.reasons) or 'none'})",
            hint="correct them, or raise prepare.max_rejected_fraction",
        )
    return [f"{rows_are(rejected, 'test ')} rejected, and in no figure"] if rejected else []


def choose_classes(
    labels: Sequence[Mapping[str, int]], *, corrected: Mapping[str, int] | None = None
) -> tuple[str, ...]:
    """Take the written labels of all parts as the names of the classes, for ``labels: auto``.

    Args:
        labels: The rows of each part by label.
        corrected: Rows by corrected label, which may be written in another case.

    Raises:
        UserError: There are too few or too many, or one is no name.
    """
    counts = Counter(merge_counts(labels))
    written = {name.casefold(): name for name in counts}
    for name, number in (corrected or {}).items():
        counts[written.setdefault(name.casefold(), name)] += number
    return row_checks.choose_classes(counts)


def check_classes(
    counts: PartCounts,
    *,
    learned: Sequence[str],
    are_named: bool = False,
    has_fixed_test: bool = False,
    empty: Sequence[str] = (),
) -> list[str]:
    """Refuse a corpus that cannot be trained on.

    Args:
        counts: The counts of all parts.
        learned: Classes that a model is to learn; one without any row to learn is none of them.
        are_named: Whether the settings name them. Otherwise a class of fewer than
            ``MIN_CLASS_ROWS`` rows is left out.
        has_fixed_test: Whether the test rows are given: then they do not count.
        empty: Splits that the settings want empty.

    Returns:
        Notes for the user.

    Raises:
        UserError: Fewer than two classes can be learned, a named class has too few rows, or the
            train split has none of a class.
    """
    splits = SPLITS[:2] if has_fixed_test else SPLITS
    rows = {name: [counts.labels[split].get(name, 0) for split in splits] for name in learned}
    present, missing = [n for n in rows if any(rows[n])], [n for n in rows if not any(rows[n])]
    if len(present) < 2:
        raise UserError(
            f"none of the {counts.accepted:,} accepted rows is {' or '.join(few(missing))}",
            hint="a classifier needs two classes or more; is the CSV cut short"
            f"{', or has it the texts of prepare.test' if has_fixed_test else ''}?",
        )
    rare = [name for name in present if sum(rows[name]) < MIN_CLASS_ROWS]
    shown = ", ".join(few([f"{name} ({sum(rows[name])})" for name in rare]))
    if rare and (are_named or len(present) - len(rare) < 2):
        raise UserError(
            f"a class needs {MIN_CLASS_ROWS} rows or more, and {len(rare)} of {len(rows)} have "
            f"fewer: {shown}",
            hint="add rows, or leave them out: name the others in train.classes",
        )
    texts = {
        f"no row to learn is {' or '.join(few(missing))}, so that a model does not learn "
        "it": missing,
        f"classes of fewer than {MIN_CLASS_ROWS} rows are not learned, and their rows count as "
        f"mistakes: {shown}": rare,
    }
    notes = [text for text, classes in texts.items() if classes]
    enough = {name: rows[name] for name in present if name not in rare}
    for name, numbers in enough.items():
        if not numbers[0]:
            listed = ", ".join(f"{n:,} {s}" for s, n in zip(splits, numbers, strict=True))
            raise UserError(
                f"the {SPLITS[0]} split has no {name} row ({listed})",
                hint="use more rows, another prepare.split.kind, or leave it out: name the others "
                "in train.classes",
            )
    for number, split in enumerate(splits):
        lacking = [name for name in enough if not enough[name][number]]
        if lacking and (split not in empty or len(lacking) < len(enough)):
            notes.append(f"the {split} split has no row of {', '.join(few(lacking))}")
    return notes


def count_rows(counts: PartCounts, num_rows: int) -> Counts:
    """Count accepted, rejected and left-out rows for the manifest.

    Args:
        counts: The counts of all parts.
        num_rows: Rows of the input.
    """
    left_out = sum(counts.left_out.values())
    assert num_rows == counts.accepted + counts.rejected + left_out, "each row is counted once"
    return {
        "rows_read": num_rows,
        "accepted": counts.accepted,
        "damaged": counts.damaged,
        "rejected": counts.rejected,
        "left_out": left_out,
        "left_out_by_reason": counts.left_out,
        "rejected_by_reason": counts.reasons,
    }


def count_encoded(read: PartCounts, encoded: PartCounts, num_labels: int) -> Counts:
    """Count rows by label, encoded rows, and those with one of ``num_labels`` corrected labels."""
    counts = {
        "labels": read.labels,
        "encoded": encoded.encoded,
        "encoded_without_token": encoded.without_token,
        "encoded_cut": encoded.cut,
    }
    corrections = {"labels": num_labels, "rows": read.corrected}
    return counts | ({"corrections": corrections} if num_labels else {})


def describe_tokens(counts: PartCounts) -> dict[str, Counts]:
    """Count the tokens, and the unknown tokens, of each split."""
    return {
        split: {
            "tokens": tokens["tokens"],
            "unknown": tokens["unknown"],
            "unknown_fraction": round(tokens["unknown"] / max(1, tokens["tokens"]), 5),
        }
        for split, tokens in counts.tokens.items()
    }
