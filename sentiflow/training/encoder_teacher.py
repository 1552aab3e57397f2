"""Prepared texts + a sentence encoder -> the answers of a teacher that is fitted to the train rows.

The encoder knows the language, and the train rows know the classes. The teacher is the weighted
geometric mean of two models of the train rows: logistic regression on the vectors of the encoder,
and the linear model of n-grams. It also answers the train rows that it was fitted to: networks
learned less from answers of teachers that had not seen these rows (docs/distilling.md).

For each fold of the training there is a further teacher, fitted to the rows of its model alone.
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
from sentiflow.config.class_names import UNLABELLED
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import manifest
from sentiflow.data.answers import Answers
from sentiflow.data.arrays import find_sorted, hash_texts
from sentiflow.data.label_files import PROBABILITY
from sentiflow.data.outputs import Output
from sentiflow.data.schema import SPLITS
from sentiflow.models import text_encoders
from sentiflow.progress import say, to_words
from sentiflow.storage import parquet
from sentiflow.storage.uris import absolute_uri, join
from sentiflow.training.excerpts import EXCERPTS
from sentiflow.training.fold_rows import Folds
from sentiflow.training.learned_classes import LearnedClasses, choose, relabel
from sentiflow.training.prepared_files import PreparedFiles
from sentiflow.training.train_plan import TrainPlan

VECTORS = "vectors"
"""Folder of the vectors until all texts are answered; 2 KB for each text."""
_CHUNK_ROWS = 4096
"""Rows of a part. Encoding it takes about 10 s: a killed job loses no more of each task."""
_MAX_TRAIN_ROWS = 100_000
"""Train rows that the teacher is fitted to, at most."""
_SAMPLE_ROWS = 128
"""Texts by which the time is estimated."""
_STRENGTH = 2.0
"""``C`` of the logistic regression on the vectors."""
_LINEAR_STRENGTH = 4.0
"""``C`` of the linear model of n-grams."""
_REGRESSION_WEIGHT = 0.6
"""Weight of the regression on the vectors in the mean of the log-probabilities; the linear model
has the rest."""


@dataclass(frozen=True)
class TextRange:
    """Some rows of a file of prepared texts."""

    split: str
    uri: str
    start: int
    """The first row."""
    stop: int
    """The row after the last one."""
    step: int
    """Distance between two rows that are used. More than 1 if there are more train rows than
    ``_MAX_TRAIN_ROWS``: then every second, third, … row is enough."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(range(self.start, self.stop, self.step))


class TeacherFile(NamedTuple):
    """A teacher to fit, and the file of its answers."""

    number: int
    """0: fitted to all train rows. n: fitted to the rows that the model of fold n is trained on."""
    uri: str
    """The file to write, see :meth:`Answers.save`."""


class _EncodedRows(NamedTuple):
    """The rows of a part."""

    text: pa.Array
    label: pa.Array
    """Labels of the network, -1 for unlabelled texts."""
    vectors: np.ndarray
    """The vectors of the texts, (N, D)."""


def fit_teacher(
    text: pa.Array, label: np.ndarray, vectors: np.ndarray, *, tokenizer: str, num_classes: int
) -> Callable[[pa.Array, np.ndarray], np.ndarray]:
    """Fit two models to N labelled texts and their vectors.

    Returns:
        A function of N texts and their vectors: the probabilities, ``(N, C)`` float32.
    """
    from scipy.special import log_softmax, softmax
    from sklearn.linear_model import LogisticRegression

    from sentiflow.models.ngrams import Ngrams
    from sentiflow.models.tokenizer import tokenize
    from sentiflow.training import linear_solver

    regression = LogisticRegression(C=_STRENGTH, max_iter=1000).fit(vectors, label)
    ngrams = Ngrams.of(tokenize(text, name=tokenizer))
    targets = np.eye(num_classes, dtype=np.float32)[label]
    models = linear_solver.fit(ngrams, targets)
    linear = next(model for c, model in models if c == _LINEAR_STRENGTH)

    def compute_probabilities(text: pa.Array, vectors: np.ndarray) -> np.ndarray:
        # A class without a row here has the probability 0.
        logs = np.full((len(text), num_classes), -np.inf)
        logs[:, regression.classes_] = regression.predict_log_proba(vectors)
        logits = linear.logits(tokenize(text, name=tokenizer))
        linear_logs = log_softmax(logits, axis=1)
        mean = _REGRESSION_WEIGHT * logs + (1 - _REGRESSION_WEIGHT) * linear_logs
        return np.asarray(softmax(mean, axis=1), np.float32)

    return compute_probabilities


