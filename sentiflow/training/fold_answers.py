"""Models of folds -> logits of the rows that they have not seen -> calibrated predictions.

The *answers* of a fold are the predictions for its rows. The other folds calibrate them.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import safetensors.numpy

from sentiflow.data.arrays import hash_texts, one_array, to_matrix
from sentiflow.metrics import confidence
from sentiflow.models.linear import LinearModel
from sentiflow.models.package import ModelPackage
from sentiflow.models.scores import Scores
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join
from sentiflow.training import trained_package
from sentiflow.training.fold_data import AllRows
from sentiflow.training.learned_classes import LearnedClasses, relabel
from sentiflow.training.linear_choice import LinearChoice
from sentiflow.training.linear_solver import STRENGTHS
from sentiflow.training.reports import TrainingCosts
from sentiflow.training.train_job import TrainJob

_NEVER = -30.0
"""Logit of a class that the model of a fold has not learned: its probability is almost 0."""
_NETWORK = "network"
"""Column with the logits of the network."""
_LINEAR = "linear_"
"""Beginning of the columns with the logits of the linear models."""
_LOGITS = (_NETWORK, _LINEAR)
"""Beginnings of all columns with logits."""
_MIN_GAIN = 0.005
"""Gain in the log loss of a row, in nats, below which a network is not worth its time."""
_ONE_SIDED = 1.645
"""The 95% quantile of the normal distribution."""
_COSTS = b"costs"
"""Metadata of the table: the costs of the models of the fold, as JSON."""
_COUNTS = ("num_tokens", "lengths", "num_unknown")
"""Fields of ``Scores`` that the logits come with."""


def compute_logits(job: TrainJob, rows: AllRows, number: int, learned: LearnedClasses) -> pa.Table:
    """Compute the logits of the rows of a fold by its model.

    Columns:
        returned: ``row_id``, ``label`` (a position in the classes of the training), ``text_hash``
            (equal for copies of a text), the counts of ``Scores``, and the logits of each class:
            ``network``, unless the fold has trained none, and if there are linear models
            ``linear_<name>`` for each, see :class:`LinearChoice`.
    """
    is_of_fold = rows.is_labelled & (rows.position.astype(int) == number)
    table = relabel(rows.table.filter(is_of_fold), learned.positions)
    text = table["text"].combine_chunks()
    package = ModelPackage.load(job.model_uri)
    places = [learned.names.index(name) for name in package.settings.classes]
    models = dict[LinearChoice, LinearModel]()
    if package.linear:
        for choice in itertools.starmap(
            LinearChoice, itertools.product(STRENGTHS, job.neighbor_weights)
        ):
            content = filesystem.read_bytes(join(job.linear_uri, choice.name))
            tensors = safetensors.numpy.load(content)
            models[choice] = LinearModel.of(tensors, num_classes=len(places))
    components = package.component_logits(text, models.values())
    scores = package.score(text)

    columns = {"row_id": table["row_id"], "label": table["label"], "text_hash": hash_texts(text)}
    columns |= {name: getattr(scores, name) for name in _COUNTS}
    names = [_NETWORK, *[_LINEAR + choice.name for choice in models]]
    for name, component in zip(names, components, strict=True):
        if name == _NETWORK and not job.trains_network:
            continue
        logits = np.full((len(table), len(learned.names)), _NEVER, np.float32)
        logits[:, places] = component
        columns[name] = pa.FixedSizeListArray.from_arrays(logits.ravel(), logits.shape[1])
    return pa.table(columns)


def _mix(table: pa.Table, learned: LearnedClasses, calibration: Mapping[str, Any]) -> Scores:
    """Mix the logits of :func:`compute_logits` into probabilities, without calibrating them.

    Args:
        table: The logits of some folds.
        learned: The classes of the training.
        calibration: Has the choice of the linear model and its share, if there are linear models.
    """
    weight = calibration.get("linear_weight", 0.0)
    logits = np.zeros((len(table), len(learned.names)))
    if _NETWORK in table.column_names:
        logits = (1 - weight) * _read_logits(table, _NETWORK)
    if weight:
        column = _LINEAR + LinearChoice.of(calibration).name
        logits = logits + weight * _read_logits(table, column)
    probabilities = confidence.softmax(logits)
    counts = {name: table[name].to_numpy() for name in _COUNTS}
    probabilities[counts["num_tokens"] == 0] = learned.priors
    return Scores(probabilities.astype(np.float32), learned.names, **counts)


def _read_logits(table: pa.Table, column: str) -> np.ndarray:
    """Read a column of logits as an array ``(N, C)``."""
    return to_matrix(one_array(table[column]))


class NetworkGain(NamedTuple):
    """By how much the network lowers the log loss of the linear model, on finished folds."""

    value: float
    """Mean over the rows, in nats."""
    high: float
    """One-sided 95% limit of the mean."""
    num_rows: int

    @property
    def is_worth_training(self) -> bool:
        """Say whether the network may gain so much that other folds need it."""
        return self.high >= _MIN_GAIN


def measure_gain(tables: Sequence[pa.Table]) -> NetworkGain | None:
    """Measure the gain of the network; None without linear models or with too few rows.

    Args:
        tables: The logits of the finished folds, from :func:`compute_logits`.
    """
    table = pa.concat_tables(tables)
    of_models = [
        _read_logits(table, name) for name in table.column_names if name.startswith(_LINEAR)
    ]
    if not of_models or len(table) < 2:
        return None
    gain, error = confidence.measure_gain(
        label=table["label"].to_numpy(), first=_read_logits(table, _NETWORK), seconds=of_models
    )
    return NetworkGain(value=gain, high=gain + _ONE_SIDED * error, num_rows=len(table))


def drop_network(table: pa.Table) -> pa.Table:
    """Drop the logits of the network, if there are any."""
    return table.select([name for name in table.column_names if name != _NETWORK])


def add_costs(table: pa.Table, costs: TrainingCosts) -> pa.Table:
    """Add the costs of the models of a fold to the table of their logits."""
    return table.replace_schema_metadata({_COSTS: json.dumps(asdict(costs))})


def read_costs(table: pa.Table) -> TrainingCosts:
    """Read the costs of the models of a fold; 0 if an earlier version has trained them."""
    metadata = table.schema.metadata or {}
    return TrainingCosts(**json.loads(metadata.get(_COSTS, b"{}")))


def calibrate(table: pa.Table, learned: LearnedClasses) -> dict[str, Any]:
    """Choose the linear model and its share, and calibrate, by the logits of some folds."""
    label = table["label"].to_numpy()
    of_models = dict[LinearChoice, np.ndarray]()
    for name in table.column_names:
        if name.startswith(_LINEAR):
            choice = LinearChoice.parse(name.removeprefix(_LINEAR))
            of_models[choice] = _read_logits(table, name)
    decided = dict[str, Any]()
    if of_models and _NETWORK in table.column_names:
        decided |= trained_package.choose_linear(label, _read_logits(table, _NETWORK), of_models)
    elif of_models:
        choice = trained_package.choose_alone(label, of_models)
        decided |= {"linear_weight": 1.0} | choice.to_calibration()
    scores = _mix(table, learned, decided)
    return decided | trained_package.calibrate(scores, label)


def score(table: pa.Table, learned: LearnedClasses, calibration: Mapping[str, Any]) -> Scores:
    """Turn the logits of a fold into calibrated probabilities.

    A class without a train row in the other folds has the probability 0.
    """
    scores = _mix(table, learned, calibration)
    fitted = confidence.Calibration.read(calibration, learned.names)
    if fitted is None:  # the other folds have no row of a learned class
        fitted = confidence.Calibration()
    probabilities = confidence.calibrate(scores.probabilities, fitted).astype(np.float32)
    # Network and linear models have learned the same classes, so any column tells which.
    first_column = next(name for name in table.column_names if name.startswith(_LOGITS))
    probabilities[_read_logits(table, first_column) == _NEVER] = 0
    probabilities[scores.num_tokens == 0] = learned.priors
    return replace(scores, probabilities=probabilities)


def tabulate(table: pa.Table, number: int, scores: Scores) -> pa.Table:
    """Make the table of the answers of a fold.

    Columns:
        returned: ``row_id``, ``fold``, ``label`` and ``prediction`` (positions in the classes of
            the training), and ``probability_<class>``.
    """
    columns = {
        "row_id": table["row_id"],
        "fold": np.full(len(table), number + 1, np.int8),
        "label": table["label"],
        "prediction": scores.prediction,
    }
    for name, probabilities in zip(scores.classes, scores.probabilities.T, strict=True):
        columns[f"probability_{name}"] = probabilities
    return pa.table(columns)
