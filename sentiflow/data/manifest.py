"""Directory -> its manifest: the files, settings and inputs of a complete result."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from sentiflow.config.classes import BINARY, SENTIMENT140
from sentiflow.data import exchange
from sentiflow.data.exchange import MANIFEST as MANIFEST
from sentiflow.data.manifest_types import Input, InputFile, Manifest, Settings
from sentiflow.errors import UserError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join, join_member, split_member

FORMAT_VERSION = 2
READABLE = (1, FORMAT_VERSION)
"""Versions that are read as input. A result of an older one is replaced, never resumed."""

TRAINED, SCORED, MODEL = "trained", "scored", "model"
"""Folders of a training and of a scoring in their run, and of the package in either."""
CARD = "model_card.md"
"""File of an evaluation."""
_REQUIRED = {"stage", "format_version", "fingerprint", "settings", "inputs", "counts", "files"}
_INSIDE = {"model": (1, 3), "train": (2,)}
"""Levels above a result at which there may be a training, or a sweep, that it is part of."""
_EXPECTED = {"model": "a finished model package, such as runs/quickstart/trained/model"}


def fingerprint(value: Any) -> str:
    """Hash a JSON value to 16 hexadecimal digits; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identify(
    stage: str, settings: Settings, inputs: Mapping[str, Any], *, version: int = FORMAT_VERSION
) -> str:
    """Identify a result: a hash of the stage, its settings and its inputs' fingerprints."""
    contents = {name: value["fingerprint"] for name, value in inputs.items()}
    return fingerprint([version, stage, settings, contents])


def read(uri: str) -> Manifest | None:
    """Read the manifest of the directory ``uri``; None if it is not complete.

    If a killed job has not moved all files of a new result there, they are moved first.

    Raises:
        UserError: There is a manifest, but of a newer version, or of another program.
        JobError: A running job is just now moving a new result there.
    """
    record = _read(join(uri, MANIFEST))
    if record is None:
        return None
    above = (uri.rsplit("/", level)[0] for level in _INSIDE.get(record["stage"], ()))
    places = [uri, *(place for place in above if place and place[-1] not in ":/")]
    pending = list(filter(exchange.is_pending, places))
    for place in pending:
        exchange.finish(place)
    return _read(join(uri, MANIFEST)) if pending else record


def _read(uri: str) -> Manifest | None:
    try:
        record = json.loads(filesystem.read_bytes(uri))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise UserError(f"{uri} is not JSON", hint="it is damaged, or not a manifest") from error
    found = record.get("format_version") if isinstance(record, dict) else None
    if isinstance(found, int) and found > FORMAT_VERSION:
        raise UserError(f"{uri} was written by a newer sentiflow", hint="update sentiflow")
    if found not in READABLE or not record.keys() >= _REQUIRED:
        raise UserError(f"{uri} is not a manifest of sentiflow")
    manifest: Manifest = record
    return manifest


def require(uri: str, *, stage: str, setting: str, check_files: bool = False) -> Manifest:
    """Read the manifest of a directory that must be a complete output of ``stage``.

    Args:
        uri: The directory.
        stage: The stage.
        setting: The setting that holds the location, for messages.
        check_files: Whether the sizes of all files must be those of the manifest.

    Raises:
        UserError: It is not complete, or damaged.
    """
    record = read(uri)
    wanted = _EXPECTED.get(stage, f"the finished output of sentiflow {stage}")
    if record is None:
        raise UserError(f"{setting}: {uri} has no {MANIFEST}", hint=f"name {wanted}")
    if record["stage"] != stage:
        raise UserError(
            f"{setting}: {uri} is an output of {record['stage']}", hint=f"name {wanted}"
        )
    if check_files and (damaged := find_damaged(record, filesystem.sizes(uri))):
        raise UserError(
            f"{setting}: {join(uri, damaged)} is missing or damaged",
            hint=f"make it again by sentiflow {stage} with --overwrite",
        )
    return record


def find_package(uri: str) -> str:
    """Find the model package of a run in its directory, or in that of its training; else ``uri``.

    Every setting and command that names a model takes these directories, too. The package of a
    run without a training is the average that it has scored with.
    """
    for package in (uri, join(uri, MODEL), join(uri, TRAINED, MODEL), join(uri, SCORED, MODEL)):
        found = read(package)
        if found and found["stage"] == "model":
            return package
    return uri


def find_damaged(record: Manifest, sizes: Mapping[str, int]) -> str:
    """Find the first file of a manifest that is missing or has another size; empty if none."""
    damaged = (i["path"] for i in record["files"] if sizes.get(i["path"]) != i["bytes"])
    return next(damaged, "")


def identify_file(item: InputFile) -> str:
    """Identify the content of an input file: its hash, and the member of an archive."""
    return join_member(item["tree_sha256"], split_member(item["uri"])[1])


def list_tables(record: Manifest, uri: str, folders: Iterable[str]) -> dict[str, int]:
    """List the files of some folders of a finished directory in their order, with their rows."""
    files = sorted(record["files"], key=lambda item: item["path"])
    return {
        join(uri, item["path"]): item["rows"] or 0
        for folder in folders
        for item in files
        if item["path"].startswith(f"{folder}/")
    }


def read_input(inputs: Mapping[str, Any], name: str) -> Manifest | None:
    """Read the manifest of an input; None if it is missing or has been replaced since."""
    named = inputs.get(name) or {}
    found = read(named["uri"]) if "uri" in named else None
    return found if found and found["fingerprint"] == named["fingerprint"] else None


def reference(uri: str, record: Manifest) -> Input:
    """Describe a finished directory as an input of the next stage."""
    return {"uri": uri, "fingerprint": record["fingerprint"]}


def find_classes(record: Manifest) -> tuple[str, ...]:
    """Name the classes of prepared data: a label is a position among them."""
    return tuple(record.get("classes", SENTIMENT140))


def find_learnable(record: Manifest) -> tuple[str, ...]:
    """Name the classes whose rows ``encoded`` holds, some of :func:`find_classes` in their order.

    They are all classes; but negative and positive of Sentiment140, and of older manifests.
    """
    is_binary = record["settings"].get("format", {}).get("kind") == "sentiment140"
    return BINARY if is_binary or "classes" not in record else find_classes(record)