def answer(
    plan: TrainPlan,
    output: Output,
    maps: MapStages,
    *,
    name: str,
    uri: str,
    excerpts: Mapping[str, int],
) -> list[str]:
    """Encode all texts, fit the teacher and one for each fold, and let them answer.

    Args:
        plan: The training.
        output: The output of the answers.
        maps: The map stages of the job.
        name: Name of the teacher among the inputs.
        uri: Its URI, ``encoder:NAME``.
        excerpts: Files of further texts to answer, with the rows of each.

    Returns:
        Files of :meth:`Answers.save`: of the teacher, then of the teacher of each fold.

    Raises:
        JobError: A task failed; finished parts are kept for the next run.
    """
    num_folds = plan.settings.folds
    fingerprint = output.spec.fingerprint
    texts = _list_texts(plan.files, excerpts)
    _, encoder = text_encoders.find(uri)
    num_tasks = maps.concurrency or connection.count_resources().num_cpus
    _tell_time(texts, encoder, num_tasks)
    folder = join(output.parts_uri, VECTORS, name)
    vectors: list[str] = maps.run(
        f"encode_{name}",
        texts,
        functools.partial(read_texts, columns=["text"]),
        write=functools.partial(encode, encoder=encoder, folder=folder),
        sizes=[each.num_rows for each in texts],
        unit="texts",
        keys=[manifest.fingerprint([fingerprint, each.uri, each.start]) for each in texts],
    )
    work = functools.partial(
        fit,
        texts=texts,
        vectors=vectors,
        tokenizer=plan.prepared["settings"]["tokenizer"],
        learned=plan.learned,
        folds=Folds.of(plan.prepared, num_folds),
    )
    answers = [
        TeacherFile(number=number, uri=join(output.uri, f"{name}-{number}.arrow"))
        for number in range(num_folds + 1)
    ]
    return maps.map(f"fit_{name}", work, answers, key=fingerprint, unit="teachers")


