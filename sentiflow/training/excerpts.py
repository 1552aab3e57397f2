"""Texts -> excerpts, which leave words out: further texts for a teacher where texts are few.

Few train rows do not show what a teacher knows. Masked words are one of the augmentations of Tang
et al., "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks", 2019.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.text_units import find_cut, find_unit
from sentiflow.data import schema
from sentiflow.data.arrays import UNSPACED, hash_texts
from sentiflow.data.manifest_types import Manifest
from sentiflow.models import tokenizer, units, vocabulary
from sentiflow.storage import parquet
from sentiflow.storage.uris import join, names_encoder
from sentiflow.training import rates
from sentiflow.training.fold_rows import Folds
from sentiflow.training.learned_classes import LearnedClasses, count_rows, relabel
from sentiflow.training.train_plan import TrainPlan

EXCERPTS = "excerpts"
"""Name of the table of excerpts."""
_LEFT_OUT = 0.6
"""Probability that a word is left out."""
_FIRST_ROW = 1 << 40
"""``row_id`` of the first excerpt: larger than the ``row_id`` of any row."""
_END = "\uffff"
"""Marks the end of a word. No text has this character."""


@dataclass(frozen=True)
class Excerpts:
    """Files of excerpts, with the rows of each."""

    to_learn: dict[str, int] = field(default_factory=dict)
    """Excerpts of train rows. The network learns the answers to them."""
    to_ask: dict[str, int] = field(default_factory=dict)
    """Excerpts of the other rows in folds. Only the models of the folds learn the answers."""


def prepare(plan: TrainPlan, to: str) -> Excerpts:
    """Check the folds, then write the excerpts; without a sentence encoder do nothing.

    Args:
        plan: The training.
        to: Directory of the files.

    Raises:
        UserError: A fold leaves too few classes to train on.
    """
    folds = Folds.of(plan.prepared, plan.settings.folds)
    num_per_text = count(plan.prepared, plan.learned)
    has_encoder = any(names_encoder(teacher) for teacher in plan.settings.distill.teachers)
    if not has_encoder:
        return Excerpts()
    if num_per_text == 0 and folds.num_folds == 0:
        return Excerpts()
    others = []
    if folds.num_folds:
        others = [split for split in folds.splits if split != schema.TRAIN]
    train = _read_texts(plan, [schema.TRAIN])
    further = _read_texts(plan, others)
    if folds.num_folds:
        rows = pa.concat_tables([train, further]).combine_chunks()
        folds.check(rows["text"].combine_chunks(), rows["label"].to_numpy())

    def write_excerpts(name: str, rows: pa.Table) -> dict[str, int]:
        return write(
            join(to, f"{EXCERPTS}-{name}.parquet"),
            rows["text"].combine_chunks(),
            num_per_text,
            prepared=plan.prepared,
            prepared_uri=plan.settings.prepared_uri,
        )

    return Excerpts(
        to_learn=write_excerpts("train", train), to_ask=write_excerpts("folds", further)
    )


def _read_texts(plan: TrainPlan, splits: Sequence[str]) -> pa.Table:
    """Read the rows of some splits with a class to learn: texts, and labels of the model."""
    form = pa.schema([schema.TAUGHT.field(name) for name in ("text", "label")])
    tables = [form.empty_table()]
    for split in splits:
        for uri in plan.files.tweets[split]:
            tables.append(parquet.read(uri, columns=form.names).cast(form))
    return relabel(pa.concat_tables(tables), plan.learned.positions)


def count(prepared: Manifest, learned: LearnedClasses) -> int:
    """Compute how many excerpts are made of each text: none where texts are many."""
    splits = Folds.of(prepared, 0).splits
    num_rows = sum(count_rows(prepared, split, learned.names) for split in splits)
    return rates.count_excerpts_per_text(num_rows)


def make(text: pa.Array, num_per_text: int) -> pa.Array:
    """Make excerpts, each without other words of its text; equal texts give equal excerpts.

    Args:
        text: The texts. A letter of a script without spaces counts as a word.
        num_per_text: Excerpts of each text. An excerpt without a word, or equal to another one, is
            dropped.

    Example:
        >>> make(pa.array(["so good, thanks a lot"]), 3).to_pylist()
        ['so thanks a', 'good, a', 'thanks lot']
    """
    pattern = rf"(\s+|[{UNSPACED}]\p{{M}}*)"
    marked = pc.replace_substring_regex(text, pattern=pattern, replacement=rf"\1{_END}")
    excerpts = list[str]()
    for key, words in zip(hash_texts(text), pc.split_pattern(marked, _END), strict=True):
        drawn = np.random.default_rng(key).random((num_per_text, len(words)))
        for is_kept in drawn > _LEFT_OUT:
            kept = itertools.compress(words.as_py(), is_kept)
            excerpt = "".join(kept).strip()
            if excerpt:
                excerpts.append(excerpt)
    return pc.unique(pa.array(excerpts, pa.string()))


def write(
    to: str, text: pa.Array, num_per_text: int, *, prepared: Manifest, prepared_uri: str
) -> dict[str, int]:
    """Write the excerpts of texts as a file of ``schema.UNLABELLED``.

    Args:
        to: The file.
        text: The texts.
        num_per_text: Excerpts of each text.
        prepared: Manifest of the prepared data.
        prepared_uri: Their directory.

    Returns:
        The file with its number of rows; nothing if there are no excerpts.
    """
    made = make(text, num_per_text)
    if not len(made):
        return {}
    settings = prepared["settings"]
    tokens = tokenizer.tokenize(made, name=settings["tokenizer"])
    read = units.split(tokens, find_unit(settings))
    words = vocabulary.load(join(prepared_uri, "vocabulary.parquet"), with_vectors=False)
    encoded = words.encode(read, max_length=settings["max_length"], cut=find_cut(settings))
    row_ids = np.arange(_FIRST_ROW, _FIRST_ROW + len(made))
    lengths = pc.list_value_length(encoded.token_ids)
    columns = [row_ids, made, encoded.token_ids, lengths]
    parquet.write(to, pa.table(columns, schema=schema.UNLABELLED))
    return {to: len(made)}
