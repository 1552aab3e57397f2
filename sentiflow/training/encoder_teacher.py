"""Prepared texts + a sentence encoder -> the answers of a teacher that is fitted to the train rows.

The encoder knows the language, and the train rows know the classes. The teacher is the weighted
geometric mean of two models of the train rows: logistic regression on the vectors of the encoder,
and the linear model of n-grams. It also answers the train rows, to which it was fitted (in-sample
answers): out-of-fold answers taught 1 to 7 points less in six of seven measurements.

With ``train.folds`` each fold that is trained has its own teacher, fitted only to the rows that the
model of the fold is trained on.
"""

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.cluster import connection
from sentiflow.cluster.map_stages import MapStages
from sentiflow.cluster.parts_on_ray import PartId
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import manifest, schema
from sentiflow.data.answers import Answers
from sentiflow.data.arrays import find_sorted, hash_texts
from sentiflow.data.label_files import PROBABILITY
from sentiflow.data.outputs import Output
from sentiflow.models import text_encoders
from sentiflow.progress import say, to_words
from sentiflow.storage import parquet
from sentiflow.storage.uris import absolute_uri, join
from sentiflow.training.fold_rows import Folds
from sentiflow.training.learned_classes import LearnedClasses, choose, relabel
from sentiflow.training.prepared_files import PreparedFiles
from sentiflow.training.text_ranges import TextRange, find_step, list_ranges, read_texts
from sentiflow.training.train_plan import TrainPlan

VECTORS = "vectors"
"""Folder of the vectors until all texts are answered; 2 KB for each text."""
_SAMPLE_ROWS = 128
"""Texts by which the time is estimated."""
_REGRESSION_C = 2.0
"""Inverse strength of the regularization of the regression on the vectors."""
_MAX_REGRESSION_STEPS = 1000
"""Limit of the steps of the solver of this regression."""
_LINEAR_C = 4.0
"""Inverse strength of the regularization of the linear model of n-grams; one of
``linear_solver.STRENGTHS``."""
_REGRESSION_WEIGHT = 0.6
"""Weight of the regression on the vectors in the mean of the log-probabilities; the linear model
has the rest."""

Teacher = Callable[[pa.Array, np.ndarray], np.ndarray]
"""Takes N texts and their vectors, ``(N, D)``; returns the probabilities of the C classes that the
network learns, ``(N, C)`` float32."""


class TeacherFile(NamedTuple):
    """A teacher to fit, and the file of its answers."""

    fold: int | None
    """n: fitted to the rows that the model of fold n is trained on, see :meth:`Folds.choose`.
    None: fitted to the train split."""
    uri: str
    """The file to write, see :meth:`Answers.save`."""


class _EncodedRows(NamedTuple):
    """N rows of a range."""

    text: pa.Array
    label: np.ndarray
    """Labels of the network, -1 for unlabelled texts, int8."""
    vectors: np.ndarray
    """The vectors of the texts, (N, D)."""


@dataclass(frozen=True)
class _EncodedTexts:
    """The texts to answer and their vectors, which are read one range at a time."""

    ranges: Sequence[TextRange]
    positions: np.ndarray
    """See :attr:`LearnedClasses.positions`."""
    find_vectors: Callable[[int, pa.Array], np.ndarray]
    """Takes the number of a range and its texts, and returns their vectors, (N, D)."""

    def read(self, number: int) -> _EncodedRows:
        """Read the rows of a range, except those of classes that the network does not learn."""
        columns = ["text"]
        if self.ranges[number].split in schema.SPLITS:
            columns.append("label")
        rows = relabel(read_texts(self.ranges[number], columns=columns), self.positions)
        rows = rows.combine_chunks()
        text = rows["text"].combine_chunks()
        return _EncodedRows(
            text=text,
            label=rows["label"].combine_chunks().to_numpy(),
            vectors=self.find_vectors(number, text),
        )

    def answer(self, teacher: Teacher) -> Iterator[tuple[pa.Array, np.ndarray]]:
        """Yield the texts of each range, and the probabilities that a teacher gives them."""
        for number in range(len(self.ranges)):
            rows = self.read(number)
            yield rows.text, teacher(rows.text, rows.vectors)


