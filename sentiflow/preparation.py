"""CSV files -> checked, split, encoded Parquet and a vocabulary.

Two passes over the parts. The first reads, checks, splits and tokenizes, writes the tweets and the
rejected rows, and leaves each part's tokens as numbers into the part's own list of words. Then the
vocabulary is fitted from those lists. The second pass translates the numbers, which is a look-up.
"""

import functools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow import (
    cluster,
    corpus,
    csv_ranges,
    manifest,
    schema,
    splits,
    storage,
    tweets,
    vocabulary,
    word_vectors,
)
from sentiflow.csv_ranges import CsvRange
from sentiflow.errors import JobError, UserError
from sentiflow.manifest import Claim
from sentiflow.progress import Progress, say
from sentiflow.schema import LABEL_NAMES, NEGATIVE, POSITIVE, SPLITS
from sentiflow.sections import Config, FormatSettings, PrepareSettings
from sentiflow.tokenizer import TOKENIZERS, Tokens, tokenize
from sentiflow.tracking import Recorder
from sentiflow.uris import join
from sentiflow.vocabulary import Vocabulary

STAGE = "prepare"
VOCABULARY = "vocabulary.parquet"
OWNS = ("tweets", "encoded", "rejected", VOCABULARY, "_work")

_WORK = pa.schema(
    [
        pa.field("row_id", pa.int64()),
        pa.field("label", pa.int8()),
        pa.field("split", pa.int8()),
        pa.field("words", pa.list_(pa.int32())),
    ]
)
"""Between the passes: ``words`` are numbers into the part's own list of words."""

_NUM_EXAMPLES = 3


def claim(config: Config) -> Claim:
    """Say what preparation would make; the CSV is read only if it changed since the last time.

    Raises:
        UserError: The CSV is not there.
    """
    settings = config.prepare
    uris = storage.expand(list(settings.csv))
    for uri in uris:
        if storage.file_info(uri).size == 0:
            raise UserError(f"{uri} holds no record", hint="it is empty; name another CSV")
    decisive = settings.model_dump(
        exclude={
            "csv": True,
            "output_uri": True,
            "max_rejected_fraction": True,
            "vocabulary": {"vectors_cache"},
        }
    )
    decisive["format"] = config.format.model_dump()
    decisive["versions"] = {
        "tokenizer": TOKENIZERS[settings.tokenizer][0],
        "csv": csv_ranges.RULES_VERSION,
        "splits": splits.RULES_VERSION,
    }
    record = manifest.read(settings.output_uri)
    known = record["inputs"].get("csv") if record else None
    found = manifest.files_input(uris, known=known) if known else {"fingerprint": "", "files": []}
    return Claim(STAGE, settings.output_uri, decisive, {"csv": found}, owns=OWNS)


def run(config: Config, recorder: Recorder, *, overwrite: bool) -> dict[str, Any]:
    """Prepare a corpus; returns the manifest.

    Raises:
        UserError: The input cannot be used: no record, too many rejected, a class missing. Then
            nothing is left behind.
    """
    began = time.monotonic()
    settings = config.prepare
    vectors = _load_vectors(settings)
    source = _cut(settings)
    target = replace(claim(config), inputs={"csv": source.files})
    manifest.begin(target, overwrite=overwrite)
    try:
        parts = _ingest(source, settings, config.format)
        _check_counts(parts, settings)
    except UserError:
        manifest.abandon(target)
        raise
    words, unknown = _fit(settings, vectors, len(source.parts))
    vocabulary_file = words.save(join(settings.output_uri, VOCABULARY))
    encoded = _encode(len(source.parts), settings)
    files = [item for part in (*parts, *encoded) for item in part["files"]]
    counts = _count(parts, encoded, source, words) | unknown
    seconds = time.monotonic() - began
    _report(counts, seconds, recorder)
    return manifest.publish(
        target,
        counts=counts,
        files=[*files, {"path": VOCABULARY} | vocabulary_file],
        seconds=seconds,
    )


def _load_vectors(settings: PrepareSettings) -> word_vectors.WordVectors:
    wanted = settings.vocabulary
    max_words = wanted.max_size if wanted.kind == "pretrained" else None
    return word_vectors.load(wanted.vectors, max_words=max_words, cache=wanted.vectors_cache)


def _cut(settings: PrepareSettings) -> corpus.Corpus:
    uris = storage.expand(list(settings.csv))
    total = sum(storage.file_info(uri).size or 0 for uri in uris)
    with Progress("prepare", total=total, unit="bytes") as progress:
        return corpus.open_csv(
            uris, rows_per_part=settings.rows_per_file, on_bytes=progress.advance
        )


def _ingest(
    source: corpus.Corpus, settings: PrepareSettings, form: FormatSettings
) -> list[dict[str, Any]]:
    """First pass: tweets, rejected rows and word numbers of every part."""
    work = functools.partial(ingest_part, parts=source.parts, settings=settings, form=form)
    results = []
    with Progress("prepare", total=source.num_rows, unit="rows") as progress:
        for result in cluster.map_parts(work, num_parts=len(source.parts)):
            results.append(result)
            progress.advance(result["rows"])
    return sorted(results, key=lambda result: result["part"])


