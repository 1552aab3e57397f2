"""Results of all parts -> the counts of a preparation, or why its corpus cannot be used."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from sentiflow.data.manifest_types import FileEntry
from sentiflow.data.schema import LABEL_NAMES, NEGATIVE, POSITIVE, SPLITS
from sentiflow.errors import JobError, UserError

_NUM_EXAMPLES = 3


def check_rejected(parts: Sequence[dict[str, Any]], *, max_rejected_fraction: float) -> None:
    """Refuse a corpus of which too little is good.

    Raises:
        UserError: Too many rows are rejected, or none is accepted.
    """
    accepted = sum(sum(count.values()) for count in _sum_labels(parts).values())
    reasons = _sum_counters(part["reasons"] for part in parts)
    rejected = reasons.total()
    judged = accepted + rejected
    if (judged and rejected / judged > max_rejected_fraction) or not accepted:
        by_reason = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        examples = [example for part in parts for example in part["examples"]][:_NUM_EXAMPLES]
        problem = "no row was accepted" if not accepted else "too many rows were rejected"
        raise UserError(
            f"{problem}: {rejected:,} of {judged:,} rejected ({by_reason or 'none judged'})",
            hint="mend the CSV or format, or raise prepare.max_rejected_fraction"
            + "".join(f"\n  {example}" for example in examples),
        )


def check_classes(parts: Sequence[dict[str, Any]]) -> None:
    """Refuse a corpus that cannot be trained on.

    Raises:
        UserError: A class is missing altogether, or in a split.
    """
    labels = _sum_labels(parts)
    accepted = sum(sum(count.values()) for count in labels.values())
    for label in (NEGATIVE, POSITIVE):
        if not sum(labels[split][LABEL_NAMES[label]] for split in SPLITS):
            raise UserError(
                f"none of the {accepted:,} accepted rows is {LABEL_NAMES[label]}",
                hint="a classifier needs both classes; is the CSV cut short?",
            )
    for split in SPLITS:
        for label in (NEGATIVE, POSITIVE):
            if not labels[split][LABEL_NAMES[label]]:
                raise UserError(
                    f"the {split} split has no {LABEL_NAMES[label]} row",
                    hint="every split needs both classes; take more rows, larger fractions, or "
                    "another prepare.split.kind",
                )


def count(
    parts: Sequence[dict[str, Any]],
    encoded: Sequence[dict[str, Any]],
    *,
    num_rows: int,
    vocabulary_size: int,
) -> dict[str, Any]:
    """Count rows by what became of them.

    Args:
        parts: What the ingested parts came to.
        encoded: What the encoded parts came to.
        num_rows: Rows of the input.
        vocabulary_size: Words of the vocabulary.

    Raises:
        JobError: Not every row of the input came out of the parts.
    """
    labels = _sum_labels(parts)
    accepted = sum(sum(count.values()) for count in labels.values())
    reasons = _sum_counters(part["reasons"] for part in parts)
    left_out = _sum_counters(
        {"every_nth": part["left_out"]} | part.get("dropped", {}) for part in parts
    )
    found = accepted + reasons.total() + left_out.total()
    if num_rows != found:
        raise JobError(
            f"of {num_rows:,} rows {found:,} came out of the parts; run again with "
            "--overwrite, and report this"
        )
    return {
        "rows_read": num_rows,
        "accepted": accepted,
        "rejected": reasons.total(),
        "left_out": left_out.total(),
        "left_out_by_reason": {name: count for name, count in left_out.items() if count},
        "rejected_by_reason": dict(reasons),
        "labels": {split: dict(count) for split, count in labels.items()},
        "encoded": sum(part["encoded"] for part in encoded),
        "encoded_without_token": sum(part["without_token"] for part in encoded),
        "vocabulary_size": vocabulary_size,
    }


def sum_tokens(encoded: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sum tokens, and those that are not known, by split."""
    by_split = {}
    for split in SPLITS:
        total = _sum_counters(part["tokens"][split] for part in encoded)
        share = total["unknown"] / total["tokens"] if total["tokens"] else 0.0
        by_split[split] = dict(total) | {"unknown_fraction": round(share, 5)}
    return {"tokens": by_split}


def sum_usage(
    parts: Sequence[dict[str, Any]],
    encoded: Sequence[dict[str, Any]],
    files: Sequence[FileEntry],
) -> dict[str, Any]:
    """Sum the bytes read and written, and find the most memory that a task's process took."""
    return {
        "bytes_read": sum(part["bytes"] for part in parts),
        "bytes_written": sum(item["bytes"] for item in files),
        "peak_memory_bytes": max(part["peak_memory_bytes"] for part in (*parts, *encoded)),
    }


def _sum_labels(parts: Sequence[dict[str, Any]]) -> dict[str, Counter[str]]:
    return {split: _sum_counters(part["labels"][split] for part in parts) for split in SPLITS}


def _sum_counters(counters: Iterable[dict[str, int]]) -> Counter[str]:
    return sum(map(Counter, counters), Counter())
