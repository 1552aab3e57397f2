"""A run in MLflow -> the settings that its command used, and what the command has found."""

import math
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sentiflow.config import yaml_text
from sentiflow.config.settings import ConfigLike
from sentiflow.errors import UserError, printable
from sentiflow.tracking import artifact_sources, mlflow_store, runs

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from sentiflow.data.manifest_types import Manifest

_PREFIX = "runs:/"
_URI = re.compile(r"runs:/+(?P<id>\w{1,64})/?")
_HINT = "write runs:/ID with the id on the page of a run of sentiflow in MLflow"
_MAX_BYTES = 1_000_000
"""Maximum size of a settings file."""
_OF_TIME = re.compile(r"seconds|per_second|^system/|^(train|validation|step|pretrain)/")
"""Metrics that are not compared: they measure time, or single epochs and steps."""
_MAX_SHOWN = 3
"""Maximum number of metrics that are shown if they differ."""


@dataclass(frozen=True)
class EarlierRun:
    """A run in MLflow whose command is to be repeated."""

    uri: str
    """``runs:/ID``."""
    tracking_uri: str
    """The store."""
    stage: str
    settings: dict[str, Any]
    """The settings as they were written; of an earlier version, all settings."""
    directory: str
    """The directory to which locations in the settings are relative; empty if they are absolute."""
    fingerprint: str
    """Fingerprint of the result; empty if the run has none."""
    code: str
    """The version of sentiflow and the hash of its code."""
    metrics: dict[str, float]

    def compare(self, records: "Mapping[str, Manifest]") -> str:
        """Say whether the repetition has the same settings, inputs and metrics as this run.

        Args:
            records: The manifests of the repeated stages, by stage.
        """
        record = records.get(self.stage)
        if record is None:
            return f"repeated without the stage of {self.uri}, {self.stage}"
        what = "the same settings and inputs"
        if record["fingerprint"] != self.fingerprint:
            what = "other settings or inputs"
        return f"{what} as {self.uri}; {self._compare_metrics(_list_metrics(self.stage, records))}"

    def _compare_metrics(self, metrics: Mapping[str, float]) -> str:
        """Say which metrics differ from those of this run."""
        common = []
        for name in metrics:
            if name in self.metrics and not _OF_TIME.search(name):
                common.append(name)
        different = [name for name in common if not _are_equal(metrics[name], self.metrics[name])]
        if not different:
            return f"all {len(common)} metrics are equal" if common else "no metric to compare"
        shown = []
        for name in different[:_MAX_SHOWN]:
            shown.append(f"{name} {metrics[name]:.6g}, before {self.metrics[name]:.6g}")
        return f"{len(different)} of {len(common)} metrics differ: {'; '.join(shown)}"


def _list_metrics(stage: str, records: "Mapping[str, Manifest]") -> dict[str, float]:
    """List the metrics that the run of a stage has after all stages."""
    run = records[stage].get("run")
    metrics = dict(run["metrics"]) if run else {}
    evaluation = records["evaluate"].get("run") if "evaluate" in records else None
    if stage == "train" and evaluation and "training" in evaluation:
        metrics |= evaluation["training"]["metrics"]
    return metrics


def _are_equal(first: float, second: float) -> bool:
    """Say whether a metric is the same: MLflow may store it in another precision."""
    return math.isclose(first, second, rel_tol=1e-12)


def is_run(config: ConfigLike) -> bool:
    """Say whether a command names a run in MLflow in place of a settings file."""
    return not isinstance(config, Mapping) and os.fspath(config).startswith(_PREFIX)


def read(uri: str, *, tracking_uri: str) -> EarlierRun:
    """Read the settings of a run, and what it has found.

    Raises:
        UserError: There is no such store or run, it is no run of sentiflow, it has no settings, or
            they are on another server.
        JobError: MLflow refuses.
        UnavailableError: MLflow does not answer.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise UserError(f"{uri} is no run", hint=_HINT)
    with mlflow_store.asking(
        tracking_uri, f"look up {uri}", hint=f"; {_HINT}", refusal=UserError
    ) as client:
        run = client.get_run(match["id"])
        tags = run.data.tags
        if runs.STAGE_TAG not in tags:
            raise UserError(f"{uri} is no run of sentiflow", hint=_HINT)
        artifact_sources.check(
            run.info.artifact_uri,
            uri=uri,
            tracking_uri=tracking_uri,
            hint="repeat it with its settings file",
        )
        name, text = _read_settings(client, match["id"], uri)
    return EarlierRun(
        uri=uri,
        tracking_uri=tracking_uri,
        stage=printable(tags[runs.STAGE_TAG]),
        settings=_parse(text, f"{name} of {uri}"),
        directory=tags.get(runs.DIRECTORY_TAG, ""),
        fingerprint=tags.get(runs.FINGERPRINT_TAG, ""),
        code=printable(
            f"{tags.get('sentiflow.version', 'unknown')}, code {tags.get(runs.CODE_TAG)}"
        ),
        metrics=run.data.metrics,
    )


def _read_settings(client: "MlflowClient", run_id: str, uri: str) -> tuple[str, str]:
    """Read the settings file of a run; return its name and its text.

    Raises:
        UserError: The run has none, or it is too large.
    """
    sizes = {file.path: file.file_size or 0 for file in client.list_artifacts(run_id)}
    for name in (runs.CONFIG_FILE, runs.RESOLVED_FILE):
        if name not in sizes:
            continue
        if sizes[name] > _MAX_BYTES:
            raise UserError(f"{name} of {uri} is too large", hint="no settings file is so large")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(client.download_artifacts(run_id, name, folder))
            with path.open("rb") as file:  # its true size may be another one
                return name, file.read(_MAX_BYTES).decode("utf-8", "replace")
    raise UserError(
        f"{uri} has no settings: neither {runs.CONFIG_FILE} nor {runs.RESOLVED_FILE}",
        hint="repeat it with its settings file; a run that an earlier version imported has none",
    )


def _parse(text: str, name: str) -> dict[str, Any]:
    """Parse a settings file from a stranger: a few aliases could stand for millions of values.

    Raises:
        UserError: It is not YAML with sections, or has aliases.
    """
    try:
        has_aliases = any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text))
        raw = None if has_aliases else yaml_text.parse(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{name} is not YAML", hint=_HINT) from error
    if not isinstance(raw, dict):
        raise UserError(f"{name} holds no settings that can be read", hint=_HINT)
    return raw
