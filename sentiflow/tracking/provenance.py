"""Stage, settings and inputs -> the name, the tags and the datasets of its MLflow run."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sentiflow import __version__
from sentiflow.config import ray_job
from sentiflow.config.sections import Config
from sentiflow.storage.uris import is_local, split_member, without_credentials
from sentiflow.tracking.mlflow_values import MAX_DIGEST_LENGTH

GROUP_DIGITS = 4
"""Of the group, in the names of its runs."""
OUTPUT_TAG, FINGERPRINT_TAG = "sentiflow.output_uri", "sentiflow.fingerprint"
COMMIT_TAG = "mlflow.source.git.commit"
SUBMISSION_TAG = "sentiflow.submission_id"
COMMIT_VARIABLE = "SENTIFLOW_COMMIT"
"""Tells the commit where there is no repository, as in a submitted job."""

_INPUT_TAG = "sentiflow.input."
_CONTEXTS = {
    "prepare": "preparation",
    "train": "training",
    "sweep": "training",
    "score": "scoring",
    "evaluate": "evaluation",
}
_MAX_FILES = 100
"""Named in a dataset's source; its profile has the count of all."""


@dataclass(frozen=True)
class TrackedDataset:
    """What a run has read, as MLflow shows it."""

    name: str
    digest: str
    source_type: str
    """``local``, or the scheme of a URI."""
    source: str
    """JSON."""
    profile: str
    """JSON."""
    context: str
    """What it was read for: preparation, training, scoring or evaluation."""


def name_run(stage: str, config: Config, *, group: str) -> str:
    """Name a run so that a page that compares runs can be read.

    Example:
        >>> config = Config(name="a", output_uri="b", prepare={"csv": "c"})
        >>> name_run("train", config, group="0b1c3f2a"), name_run("score", config, group="0b1c3f2a")
        ('train gru(128) 3f2a', 'score 3f2a')
    """
    what = f" {config.train.model.brief}" if stage == "train" else ""
    return f"{stage}{what} {group[-GROUP_DIGITS:]}"


def describe_code() -> dict[str, str]:
    """Tag the version of sentiflow, and what there is of commit and submitted job."""
    tags = {
        "sentiflow.version": __version__,
        COMMIT_TAG: os.environ.get(COMMIT_VARIABLE) or read_commit(),
        SUBMISSION_TAG: ray_job.submission_id(),
    }
    return {name: value for name, value in tags.items() if value}


def describe_lineage(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Tag the fingerprints of inputs."""
    return {f"{_INPUT_TAG}{name}": value["fingerprint"] for name, value in inputs.items()}


def is_lineage(tag: str) -> bool:
    """Say whether a tag is one of :func:`describe_lineage`."""
    return tag.startswith(_INPUT_TAG)


def to_datasets(inputs: Mapping[str, Any], *, stage: str) -> Iterator[TrackedDataset]:
    """Describe the inputs of a spec or manifest as MLflow's datasets.

    An input that stands for a directory is called as the stage calls it, one of files by the first
    of them.
    """
    for name, value in inputs.items():
        files = value.get("files", ())
        uris = [item["uri"] for item in files] or [value["uri"]]
        named = [without_credentials(uri) for uri in uris[:_MAX_FILES]]
        profile = {"files": len(files), "bytes": sum(item["bytes"] for item in files)}
        yield TrackedDataset(
            name=_name_files(uris) if files else name,
            digest=value["fingerprint"][:MAX_DIGEST_LENGTH],
            source_type="local" if is_local(uris[0]) else uris[0].partition(":")[0],
            source=json.dumps({"uri": named[0]} if len(named) == 1 else {"uris": named}),
            profile=json.dumps(profile if files else {}),
            context=_CONTEXTS[stage],
        )


def _name_files(uris: list[str]) -> str:
    archive, member = split_member(uris[0])
    first = (member or archive).rpartition("/")[2]
    more = len(uris) - 1
    return f"{first} and {more} more" if more else first


def read_commit() -> str:
    """Ask git for the commit right here; nothing where there is no git, or no repository."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""