def answer(
    plan: TrainPlan,
    output: Output,
    maps: MapStages,
    *,
    name: str,
    uri: str,
    excerpts: Mapping[str, int],
) -> list[str]:
    """Encode the texts, fit the teacher and one for each trained fold, and let them answer.

    If there are more than ``text_ranges.MAX_TRAIN_ROWS`` train rows, they are thinned evenly; the
    others get no answer.

    Args:
        plan: The training.
        output: The output of the answers.
        maps: The map stages of the job.
        name: Name of the teacher among the inputs.
        uri: Its URI, ``encoder:NAME``.
        excerpts: Files of further texts to answer, with the rows of each.

    Returns:
        Files of :meth:`Answers.save`: of the teacher, then of the teacher of each trained fold.

    Raises:
        JobError: A task failed; finished parts are kept for the next run.
    """
    fingerprint = output.spec.fingerprint
    ranges = list_ranges(plan.files, excerpts)
    encoder = text_encoders.find(uri).class_name
    stage = f"encode_{name}"
    keys = [manifest.fingerprint([fingerprint, each.uri, each.start]) for each in ranges]
    left = [ranges[number] for number in maps.list_unfinished(stage, keys)]
    if left:
        num_tasks = maps.concurrency or connection.count_resources().num_cpus
        _tell_time(left, encoder, num_tasks)
    folder = join(output.parts_uri, VECTORS, name)
    vector_files: list[str] = maps.run(
        stage,
        ranges,
        functools.partial(read_texts, columns=["text"]),
        write=functools.partial(encode, encoder=encoder, folder=folder),
        sizes=[each.num_rows for each in ranges],
        unit="texts",
        keys=keys,
    )
    work = functools.partial(
        fit,
        ranges=ranges,
        vector_files=vector_files,
        tokenizer=plan.prepared["settings"]["tokenizer"],
        learned=plan.learned,
        folds=Folds.of(plan.prepared, plan.settings.folds),
    )
    teachers = [TeacherFile(fold=None, uri=join(output.uri, f"{name}-0.arrow"))]
    for fold in range(plan.num_folds_trained):
        teachers.append(TeacherFile(fold=fold, uri=join(output.uri, f"{name}-{fold + 1}.arrow")))
    return maps.map(f"fit_{name}", work, teachers, key=fingerprint, unit="teachers")


def _tell_time(ranges: Sequence[TextRange], encoder_name: str, num_tasks: int) -> None:
    """Estimate by the first texts how long encoding all of them takes, and say it."""
    encoder = text_encoders.load(encoder_name)
    sample = read_texts(ranges[0], columns=["text"])["text"].to_pylist()[:_SAMPLE_ROWS]
    text_encoders.encode(encoder, sample[:1])  # loads its weights
    began = time.monotonic()
    text_encoders.encode(encoder, sample)
    seconds_per_text = (time.monotonic() - began) / len(sample)
    num_rows = sum(each.num_rows for each in ranges)
    seconds = seconds_per_text * num_rows / min(num_tasks, len(ranges))
    say("teach", f"encoding {num_rows:,} texts takes about {to_words(seconds)}")


def encode(table: pa.Table, part_id: PartId, *, encoder: str, folder: str) -> str:
    """Encode each text of a range once, and write the vectors; return the file.

    Columns:
        read: ``text``.
        written: ``text`` (uint64, its hash, ascending), ``vector`` (fixed-size list of float32).

    Args:
        table: The texts of the range.
        part_id: Number and key of the range as a part of the map stage.
        encoder: Class of the encoder, ``module:class``.
        folder: Folder of the file.
    """
    text = table["text"].combine_chunks()
    hashes, first = np.unique(hash_texts(text), return_index=True)
    vectors = text_encoders.encode(text_encoders.load(encoder), text.take(first).to_pylist())
    lists = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
    uri = join(folder, part_id.name_file())
    parquet.write(uri, pa.table({"text": hashes, "vector": lists}))
    return uri


def fit(
    teacher: TeacherFile,
    *,
    ranges: Sequence[TextRange],
    vector_files: Sequence[str],
    tokenizer: str,
    learned: LearnedClasses,
    folds: Folds,
) -> str:
    """Fit a teacher, and write its answers to the texts of all ranges.

    Args:
        teacher: The teacher.
        ranges: The texts.
        vector_files: For each range the file of :func:`encode`.
        tokenizer: The tokenizer of the prepared data.
        learned: The classes that the network learns.
        folds: The folds of the training.

    Returns:
        The file.
    """

    def find_vectors(number: int, text: pa.Array) -> np.ndarray:
        table = parquet.read(vector_files[number]).combine_chunks()
        hashes = table["text"].to_numpy()  # ascending
        _, rows = find_sorted(hashes, hash_texts(text))
        flat = table["vector"].combine_chunks().flatten().to_numpy()
        return flat.reshape(len(table), -1)[rows]

    def is_trained_on(text: pa.Array) -> np.ndarray:
        if teacher.fold is None:
            return _take_all(text)
        is_train, _ = folds.choose(folds.place(text), teacher.fold)
        return is_train

    encoded = _EncodedTexts(ranges, learned.positions, find_vectors)
    compute_probabilities = _fit_teacher(
        encoded,
        splits=[schema.TRAIN] if teacher.fold is None else folds.splits,
        is_trained_on=is_trained_on,
        tokenizer=tokenizer,
        num_classes=len(learned.names),
    )
    hashes = list[np.ndarray]()
    answers = list[np.ndarray]()
    for text, probabilities in encoded.answer(compute_probabilities):
        hashes.append(hash_texts(text))
        answers.append(probabilities)
    distinct, first = np.unique(np.concatenate(hashes), return_index=True)
    Answers(distinct, np.concatenate(answers)[first]).save(teacher.uri)
    return teacher.uri


