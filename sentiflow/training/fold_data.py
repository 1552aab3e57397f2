"""Labelled rows of all splits -> for each fold the prepared data of a training on the other folds.

The words are counted in the train rows of the fold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.prepare_sections import VocabularySettings
from sentiflow.config.text_units import find_cut, find_unit
from sentiflow.data import manifest, prepared_data, schema
from sentiflow.data.answers import Answers, add_answers
from sentiflow.data.arrays import hash_texts
from sentiflow.data.manifest_types import FileEntry, Manifest
from sentiflow.models import tokenizer, units, vocabulary
from sentiflow.models.tokens import Tokens
from sentiflow.storage import filesystem, parquet
from sentiflow.storage.uris import join
from sentiflow.training import excerpts, learned_classes
from sentiflow.training.fold_rows import Folds
from sentiflow.training.linear_choice import LinearChoice
from sentiflow.training.linear_solver import STRENGTHS
from sentiflow.training.train_job import TrainJob
from sentiflow.words import word_vectors

_TWEETS = ["row_id", "text", "label"]
"""Columns of the rows."""


@dataclass(frozen=True)
class AllRows:
    """The labelled rows of all splits, then the unlabelled texts."""

    table: pa.Table
    """The columns ``_TWEETS``; ``label`` is null for unlabelled texts."""
    position: np.ndarray
    """From 0 to the number of folds, see :meth:`Folds.place`."""
    tokens: Tokens
    """The units of all texts, which the network reads."""
    choice: VocabularySettings
    """How the words are chosen."""
    vectors: word_vectors.WordVectors
    """The vectors of the prepared data."""

    @property
    def is_labelled(self) -> np.ndarray:
        """Whether each row has a label."""
        return np.asarray(self.table["label"].is_valid())


def read(job: TrainJob, learned: learned_classes.LearnedClasses) -> AllRows:
    """Read and tokenize all rows, and load the word vectors of the prepared data.

    Test rows that the data came with are left out. Unlabelled texts that equal the text of a
    labelled row are left out, too.

    Raises:
        UserError: Too few different texts leave nothing to learn outside a fold.
    """
    prepared = job.prepared
    folds = Folds.of(prepared, job.settings.folds)
    table, num_labelled = _read_texts(job, folds.splits)
    to_learn = learned_classes.relabel(table.slice(0, num_labelled), learned.positions)
    to_learn = to_learn.combine_chunks()
    folds.check(to_learn["text"].combine_chunks(), to_learn["label"].to_numpy())

    position = folds.place(table["text"].combine_chunks())
    is_kept = ~np.isin(position, position[:num_labelled])  # equal texts have equal positions
    is_kept[:num_labelled] = True
    table = table.filter(pa.array(is_kept)).combine_chunks()
    text = table["text"].combine_chunks()
    tokens = tokenizer.tokenize(text, name=prepared["settings"]["tokenizer"])
    choice = _find_choice(prepared)
    max_words = choice.max_size if choice.kind == "pretrained" else None
    return AllRows(
        table=table,
        position=position[is_kept],
        tokens=units.split(tokens, find_unit(prepared["settings"])),
        choice=choice,
        vectors=word_vectors.load(choice.vectors, max_words=max_words),
    )


def _read_texts(job: TrainJob, splits: Sequence[str]) -> tuple[pa.Table, int]:
    """Read the labelled rows of some splits, then the unlabelled texts.

    Returns:
        The table of :class:`AllRows`, and the number of labelled rows.
    """
    uris = job.list_files("tweets", splits)
    labelled = pa.concat_tables(parquet.read(uri, columns=_TWEETS) for uri in uris)
    num_classes = len(prepared_data.find_learnable(job.prepared))
    labelled = labelled.filter(pc.less(labelled["label"], num_classes))
    uris = manifest.rows_by_file(job.prepared, job.settings.prepared_uri, ["unlabelled"])
    further = [parquet.read(uri, columns=["row_id", "text"]) for uri in uris]
    table = pa.concat_tables([labelled, *further], promote_options="default")
    return table.combine_chunks(), len(labelled)


def _find_choice(prepared: Manifest) -> VocabularySettings:
    """Return how the words of the prepared data were chosen, with the file of their vectors."""
    settings = prepared["settings"]["vocabulary"]
    vectors = prepared_data.find_vectors(prepared)
    return VocabularySettings.model_validate(settings | {"vectors": vectors})


def write(
    job: TrainJob, rows: AllRows, number: int, learned: learned_classes.LearnedClasses, uri: str
) -> TrainJob:
    """Prepare the rows of all folds but one, and return the job of the training on them.

    Args:
        job: The training itself.
        rows: All rows.
        number: Number of the fold that is left out, from 0.
        learned: The classes of the training itself.
        uri: Directory to write to.
    """
    chosen = _choose_rows(job, rows, number)
    words = _fit_vocabulary(rows, chosen["train"])
    rules = job.prepared["settings"]
    encoded = words.encode(rows.tokens, max_length=rules["max_length"], cut=find_cut(rules))
    lengths = pc.list_value_length(encoded.token_ids).cast(pa.int32())
    table = rows.table.append_column("token_ids", encoded.token_ids)
    table = table.append_column("length", lengths)

    files = _write_tables(table, chosen, uri)
    content = parquet.to_bytes(words.to_table())
    files.append(filesystem.write_file(uri, "vocabulary.parquet", content, rows=len(words)))
    counts = _count_labels(job.prepared, table, chosen)
    prepared = {
        **job.prepared,
        "files": files,
        "counts": job.prepared["counts"] | {"labels": counts},
    }
    settings = job.settings.model_copy(
        update={
            "prepared_uri": uri,
            "classes": tuple(name for name in learned.names if counts["train"][name]),
            "unsure": None,  # it is decided by the answers of all folds
        }
    )
    first = LinearChoice(STRENGTHS[0], job.neighbor_weights[0])
    return replace(
        job,
        settings=settings,
        prepared=cast(Manifest, prepared),
        checkpoints_uri=join(uri, "checkpoints"),
        model_uri=join(uri, "model"),
        linear_uri=join(uri, "linear"),
        # Only so that the package has a linear model: the folds calibrate each other later.
        calibration={"linear_weight": 1.0} | first.to_calibration(),
    )


def _choose_rows(job: TrainJob, rows: AllRows, number: int) -> dict[str, np.ndarray]:
    """Choose the train rows and the validation rows of a fold, as masks."""
    folds = Folds.of(job.prepared, job.settings.folds)
    is_train, is_validation = folds.choose(rows.position, number)
    return {
        "train": rows.is_labelled & is_train,
        "validation": rows.is_labelled & is_validation,
    }


def _write_tables(table: pa.Table, chosen: Mapping[str, np.ndarray], uri: str) -> list[FileEntry]:
    """Write the encoded rows and the tweets of each split, and the unlabelled texts.

    Args:
        table: The table of :class:`AllRows`, with ``token_ids`` and ``length``.
        chosen: Which rows each split has, as masks.
        uri: The directory.
    """
    files = list[FileEntry]()
    columns = {"encoded": schema.ENCODED.names, "tweets": _TWEETS}
    for kind, names in columns.items():
        for split, is_chosen in chosen.items():
            part = table.filter(is_chosen).select(names)
            files += parquet.write_part(uri, f"{kind}/split={split}/rows.parquet", part)
    is_unlabelled = table["label"].is_null()
    unlabelled = table.filter(is_unlabelled).select(schema.UNLABELLED.names)
    files += parquet.write_part(uri, "unlabelled/rows.parquet", unlabelled)
    return files


def _count_labels(
    prepared: Manifest, table: pa.Table, chosen: Mapping[str, np.ndarray]
) -> dict[str, dict[str, int]]:
    """Count the rows of each class, by split."""
    names = manifest.find_classes(prepared)
    counts = dict[str, dict[str, int]]()
    for split, is_chosen in chosen.items():
        labels = table.filter(is_chosen)["label"].to_numpy()
        numbers = np.bincount(labels, minlength=len(names))
        counts[split] = dict(zip(names, numbers.tolist(), strict=True))
    return counts


def teach(
    job: TrainJob,
    rows: AllRows,
    learned: learned_classes.LearnedClasses,
    answers_uri: str,
    num_excerpts: int,
) -> TrainJob:
    """Write the rows that a fold learns from its teachers, and return the job of training on them.

    These rows are the train rows of the fold, its unlabelled texts and excerpts. A text that is
    also the text of a labelled row of any fold is left out of the last two.

    Args:
        job: The training of the fold, see :func:`write`.
        rows: All rows.
        learned: The classes of the training itself.
        answers_uri: File with the answers of teachers that have not seen the rows of the fold.
        num_excerpts: Excerpts of each text.
    """
    uri = job.settings.prepared_uri
    of_fold = learned_classes.choose(job.prepared, job.settings)
    table = _read_to_teach(job, of_fold, num_excerpts)
    keys = hash_texts(table["text"].combine_chunks())
    all_answers = Answers.from_table(parquet.read(answers_uri))
    is_answered, answers = all_answers.find(keys)
    answers = answers[:, [learned.names.index(name) for name in of_fold.names]]
    answers /= answers.sum(axis=1, keepdims=True).clip(min=np.finfo(np.float32).tiny)
    labelled_texts = rows.table["text"].filter(rows.is_labelled).combine_chunks()
    is_new = ~np.isin(keys, hash_texts(labelled_texts))
    is_train_row = table["label"].to_numpy() >= 0
    is_answered &= is_train_row | is_new
    taught = add_answers(table, is_answered, answers).cast(schema.TAUGHT)
    taught_uri = join(uri, "taught.parquet")
    parquet.write(taught_uri, taught)
    return replace(job, taught={taught_uri: len(taught)})


def _read_to_teach(
    job: TrainJob, of_fold: learned_classes.LearnedClasses, num_excerpts: int
) -> pa.Table:
    """Read the rows that a fold may learn from teachers; make excerpts of its train rows.

    Columns:
        returned: As ``schema.TAUGHT``, without ``teacher``.
    """
    uri = job.settings.prepared_uri
    (tweets,) = job.list_files("tweets", ["train"])
    (encoded,) = job.list_files("encoded", ["train"])
    labelled = parquet.read(encoded).append_column("text", parquet.read(tweets)["text"])
    labelled = learned_classes.relabel(labelled, of_fold.positions)
    made = excerpts.write(
        join(uri, "excerpts.parquet"),
        labelled["text"].combine_chunks(),
        num_excerpts,
        prepared=job.prepared,
        prepared_uri=uri,
    )
    tables = [labelled]
    for each in manifest.rows_by_file(job.prepared, uri, ["unlabelled"]) | made:
        tables.append(learned_classes.relabel(parquet.read(each), of_fold.positions))
    form = schema.TAUGHT.remove(schema.TAUGHT.get_field_index("teacher"))
    return pa.concat_tables(each.select(form.names).cast(form) for each in tables).combine_chunks()


def _fit_vocabulary(rows: AllRows, is_train: np.ndarray) -> vocabulary.Vocabulary:
    """Choose the words of the train rows of a fold, and find their vectors."""
    choice = rows.choice
    if choice.kind == "pretrained":
        words = vocabulary.from_words(rows.vectors.words)
    else:
        numbers = pa.array(rows.tokens.count(is_train))
        counts = pa.table({"word": rows.tokens.words, "count": numbers})
        words = vocabulary.fit(counts, min_count=choice.min_count, max_size=choice.max_size)
    return replace(words, vectors=rows.vectors.take(words.words))