def ingest_part(
    part: int, *, parts: Sequence[corpus.Part], settings: PrepareSettings, form: FormatSettings
) -> dict[str, Any]:
    """Read, check, split and tokenize one part of the CSV, and write what comes of it."""
    csv_range = parts[part]
    assert isinstance(csv_range, CsvRange), "the parts of a CSV are ranges"
    checked = tweets.read_range(
        csv_range,
        errors=form.errors,
        every_nth=settings.every_nth,
        keep_raw=settings.keep_raw,
    )
    accepted = checked.tweets.combine_chunks()
    text = accepted["text"].combine_chunks()
    split = _assign(accepted, text, settings)
    tokens = tokenize(text, name=settings.tokenizer)
    files = _write_by_split("tweets", part, accepted, split, settings.output_uri)
    files += storage.write_part(
        settings.output_uri, f"rejected/part-{part:05d}.parquet", checked.rejected
    )
    _write_work(part, accepted, split, tokens, settings.output_uri)
    reasons = Counter(checked.rejected["reason"].to_pylist())
    return {
        "part": part,
        "rows": csv_range.num_rows,
        "left_out": checked.num_left_out,
        "reasons": dict(reasons),
        "examples": _examples(checked.rejected),
        "labels": _count_labels(accepted["label"], split),
        "files": files,
    }


def _assign(accepted: pa.Table, text: pa.Array, settings: PrepareSettings) -> np.ndarray:
    if settings.split.kind == "tutorial":
        return splits.assign_by_row_number(accepted["row_id"].to_numpy())
    return splits.assign_by_hash(
        text,
        validation_fraction=settings.split.validation_fraction,
        test_fraction=settings.split.test_fraction,
    )


def _count_labels(label: pa.ChunkedArray, split: np.ndarray) -> dict[str, dict[str, int]]:
    """Count rows by split and label; ``unlabelled`` where it is null."""
    values = pc.fill_null(label, len(LABEL_NAMES)).to_numpy()
    names = (*LABEL_NAMES, "unlabelled")
    return {
        name: dict(zip(names, np.bincount(values[split == i], minlength=4).tolist(), strict=True))
        for i, name in enumerate(SPLITS)
    }


def _examples(rejected: pa.Table) -> list[str]:
    return [
        f"{row['source']}, byte {row['offset']}, row {row['row_id']}: {row['reason']}: "
        f"{row['raw'][:60]!r}"
        for row in rejected[:_NUM_EXAMPLES].to_pylist()
    ]


def _write_by_split(
    kind: str, part: int, table: pa.Table, split: np.ndarray, root: str
) -> list[dict[str, Any]]:
    files = []
    for number, name in enumerate(SPLITS):
        path = f"{kind}/split={name}/part-{part:05d}.parquet"
        files += storage.write_part(root, path, table.filter(pa.array(split == number)))
    return files


def _write_work(
    part: int, accepted: pa.Table, split: np.ndarray, tokens: Tokens, root: str
) -> None:
    lists = pa.ListArray.from_arrays(
        pa.array(tokens.offsets.astype(np.int32)), pa.array(tokens.ids, pa.int32())
    )
    columns = [accepted["row_id"], accepted["label"], pa.array(split), lists]
    storage.write_parquet(
        join(root, f"_work/tokens-{part:05d}.parquet"), pa.table(columns, schema=_WORK)
    )
    counts = pa.table({"word": tokens.words, "count": tokens.count(split == 0)})
    storage.write_parquet(join(root, f"_work/words-{part:05d}.parquet"), counts)


def _check_counts(parts: Sequence[dict[str, Any]], settings: PrepareSettings) -> None:
    """Refuse a corpus that cannot be trained on.

    Raises:
        UserError: Too many rows are rejected, none is accepted, or a split lacks a class.
    """
    labels = _sum_labels(parts)
    accepted = sum(sum(count.values()) for count in labels.values())
    rejected = sum(sum(part["reasons"].values()) for part in parts)
    judged = accepted + rejected
    if (judged and rejected / judged > settings.max_rejected_fraction) or not accepted:
        reasons: Counter[str] = sum((Counter(part["reasons"]) for part in parts), Counter())
        by_reason = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        examples = [example for part in parts for example in part["examples"]][:_NUM_EXAMPLES]
        problem = "no row was accepted" if not accepted else "too many rows were rejected"
        raise UserError(
            f"{problem}: {rejected:,} of {judged:,} rejected ({by_reason or 'none judged'})",
            hint="mend the CSV or format, or raise prepare.max_rejected_fraction"
            + "".join(f"\n  {example}" for example in examples),
        )
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
                    hint="every split needs both classes; take more rows or larger fractions",
                )


def _sum_labels(parts: Sequence[dict[str, Any]]) -> dict[str, Counter[str]]:
    return {
        split: sum((Counter(part["labels"][split]) for part in parts), Counter())
        for split in SPLITS
    }


