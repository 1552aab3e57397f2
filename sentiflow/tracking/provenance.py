"""Stage, settings and inputs -> the name and the tags of its MLflow run."""

import getpass
import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentiflow import __version__
from sentiflow.config import ray_job
from sentiflow.config.sections import Config

FOLDERS = ("prepared", "trained", "scored", "report", "trends", "sweep")
"""Folders of a run's output, in the order in which the stages build on each other."""
OUTPUT_TAG, FINGERPRINT_TAG = "sentiflow.output_uri", "sentiflow.fingerprint"
"""Tags of a run: location and fingerprint of its result. A version of a registered model has the
fingerprint of its package."""
COMMIT_TAG, DIRTY_TAG = "mlflow.source.git.commit", "mlflow.source.git.dirty"
CODE_TAG = "sentiflow.code"
"""Tags of a run: the commit; ``true`` if tracked files differ from it; a hash of the code."""
SUBMISSION_TAG = "sentiflow.submission_id"
COMMIT_VARIABLE = "SENTIFLOW_COMMIT"
"""The variable with the commit where there is no repository, as in a submitted job: what
:func:`read_commit` returned where the job was submitted."""
_DIRTY = "-dirty"


def name_run(stage: str, config: Config) -> str:
    """Name a run by its output directory and its stage, a training by its model.

    Example:
        >>> config = Config(
        ...     name="a",
        ...     output_uri="runs/b",
        ...     train={"output_uri": "runs/b/trained"},
        ...     score={"output_uri": "runs/b/scored"},
        ... )
        >>> name_run("score", config), name_run("train", config)
        ('b: score', 'b: gru(128)')
    """
    folders = getattr(config, stage).output_uri.rstrip("/").split("/")
    folder = folders[-2] if folders[-1] in FOLDERS and len(folders) > 1 else folders[-1]
    return f"{folder}: {config.train.model.brief if stage == 'train' else stage}"


def describe_code() -> dict[str, str]:
    """Make tags of the version and the code of sentiflow, the commit, and the submitted job."""
    commit = os.environ.get(COMMIT_VARIABLE) or read_commit()
    tags = {
        "sentiflow.version": __version__,
        CODE_TAG: hash_code(),
        COMMIT_TAG: commit.removesuffix(_DIRTY),
        DIRTY_TAG: "true" if commit.endswith(_DIRTY) else "",
        SUBMISSION_TAG: ray_job.submission_id(),
    }
    return {name: value for name, value in tags.items() if value}


def describe_lineage(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Make a tag of the fingerprint of each input."""
    return {f"sentiflow.input.{name}": value["fingerprint"] for name, value in inputs.items()}


def hash_code() -> str:
    """Hash all modules and data files of sentiflow, as two checkouts of one version may differ."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".py", ".yaml"):
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def read_commit() -> str:
    """Ask git for the commit of the working directory; empty without git or a repository.

    It ends with ``-dirty`` if files that git tracks have been changed since.
    """
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],  # noqa: S607
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""


def name_user() -> str:
    """Name the user; in a container the number of the user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
