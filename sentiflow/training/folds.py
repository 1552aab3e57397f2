"""Labelled rows -> folds, and a prediction for each row by a model that has not seen it.

Every labelled row is in one fold. For each fold a model is trained on the other folds, with words
that are counted in their rows. Its predictions for the rows of the fold are the *answers* of the
fold. A finished fold leaves the file of its logits, so that a killed training resumes.

Where given test rows measure the model, the answers only decide its calibration. Then the models of
the first folds are enough (:func:`rates.count_folds`), and the other folds train none.

Once the answers of the finished folds show that the network hardly helps the linear model, the
other folds and the model itself train only linear models, and the network has no share in the
logits. The files of the finished folds decide that, so a resumed training decides the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from sentiflow.data import prepared_data
from sentiflow.data.manifest_types import FileEntry
from sentiflow.models.profile import Profile
from sentiflow.models.scores import Scores
from sentiflow.progress import say
from sentiflow.storage import filesystem, parquet
from sentiflow.storage.uris import join
from sentiflow.training import excerpts, fold_answers, fold_data, trained_package
from sentiflow.training.fold_answers import NetworkGain
from sentiflow.training.learned_classes import LearnedClasses
from sentiflow.training.reports import TrainingCosts, TrainReport
from sentiflow.training.train_job import TrainJob

RunFold = Callable[[TrainJob, int], TrainReport]
"""Runs the training of a fold. Takes its job and its number, from 0."""
LOGITS = "logits-2.parquet"
"""File of a finished fold. The number changes with the columns of ``compute_logits``, so that a
training that an earlier version has begun computes them again."""
_LEAST_SHOWN = 0.0001
"""Smallest limit of a gain that a line can show."""


@dataclass(frozen=True)
class FoldResults:
    """The answers of the models of the folds, and the calibration that follows from them."""

    files: Sequence[FileEntry]
    """The answers of each fold. Empty if the test rows are fixed: these measure the model."""
    calibration: dict[str, Any]
    """A ``manifest_types.CalibrationRecord`` by the answers of the trained folds."""
    profile: Profile
    """Profile of the answered texts."""
    costs: TrainingCosts = field(compare=False)
    """What the models of the folds have cost. Equal trainings take other times."""


def train(
    job: TrainJob,
    learned: LearnedClasses,
    *,
    num_folds: int,
    root: str,
    folder: str,
    run: RunFold,
    taught: Sequence[str] = (),
) -> FoldResults:
    """Train a model for each fold that needs one, and let it answer the rows of the fold.

    The answers of these folds calibrate the model of the training itself. The answers of a fold are
    calibrated by the other folds.

    Args:
        job: The training itself.
        learned: Its classes.
        num_folds: The folds that are trained, see :func:`rates.count_folds`.
        root: Directory of the output.
        folder: Folder below ``root`` for the folds of this training.
        run: Runs the training of a fold.
        taught: For each fold the file with the answers of its teachers, if there are any.
    """
    tables, low_gain = _train_missing(job, learned, num_folds, join(root, folder), run, taught)
    has_given_test = prepared_data.has_given_test(job.prepared)
    costs = sum(map(fold_answers.read_costs, tables), TrainingCosts(num_folds_trained=num_folds))
    files = list[FileEntry]()
    scores = list[Scores]()
    for number, table in enumerate(tables):
        others = pa.concat_tables(each for each in tables if each is not table)
        calibration = fold_answers.calibrate(others, learned)
        of_fold = fold_answers.score(table, learned, calibration)
        scores.append(of_fold)
        what = f"fold {number + 1} of {num_folds}"
        _say_accuracy(what, of_fold, table["label"].to_numpy())
        if not has_given_test:
            answers = fold_answers.tabulate(table, number, of_fold)
            path = f"{folder}/fold-{number + 1}.parquet"
            content = parquet.to_bytes(answers)
            files.append(filesystem.write_file(root, path, content, rows=len(answers)))
    whole = pa.concat_tables(tables)
    label = whole["label"].to_numpy()
    answered = Scores.join(scores)
    what = "all folds"
    if num_folds < job.settings.folds:
        what = f"{num_folds} of {job.settings.folds} folds"
    _say_accuracy(what, answered, label)
    calibration = fold_answers.calibrate(whole, learned)
    if low_gain:
        calibration["network_gain"] = round(low_gain.value, 5)
    unsure = job.settings.unsure
    if unsure:
        calibration["unsure"] = trained_package.choose_unsure(
            answered, label, unsure.max_error, text_hash=whole["text_hash"].to_numpy()
        )
    return FoldResults(
        files=files,
        calibration=calibration,
        profile=answered.profile(label, learned.names),
        costs=costs,
    )


def _train_missing(
    job: TrainJob,
    learned: LearnedClasses,
    num_folds: int,
    folds_uri: str,
    run: RunFold,
    taught: Sequence[str],
) -> tuple[list[pa.Table], NetworkGain | None]:
    """Train the model of each fold that needs one and is not finished.

    The rows are read only if a fold is left.

    Args:
        job: The training itself.
        learned: Its classes.
        num_folds: See :func:`train`.
        folds_uri: Directory of the folds of this training.
        run: See :func:`train`.
        taught: See :func:`train`.

    Returns:
        The logits of these folds; and the gain of the network, if it is so small that what is left
        to train needs no network. Then no table has logits of a network.
    """
    rows: fold_data.AllRows | None = None
    tables = list[pa.Table]()
    low_gain: NetworkGain | None = None
    if num_folds < job.settings.folds:
        say(
            "train",
            f"{num_folds} of {job.settings.folds} folds are trained: their rows decide the "
            "calibration, and the given test rows measure the model",
        )
    for number in range(num_folds):
        fold_uri = join(folds_uri, str(number + 1))
        logits_uri = join(fold_uri, LOGITS)
        if not filesystem.exists(logits_uri):
            if rows is None:
                rows = fold_data.read(job, learned)
            fold_job = fold_data.write(job, rows, number, learned, fold_uri)
            fold_job = replace(fold_job, trains_network=low_gain is None)
            if taught:
                num_excerpts = excerpts.count(job.prepared, learned)
                fold_job = fold_data.teach(fold_job, rows, learned, taught[number], num_excerpts)
            report = run(fold_job, number)
            logits = fold_answers.compute_logits(fold_job, rows, number, learned)
            parquet.write(logits_uri, fold_answers.add_costs(logits, report.costs))
        tables.append(parquet.read(logits_uri).combine_chunks())
        if low_gain is None:
            gain = fold_answers.measure_gain(tables)
            if gain and not gain.is_worth_training:
                low_gain = gain
                _say_linear_only(gain, num_folds - number - 1)
    if low_gain:
        tables = [fold_answers.drop_network(table) for table in tables]
    return tables, low_gain


def _say_linear_only(gain: NetworkGain, num_left: int) -> None:
    """Say why the folds that are left and the model itself train no network."""
    trained = "the model trains"
    if num_left:
        folds = "fold" if num_left == 1 else "folds"
        trained = f"{num_left} more {folds} and the model train"
    say(
        "train",
        f"{trained} only linear models: the network lowers the log loss of "
        f"{gain.num_rows:,} rows that the models have not seen by less than "
        f"{max(gain.high, _LEAST_SHOWN):.4f} (certainty 95%)",
    )


def _say_accuracy(what: str, scores: Scores, label: np.ndarray) -> None:
    """Say the accuracy on the rows of a fold, or of all folds."""
    accuracy = np.mean(scores.prediction == label)
    say("train", f"{what}: accuracy {accuracy:.4f} on {len(label):,} rows")
