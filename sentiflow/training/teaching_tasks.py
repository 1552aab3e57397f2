"""Part of the prepared rows -> the same rows with the answers of teachers: a task of Ray Data."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.cluster.parts_on_ray import PartId
from sentiflow.config.class_names import UNLABELLED
from sentiflow.data import schema
from sentiflow.data.answers import TEACHERS, Answers, add_answers
from sentiflow.data.arrays import hash_texts
from sentiflow.storage import parquet
from sentiflow.training.excerpts import EXCERPTS
from sentiflow.training.learned_classes import relabel
from sentiflow.training.prepared_files import PreparedFiles

if TYPE_CHECKING:
    from sentiflow.models.package import ModelPackage

LEARNED = (schema.TRAIN, UNLABELLED, EXCERPTS)
"""Splits whose rows the network learns. The other splits are for the evaluation."""


@dataclass(frozen=True)
class TextFile:
    """A part: a file of the prepared data, or of excerpts."""

    split: str
    uri: str
    """File of encoded train rows, unlabelled texts, excerpts, or the tweets of another split."""
    num_rows: int
    texts_uri: str = ""
    """For train rows: the file of their tweets."""


def list_parts(prepared: PreparedFiles, excerpts: Mapping[str, int]) -> list[TextFile]:
    """List the files of train rows, unlabelled texts, held-out rows and excerpts, each as a part.

    Args:
        prepared: The files of the prepared data.
        excerpts: The files of excerpts to learn, with the rows of each.
    """
    tweets_by_number = {_find_number(path): path for path in prepared.tweets[schema.TRAIN]}
    parts = [
        TextFile(schema.TRAIN, path, num_rows, texts_uri=tweets_by_number[_find_number(path)])
        for path, num_rows in prepared.encoded.items()
    ]
    by_split = {UNLABELLED: prepared.unlabelled}
    for split in (schema.VALIDATION, schema.TEST):
        by_split[split] = prepared.tweets[split]
    by_split[EXCERPTS] = excerpts
    for split, files in by_split.items():
        parts += [TextFile(split, path, num_rows) for path, num_rows in files.items()]
    return parts


def _find_number(path: str) -> str:
    """Find the number of the part in a name of :meth:`PartId.name_file`: ``part-00003-…``.

    The encoded rows of a part and their tweets have the same number.
    """
    name = path.rpartition("/")[2]
    return name.split("-")[1]


def read_rows(part: TextFile, *, positions: np.ndarray) -> pa.Table:
    """Read the rows of a part, except those labelled with a class that the network does not learn.

    Columns:
        added: ``row_id`` (text n of ``prepare.unlabelled`` has -1 - n), ``label`` (int8: a position
            in the classes of the network, or -1), ``text``; for rows to learn ``token_ids`` and
            ``length``.
    """
    encoded = ["row_id", "token_ids", "length"]
    if part.split in (UNLABELLED, EXCERPTS):
        rows = parquet.read(part.uri, columns=[*encoded, "text"])
    elif part.split == schema.TRAIN:
        rows = parquet.read(part.uri, columns=[*encoded, "label"])
        tweets = parquet.read(part.texts_uri, columns=["row_id", "text"]).combine_chunks()
        tweet_rows = pc.index_in(rows["row_id"], value_set=tweets["row_id"])
        rows = rows.append_column("text", tweets["text"].take(tweet_rows))
    else:
        rows = parquet.read(part.uri, columns=["row_id", "text", "label"])
    return relabel(rows, positions)


def teach_rows(
    table: pa.Table,
    part_id: PartId,
    *,
    parts: Sequence[TextFile],
    root: str,
    classes: tuple[str, ...],
    models: Sequence[tuple[str, str]],
    answer_files: Sequence[str],
    on_gpu: bool,
) -> dict[str, Any]:
    """Ask the teachers, and write the rows of a part: rows to learn, or held-out rows.

    A row is taught the mean probabilities of the teachers that answer it. A row to learn that
    nobody answers is taught its label.

    Args:
        table: The rows, see :func:`read_rows`.
        part_id: Number and key of the part.
        parts: All parts.
        root: Directory to write to.
        classes: The C classes that the network learns.
        models: Directory and fingerprint of each teacher that is a model package.
        answer_files: For each other teacher a file of :meth:`Answers.save`.
        on_gpu: Whether tasks have a share of a GPU.

    Returns:
        ``files``: the file that was written. ``counts``: ``rows`` (written), ``answered`` (by one
        teacher or more) and ``left_out`` (neither an answer nor a label, so nothing to learn).
    """
    part = parts[part_id.number]
    text = table["text"].combine_chunks()
    is_answered, mean = _ask_teachers(text, classes, models, answer_files, on_gpu)
    is_learned = part.split in LEARNED
    row_schema = schema.TAUGHT if is_learned else schema.HELD_OUT
    rows = add_answers(table, is_answered, mean, keep_labels=is_learned)
    rows = rows.select(row_schema.names).cast(row_schema)
    files = parquet.write_part(root, f"split={part.split}/{part_id.name_file()}", rows)
    counts = {
        "rows": len(rows),
        "answered": int(is_answered.sum()),
        "left_out": len(table) - len(rows),
    }
    return {"counts": counts, "files": files}


def _ask_teachers(
    text: pa.Array,
    classes: tuple[str, ...],
    models: Sequence[tuple[str, str]],
    answer_files: Sequence[str],
    on_gpu: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Ask all teachers about N texts, and average their answers.

    Returns:
        Whether each text is answered, N bool; and the mean of the answers, (N, C) float64.
    """
    answers = []
    if answer_files:
        hashes = hash_texts(text)
        answers += [_load_answers(uri).find(hashes) for uri in answer_files]
    if models:
        from sentiflow.cluster import loaded_models

        packages = loaded_models.load_models(*models, on_gpu=on_gpu, setting=TEACHERS)
        answers += [_ask_model(text, package, classes) for package in packages]
    num_answers = np.sum([is_answered for is_answered, _ in answers], axis=0)
    sums = np.sum([probabilities for _, probabilities in answers], axis=0)
    return num_answers > 0, sums / np.maximum(num_answers, 1)[:, None]


def _ask_model(
    text: pa.Array, package: "ModelPackage", classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Ask a model about N texts: its probabilities of ``classes``, divided by their sum.

    Returns:
        Whether each text is answered, N bool; and the probabilities, (N, C) float64, 0 where it is
        not.
    """
    scores = package.score(text)
    columns = [scores.classes.index(name) for name in classes]
    chosen = scores.probabilities[:, columns].astype(np.float64)
    total = chosen.sum(axis=1)
    is_answered = (scores.num_tokens > 0) & (total > 0)
    probabilities = chosen / np.where(is_answered, total, 1)[:, None]
    return is_answered, np.where(is_answered[:, None], probabilities, 0)


_load_answers = functools.lru_cache(maxsize=4)(Answers.load)
"""Load the answers in a file. A worker process keeps the last 4 files for its next parts."""
