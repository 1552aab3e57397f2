"""Trials of a sweep -> their order, their tables, and the means over their seeds."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sentiflow.config.train_sections import SelectionSettings
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import shorten
from sentiflow.training import search_space
from sentiflow.training.sweep_trials import ENDS, MAX_REASON, SEED, TrialRecord, value_of

METRICS = ("validation_accuracy", "validation_loss", "validation_f1_macro", "test_accuracy")
"""Metrics of a trial that are summarized."""


def rank(trials: Sequence[TrialRecord], selection: SelectionSettings) -> list[TrialRecord]:
    """Order trials: finished, stopped, failed, the best of each first."""
    ends = [*ENDS]
    return sorted(
        trials,
        key=lambda trial: (
            ends.index(trial["status"]),
            selection.order(value_of(trial, selection)),
            trial["trial"],
        ),
    )


def _without_seed(values: Mapping[str, Any]) -> search_space.Values:
    return {key: value for key, value in values.items() if key != SEED}


def has_repeats(values: Sequence[Mapping[str, Any]]) -> bool:
    """Whether trials differ only in their seed."""
    return len({json.dumps(_without_seed(each), sort_keys=True) for each in values}) < len(values)


def summarize_seeds(
    trials: Sequence[Mapping[str, Any]], selection: SelectionSettings
) -> list[dict[str, Any]]:
    """Summarize the finished trials that differ only in their seed.

    Args:
        trials: The :class:`TrialRecord` of each trial.
        selection: The metric by which trials are compared.

    Returns:
        For each combination of other values with two seeds or more, the best mean first: the
        ``values``, ``num_seeds``, and of each metric ``<metric>_mean`` and ``<metric>_std``, the
        sample standard deviation. Both are None where a trial lacks the metric.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        if trial["status"] == "finished":
            key = json.dumps(_without_seed(trial["values"]), sort_keys=True)
            groups.setdefault(key, []).append(trial)
    summaries = []
    for group in groups.values():
        if len(group) > 1:
            summary = {"values": _without_seed(group[0]["values"]), "num_seeds": len(group)}
            for name in METRICS:
                numbers = [trial[name] for trial in group]
                has_all = None not in numbers
                summary[f"{name}_mean"] = statistics.fmean(numbers) if has_all else None
                summary[f"{name}_std"] = statistics.stdev(numbers) if has_all else None
            summaries.append(summary)
    mean = f"validation_{selection.metric_name}_mean"
    return sorted(summaries, key=lambda summary: selection.order(summary[mean]))


def write_values(values: Mapping[str, Any]) -> dict[str, str]:
    """Write the values of settings as on the command line."""
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}


def to_csv(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Write a table with a column for each setting, by its dotted name."""
    rows = [{k: v for k, v in r.items() if k != "values"} | r["values"] for r in records]
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n").encode()


def to_text(record: Manifest) -> str:
    """Render the trials as a table, the best first; then why trials failed, and the seeds."""
    trials = record["trials"]
    short = search_space.short_names(list(trials[0]["values"]))
    names = {"accuracy": "validation_accuracy", "loss": "validation_loss"}
    if record["settings"]["train"]["selection"]["metric"] == "macro_f1":
        names["macro F1"] = "validation_f1_macro"
    if any(trial.get("test_accuracy") is not None for trial in trials):
        names["test accuracy"] = "test_accuracy"

    def show(values: Mapping[str, Any]) -> dict[str, str]:
        return {short[key]: value for key, value in write_values(values).items()}

    lines = _align(
        [
            {"trial": f"{trial['trial']}", "status": trial["status"]}
            | show(trial["values"])
            | {title: trial[name] for title, name in names.items()}
            | {"epoch": f"{trial['chosen_epoch']} of {trial['epochs']}"}
            | {"seconds": f"{trial['seconds']:.1f}"}
            for trial in trials
        ]
    )
    lines += [
        f"trial {trial['trial']} failed: {shorten(trial['reason'], MAX_REASON)}"
        for trial in trials
        if trial["reason"]
    ]
    if groups := record.get("seeds"):
        lines += ["", "mean ± standard deviation over the seeds:"]
        lines += _align(
            [
                {"seeds": f"{group['num_seeds']}"}
                | show(group["values"])
                | {
                    title: f"{group[f'{name}_mean']:.4f} ± {group[f'{name}_std']:.4f}"
                    for title, name in names.items()
                    if group[f"{name}_mean"] is not None
                }
                for group in groups
            ]
        )
    return "\n".join(lines)


def _align(rows: list[dict[str, Any]]) -> list[str]:
    """Render a table with a line of names."""
    table = pd.DataFrame(rows)
    lines = table.to_string(index=False, float_format="{:.4f}".format, na_rep="").splitlines()
    return [line.rstrip() for line in lines]