def _take_all(text: pa.Array) -> np.ndarray:
    """Take all texts to fit a teacher to."""
    return np.ones(len(text), bool)


def _fit_teacher(
    texts: _EncodedTexts,
    *,
    splits: Sequence[str],
    is_trained_on: Callable[[pa.Array], np.ndarray],
    tokenizer: str,
    num_classes: int,
) -> Teacher:
    """Fit a teacher to labelled rows of some splits, at most ``text_ranges.MAX_TRAIN_ROWS``.

    Args:
        texts: The texts.
        splits: The splits that the teacher is fitted to.
        is_trained_on: Takes texts of these splits, and says which of them it is fitted to.
        tokenizer: The tokenizer of the prepared data.
        num_classes: Number of classes that the network learns.
    """
    numbers = [number for number, each in enumerate(texts.ranges) if each.split in splits]
    read = [texts.read(number) for number in numbers]
    text = pa.concat_arrays([rows.text for rows in read])
    label = np.concatenate([rows.label for rows in read])
    chosen = np.flatnonzero(is_trained_on(text))
    # The train rows were thinned already; the other rows in folds were not.
    chosen = chosen[:: find_step(len(chosen))]
    vectors = np.concatenate([rows.vectors for rows in read])[chosen]
    del read  # all vectors would stay in memory
    return _fit_models(
        _EncodedRows(text.take(pa.array(chosen)), label[chosen], vectors),
        tokenizer=tokenizer,
        num_classes=num_classes,
    )


def _fit_models(rows: _EncodedRows, *, tokenizer: str, num_classes: int) -> Teacher:
    """Fit the two models of a teacher to labelled rows."""
    from scipy.special import log_softmax, softmax
    from sklearn.linear_model import LogisticRegression

    from sentiflow.models.ngrams import Ngrams
    from sentiflow.models.tokenizer import tokenize
    from sentiflow.training import linear_solver

    regression = LogisticRegression(C=_REGRESSION_C, max_iter=_MAX_REGRESSION_STEPS)
    regression.fit(rows.vectors, rows.label)
    ngrams = Ngrams.of(tokenize(rows.text, name=tokenizer))
    targets = np.eye(num_classes, dtype=np.float32)[rows.label]
    # A generator: it fits a model for each C when it is asked for, so none after ``_LINEAR_C``.
    models = linear_solver.fit(ngrams, targets)
    linear = next(model for c, model in models if c == _LINEAR_C)

    def compute_probabilities(text: pa.Array, vectors: np.ndarray) -> np.ndarray:
        # A class without a row here has the probability 0.
        logs = np.full((len(text), num_classes), -np.inf)
        logs[:, regression.classes_] = regression.predict_log_proba(vectors)
        logits = linear.logits(tokenize(text, name=tokenizer))
        linear_logs = log_softmax(logits, axis=1)
        mean = _REGRESSION_WEIGHT * logs + (1 - _REGRESSION_WEIGHT) * linear_logs
        return np.asarray(softmax(mean, axis=1), np.float32)

    return compute_probabilities


def write_answers(
    encoder: text_encoders.TextEncoder,
    prepared_uri: str | os.PathLike[str],
    to: str | os.PathLike[str],
) -> None:
    """Write a file of answers for ``train.distill.teachers``, by any sentence encoder.

    The texts are encoded in this process. The teacher is fitted as for ``encoder:NAME``: if there
    are more than 100,000 train rows, they are thinned evenly, and the others get no answer.

    Args:
        encoder: An object with ``encode(texts)``: a list of N strings gives an array ``(N, D)``.
        prepared_uri: Directory of the prepared data: ``<output_uri>/prepared``.
        to: The Parquet file to write.

    Raises:
        UserError: The data are not prepared, or have fewer than two classes.
    """
    uri = absolute_uri(os.fspath(prepared_uri))
    prepared = manifest.require(uri, stage="prepare", setting="prepared_uri")
    learned = choose(prepared, TrainSettings())
    ranges = list_ranges(PreparedFiles.of(prepared, uri), {})
    train_vectors: dict[int, np.ndarray] = {}  # of each range: fitting and answering need them

    def find_vectors(number: int, text: pa.Array) -> np.ndarray:
        if number in train_vectors:
            return train_vectors[number]
        vectors = text_encoders.encode(encoder, text.to_pylist())
        if ranges[number].split == schema.TRAIN:
            train_vectors[number] = vectors
        return vectors

    encoded = _EncodedTexts(ranges, learned.positions, find_vectors)
    compute_probabilities = _fit_teacher(
        encoded,
        splits=[schema.TRAIN],
        is_trained_on=_take_all,
        tokenizer=prepared["settings"]["tokenizer"],
        num_classes=len(learned.names),
    )
    names = ["text", *(f"{PROBABILITY}{name}" for name in learned.names)]
    tables = []
    for text, probabilities in encoded.answer(compute_probabilities):
        tables.append(pa.table([text, *probabilities.T], names=names))
    parquet.write(absolute_uri(os.fspath(to)), pa.concat_tables(tables))