def _fit(
    settings: PrepareSettings, vectors: word_vectors.WordVectors, num_parts: int
) -> tuple[Vocabulary, dict[str, Any]]:
    """Choose the words, and give each its vector; also says how many tokens stay unknown."""
    names = [join(settings.output_uri, f"_work/words-{i:05d}.parquet") for i in range(num_parts)]
    counts = pa.concat_tables([storage.read_parquet(name) for name in names])
    wanted = settings.vocabulary
    if wanted.kind == "pretrained":
        words = vocabulary.from_words(vectors.words)
    else:
        words = vocabulary.fit(counts, min_count=wanted.min_count, max_size=wanted.max_size)
    place = vectors.find(words.words)
    matrix = np.where((place >= 0)[:, None], vectors.vectors[place], np.nan).astype(np.float32)
    known = words.look_up(counts["word"].combine_chunks()) >= words.num_special
    total = pc.sum(counts["count"]).as_py() or 0
    unknown = total - int(counts["count"].to_numpy()[known].sum())
    report = {
        "train_tokens": total,
        "train_unknown_fraction": round(unknown / total, 5) if total else None,
        "words_with_vector": int((place >= 0).sum()),
    }
    return replace(words, vectors=matrix), report


def _encode(num_parts: int, settings: PrepareSettings) -> list[dict[str, Any]]:
    """Second pass: every part's word numbers to ids."""
    work = functools.partial(encode_part, settings=settings)
    with Progress("prepare", total=num_parts, unit="parts encoded") as progress:
        results = []
        for result in cluster.map_parts(work, num_parts=num_parts):
            results.append(result)
            progress.advance(1)
    return results


def encode_part(part: int, *, settings: PrepareSettings) -> dict[str, Any]:
    """Translate one part's word numbers to ids; rows without a binary label are left out."""
    root = settings.output_uri
    words = vocabulary.load(join(root, VOCABULARY), with_vectors=False)
    work = storage.read_parquet(join(root, f"_work/tokens-{part:05d}.parquet"))
    binary = pc.is_in(work["label"], value_set=pa.array([NEGATIVE, POSITIVE], pa.int8()))
    work = work.filter(binary).combine_chunks()
    lists = work["words"].combine_chunks()
    local = storage.read_parquet(join(root, f"_work/words-{part:05d}.parquet"), columns=["word"])
    tokens = Tokens(
        local["word"].combine_chunks(),
        lists.flatten().to_numpy(),
        lists.offsets.to_numpy().astype(np.int64) - lists.offsets[0].as_py(),
    )
    ids, _ = words.encode(tokens, max_length=settings.max_length)
    lengths = pc.list_value_length(ids).cast(pa.int32())
    table = pa.table([work["row_id"], work["label"], ids, lengths], schema=schema.ENCODED)
    split = work["split"].to_numpy()
    return {
        "rows": table.num_rows,
        "without_token": pc.sum(pc.equal(lengths, 0)).as_py() or 0,
        "files": _write_by_split("encoded", part, table, split, root),
    }


def _count(
    parts: Sequence[dict[str, Any]],
    encoded: Sequence[dict[str, Any]],
    source: corpus.Corpus,
    words: Vocabulary,
) -> dict[str, Any]:
    labels = _sum_labels(parts)
    accepted = sum(sum(count.values()) for count in labels.values())
    reasons: Counter[str] = sum((Counter(part["reasons"]) for part in parts), Counter())
    left_out = sum(part["left_out"] for part in parts)
    if source.num_rows != accepted + sum(reasons.values()) + left_out:
        raise JobError(
            f"of {source.num_rows:,} rows only {accepted + sum(reasons.values()) + left_out:,} "
            "came out of the parts; a part is missing"
        )
    return {
        "rows_read": source.num_rows,
        "accepted": accepted,
        "rejected": sum(reasons.values()),
        "left_out": left_out,
        "rejected_by_reason": dict(reasons),
        "labels": {split: dict(count) for split, count in labels.items()},
        "encoded": sum(part["rows"] for part in encoded),
        "encoded_without_token": sum(part["without_token"] for part in encoded),
        "vocabulary_size": len(words),
    }


def _report(counts: dict[str, Any], seconds: float, recorder: Recorder) -> None:
    rate = counts["rows_read"] / seconds
    say(
        STAGE,
        f"{counts['rows_read']:,} rows read, {counts['accepted']:,} accepted, "
        f"{counts['rejected']:,} rejected; {counts['vocabulary_size']:,} words "
        f"({seconds:.1f} s, {rate:,.0f} rows/s)",
    )
    names = ("rows_read", "accepted", "rejected", "left_out", "encoded", "vocabulary_size")
    recorder.log_metrics({f"prepare/{name}": counts[name] for name in names})
    recorder.log_metrics(
        {
            "prepare/rows_per_second": rate,
            "prepare/unknown_fraction": counts["train_unknown_fraction"],
        }
    )
