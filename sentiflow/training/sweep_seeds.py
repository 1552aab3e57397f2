"""Trials that differ only in their seed -> mean and standard deviation of their metrics."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from sentiflow.config.train_sections import SelectionSettings, TrainSettings
from sentiflow.data import manifest
from sentiflow.storage import parquet
from sentiflow.training import classes, search_space

SEED = "train.seed"
METRICS = ("validation_accuracy", "validation_loss", "validation_f1_macro", "test_accuracy")
"""Metrics of a trial that are summarized."""


Summary = dict[str, Any]
"""The metrics of some trials, see :func:`summarize`."""


def without_seed(values: Mapping[str, Any]) -> search_space.Values:
    """Leave the seed out of a trial's values."""
    return {key: value for key, value in values.items() if key != SEED}


def has_repeats(values: Sequence[Mapping[str, Any]]) -> bool:
    """Whether trials differ only in their seed."""
    return len({json.dumps(without_seed(each), sort_keys=True) for each in values}) < len(values)


def summarize(trials: Sequence[Mapping[str, Any]], selection: SelectionSettings) -> list[Summary]:
    """Summarize the finished trials that differ only in their seed.

    Args:
        trials: The ``sweep_trials.TrialRecord`` of each trial.
        selection: The metric by which trials are compared.

    Returns:
        For each combination of other values with two seeds or more, the best mean first: the
        ``values``, ``num_seeds``, and of each metric ``<metric>_mean`` and ``<metric>_std``, the
        sample standard deviation. Both are None where a trial lacks the metric.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        if trial["status"] == "finished":
            key = json.dumps(without_seed(trial["values"]), sort_keys=True)
            groups.setdefault(key, []).append(trial)
    found = [_summarize(group) for group in groups.values() if len(group) > 1]
    mean = f"validation_{selection.metric_name}_mean"
    return sorted(found, key=lambda group: selection.order(group[mean]))


def _summarize(trials: Sequence[Mapping[str, Any]]) -> Summary:
    found: Summary = {"values": without_seed(trials[0]["values"]), "num_seeds": len(trials)}
    for name in METRICS:
        numbers = [trial[name] for trial in trials]
        is_known = None not in numbers
        found[f"{name}_mean"] = statistics.fmean(numbers) if is_known else None
        found[f"{name}_std"] = statistics.stdev(numbers) if is_known else None
    return found


def measure_test_accuracy(model_uri: str, settings: TrainSettings) -> float | None:
    """Measure the accuracy of a model package on the test rows of the classes that it learned.

    Returns:
        The share of these rows that are predicted correctly; None if there are none.
    """
    from sentiflow.models.package import ModelPackage  # imports torch

    uri = settings.prepared_uri
    prepared = manifest.require(uri, stage="prepare", setting="train.prepared_uri")
    package, learned = ModelPackage.load(model_uri), classes.choose(prepared, settings)
    is_right = []
    for path in manifest.list_tables(prepared, uri, ["tweets/split=test"]):
        table = classes.relabel(parquet.read(path, columns=["text", "label"]), learned.positions)
        prediction = package.score(table["text"].combine_chunks()).prediction
        is_right += (prediction == table["label"].to_numpy()).tolist()
    return statistics.fmean(is_right) if is_right else None