def _list_texts(prepared: PreparedFiles, excerpts: Mapping[str, int]) -> list[TextRange]:
    """List the texts to encode, in parts.

    Args:
        prepared: The files of the prepared data.
        excerpts: Files of further texts, with the rows of each.
    """
    tables = {**prepared.tweets, UNLABELLED: prepared.unlabelled, EXCERPTS: excerpts}
    texts = list[TextRange]()
    for split, files in tables.items():
        step = 1
        if split == SPLITS[0]:
            step = -(-sum(files.values()) // _MAX_TRAIN_ROWS)
        for path, num_rows in files.items():
            size = _CHUNK_ROWS * step
            for start in range(0, num_rows, size):
                stop = min(start + size, num_rows)
                part = TextRange(split=split, uri=path, start=start, stop=stop, step=step)
                texts.append(part)
    return texts


def _tell_time(texts: Sequence[TextRange], name: str, num_tasks: int) -> None:
    """Estimate by the first texts how long encoding takes, and say it."""
    encoder = text_encoders.load(name)
    sample = read_texts(texts[0], columns=["text"])["text"].to_pylist()[:_SAMPLE_ROWS]
    text_encoders.encode(encoder, sample[:1])  # loads its weights
    began = time.monotonic()
    text_encoders.encode(encoder, sample)
    seconds_per_text = (time.monotonic() - began) / len(sample)
    num_rows = sum(each.num_rows for each in texts)
    seconds = seconds_per_text * num_rows / min(num_tasks, len(texts))
    say("teach", f"encoding {num_rows:,} texts takes about {to_words(seconds)}")


def read_texts(part: TextRange, *, columns: Sequence[str]) -> pa.Table:
    """Read the rows of a part."""
    rows = parquet.read_rows(part.uri, part.start, part.stop, columns=columns)
    return rows.take(pa.array(np.arange(0, len(rows), part.step)))


def encode(table: pa.Table, part_id: PartId, *, encoder: str, folder: str) -> str:
    """Encode each text of a part once, and write the vectors; return the file.

    Columns:
        read: ``text``.
        written: ``text`` (uint64, its hash, ascending), ``vector`` (fixed-size list of float32).
    """
    text = table["text"].combine_chunks()
    hashes, first = np.unique(hash_texts(text), return_index=True)
    vectors = text_encoders.encode(text_encoders.load(encoder), text.take(first).to_pylist())
    lists = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
    uri = join(folder, part_id.name_file())
    parquet.write(uri, pa.table({"text": hashes, "vector": lists}))
    return uri


def fit(
    part: TeacherFile,
    *,
    texts: Sequence[TextRange],
    vectors: Sequence[str],
    tokenizer: str,
    learned: LearnedClasses,
    folds: Folds,
) -> str:
    """Fit a teacher, and write its answers to all texts.

    Args:
        part: The teacher.
        texts: The parts.
        vectors: For each part the file of :func:`encode`.
        tokenizer: The tokenizer of the prepared data.
        learned: The classes that the network learns.
        folds: The folds of the training.

    Returns:
        The file.
    """

    def find_vectors(number: int, text: pa.Array) -> np.ndarray:
        table = parquet.read(vectors[number]).combine_chunks()
        _, place = find_sorted(table["text"].to_numpy(), hash_texts(text))
        flat = table["vector"].combine_chunks().flatten().to_numpy()
        return flat.reshape(len(table), -1)[place]

    def is_trained_on(text: pa.Array) -> np.ndarray:
        is_train, _ = folds.choose(folds.place(text), part.number - 1)
        return is_train

    if part.number > 0:
        answered = _fit_and_answer(
            texts, find_vectors, tokenizer, learned, folds.splits, is_trained_on
        )
    else:
        answered = _fit_and_answer(texts, find_vectors, tokenizer, learned)
    hashes = list[np.ndarray]()
    answers = list[np.ndarray]()
    for text, probabilities in answered:
        hashes.append(hash_texts(text))
        answers.append(probabilities)
    distinct, first = np.unique(np.concatenate(hashes), return_index=True)
    Answers(distinct, np.concatenate(answers)[first]).save(part.uri)
    return part.uri


def _fit_and_answer(
    texts: Sequence[TextRange],
    find_vectors: Callable[[int, pa.Array], np.ndarray],
    tokenizer: str,
    learned: LearnedClasses,
    splits: Sequence[str] = SPLITS[:1],
    is_trained_on: Callable[[pa.Array], np.ndarray] = lambda text: np.ones(len(text), bool),
) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """Fit a teacher to labelled rows of some splits, and compute its answers to all texts.

    Args:
        texts: The parts.
        find_vectors: Takes the number of a part and its texts, and returns their vectors.
        tokenizer: The tokenizer of the prepared data.
        learned: The classes that the network learns.
        splits: The splits that the teacher is fitted to.
        is_trained_on: Takes texts of these splits, and says which of them it is fitted to.

    Yields:
        The texts of each part and their probabilities. Rows of classes that the network does not
        learn are left out.
    """

    def read_part(number: int) -> _EncodedRows:
        columns = ["text", "label"] if texts[number].split in SPLITS else ["text"]
        rows = relabel(read_texts(texts[number], columns=columns), learned.positions)
        rows = rows.combine_chunks()
        text = rows["text"].combine_chunks()
        return _EncodedRows(
            text=text, label=rows["label"].combine_chunks(), vectors=find_vectors(number, text)
        )

    parts = [read_part(number) for number, part in enumerate(texts) if part.split in splits]
    text = pa.concat_arrays([part.text for part in parts])
    label = pa.concat_arrays([part.label for part in parts])
    chosen = np.flatnonzero(is_trained_on(text))
    every = -(-len(chosen) // _MAX_TRAIN_ROWS)
    chosen = chosen[::every]
    vectors = np.concatenate([part.vectors for part in parts])[chosen]
    del parts  # all vectors would stay in memory
    compute_probabilities = fit_teacher(
        text.take(pa.array(chosen)),
        label.to_numpy()[chosen],
        vectors,
        tokenizer=tokenizer,
        num_classes=len(learned.names),
    )
    for number in range(len(texts)):
        rows = read_part(number)
        yield rows.text, compute_probabilities(rows.text, rows.vectors)


def write_answers(
    encoder: text_encoders.TextEncoder,
    prepared_uri: str | os.PathLike[str],
    to: str | os.PathLike[str],
) -> None:
    """Write a file of answers for ``train.distill.teachers``, by any sentence encoder.

    The texts are encoded in this process. The teacher is fitted as for ``encoder:NAME``.

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
    texts = _list_texts(PreparedFiles.of(prepared, uri), {})
    answered = _fit_and_answer(
        texts,
        lambda _, text: text_encoders.encode(encoder, text.to_pylist()),
        prepared["settings"]["tokenizer"],
        learned,
    )
    names = ["text", *(f"{PROBABILITY}{name}" for name in learned.names)]
    tables = [pa.table([text, *probabilities.T], names=names) for text, probabilities in answered]
    parquet.write(absolute_uri(os.fspath(to)), pa.concat_tables(tables))
