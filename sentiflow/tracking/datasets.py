"""Inputs of a stage -> datasets of an MLflow run, with rows and shares of the classes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag

from sentiflow.config.class_names import UNLABELLED
from sentiflow.data.manifest_types import Manifest, RunRecord
from sentiflow.storage.uris import is_local, split_member, without_credentials
from sentiflow.tracking.runs import CONTEXTS, MAX_DIGEST_LENGTH

Profile = dict[str, Any]
"""Rows and shares of classes of a dataset, as MLflow's page shows them."""

_MAX_FILES = 100
"""Maximum files that are named in a dataset's source; its profile has their number."""


def to_datasets(
    inputs: Mapping[str, Any], *, stage: str, profiles: Mapping[str, Profile] | None = None
) -> list[DatasetInput]:
    """Describe the inputs of a spec or manifest as MLflow's datasets.

    An input directory has the name of the input; input files have the name of the first file.

    Args:
        inputs: The inputs by name.
        stage: The stage that reads them.
        profiles: The rows of inputs, by the name of the input, see :func:`describe_rows`.
    """
    datasets = []
    for name, item in inputs.items():
        context = InputTag("mlflow.data.context", CONTEXTS[stage])
        profile = (profiles or {}).get(name, {})
        datasets.append(DatasetInput(_to_dataset(name, item, profile), [context]))
    return datasets


def _to_dataset(name: str, item: Mapping[str, Any], profile: Profile) -> Dataset:
    """Describe an input as a dataset of MLflow.

    Args:
        name: Name of the input.
        item: The input: files, several models (``members``), or one directory.
        profile: Its rows, if they are known.
    """
    files = item.get("files", ())
    members = item.get("members")
    uris = [each["uri"] for each in files or members or [item]]
    title = name
    if files:
        title = _name_files(uris)
        num_bytes = sum(file["bytes"] for file in files)
        profile = {**profile, "files": len(files), "bytes": num_bytes}
    shown = [without_credentials(uri) for uri in uris[:_MAX_FILES]]
    source = {"uri": shown[0]} if len(shown) == 1 else {"uris": shown}
    return Dataset(
        name=title,
        digest=item["fingerprint"][:MAX_DIGEST_LENGTH],
        source_type="local" if is_local(uris[0]) else uris[0].partition(":")[0],
        source=json.dumps(source),
        profile=json.dumps(profile, ensure_ascii=False),
    )


def _name_files(uris: Sequence[str]) -> str:
    """Name the first file, or the member of an archive that it is, and count all other files."""
    member = split_member(uris[0])[1]
    first = (member or uris[0]).rpartition("/")[2]
    if len(uris) == 1:
        return first
    return f"{first} and {len(uris) - 1} more"


def describe_rows(record: Manifest) -> Profile:
    """Describe the rows of a finished stage: their number, and shares of the classes.

    ``num_rows`` is the name of MLflow's own datasets.

    Returns:
        Empty for a stage without rows of texts.
    """
    counts = record["counts"]
    if record["stage"] == "prepare":
        by_split = counts["labels"]
        total: dict[str, int] = {}
        for of_split in by_split.values():
            for name, number in of_split.items():
                total[name] = total.get(name, 0) + number
        rows = {split: sum(of_split.values()) for split, of_split in by_split.items()}
        num_unlabelled = total.pop(UNLABELLED, 0)
        return {
            "num_rows": counts["accepted"],
            "rows_by_split": rows,
            "classes": _to_shares(total),
            "unlabelled": num_unlabelled,
        }
    if record["stage"] == "score":
        predicted = _to_shares(counts.get("predicted", {}))
        return {"num_rows": counts["accepted"], "predicted_classes": predicted}
    return {}


def _to_shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Convert counts by class to shares, rounded to four digits; empty without rows."""
    total = sum(counts.values())
    if not total:
        return {}
    return {name: round(number / total, 4) for name, number in counts.items()}


def list_profiles(record: Manifest, run: RunRecord | None) -> dict[str, Profile]:
    """List the rows and classes of the inputs of a finished stage, by the name of the input.

    A stage counts the rows of its files itself; the rows of directories were noted when it began.

    Args:
        record: The manifest of the stage.
        run: The description of its run.
    """
    profiles = dict(run.get("profiles", {})) if run else {}
    for name in ("csv", "corpus"):
        if "files" in record["inputs"].get(name, {}):
            profiles[name] = describe_rows(record)
    return profiles
