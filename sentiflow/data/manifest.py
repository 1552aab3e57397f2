"""Directory -> its manifest: the files, settings and inputs of a complete result.

A manifest is the only pointer to a result, and data like any other: one that came from a stranger
is checked here, whoever reads it. Nothing is written here.
"""

import errno
import functools
import hashlib
import itertools
import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from sentiflow import __version__
from sentiflow.config.class_names import BINARY, MIN_CLASS_ROWS
from sentiflow.data.manifest_types import (
    Counts,
    FileEntry,
    Input,
    InputFile,
    Manifest,
    Settings,
)
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError, printable, shorten
from sentiflow.storage import filesystem
from sentiflow.storage.uris import is_inside, join, join_member, split_member

MANIFEST = "manifest.json"
FORMAT_VERSION = 3
"""Results of another version are not read."""

TRAINED, SCORED, MODEL = "trained", "scored", "model"
"""Folders of a training and of a scoring in their run, and of the package in either."""
CARD = "model_card.md"
"""File of an evaluation."""
_EXPECTED = {"model": "a finished model package, such as runs/quickstart/trained/model"}
_LIBRARIES = ("ray", "torch", "pyarrow", "numpy", "pandas", "mlflow")
_NEEDED = (
    *("classes", "settings.keep_columns", "settings.text_column"),
    *("inputs.corpus", "inputs.model.settings.classes"),
)
"""Keys that readers of predictions rely on, beside those of every manifest."""
_NOT_OURS = (
    "it is damaged, or of another version or program: delete the directory, or choose another one"
)


def fingerprint(value: Any) -> str:
    """Hash a JSON value to 16 hexadecimal digits; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identify(stage: str, settings: Settings, inputs: Mapping[str, Any]) -> str:
    """Identify a result: a hash of the stage, its settings and its inputs' fingerprints."""
    contents = {name: value["fingerprint"] for name, value in inputs.items()}
    return fingerprint([FORMAT_VERSION, stage, settings, contents])


def describe(
    stage: str,
    settings: Settings,
    inputs: Mapping[str, Any],
    *,
    counts: Counts,
    files: Sequence[FileEntry],
    seconds: float = 0,
    **details: Any,
) -> Manifest:
    """Describe a result whose files are written.

    Args:
        stage: The stage.
        settings: The settings that decide the result.
        inputs: Its inputs.
        counts: Numbers of rows and the like.
        files: All files of the result.
        seconds: Duration of the stage.
        details: Further keys of the manifest.
    """
    return cast(
        Manifest,
        {
            "stage": stage,
            "format_version": FORMAT_VERSION,
            "fingerprint": identify(stage, settings, inputs),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "settings": settings,
            "inputs": inputs,
            "counts": counts,
            **details,
            "files": sorted(files, key=lambda item: item["path"]),
            "versions": {"sentiflow": __version__} | {name: version(name) for name in _LIBRARIES},
        },
    )


def to_json(value: Any) -> bytes:
    """Render a manifest, or another file of a few lines that people read."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def read(uri: str, *, stage: str = "") -> Manifest | None:
    """Read the manifest of the directory ``uri``; None if it is not complete, or of another stage.

    Raises:
        UserError: There is a manifest, but of another version, or of another program.
    """
    path = join(uri, MANIFEST)
    try:
        content = filesystem.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None  # of a ValueError: no directory can have that name
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise
    record = parse(content, path)
    return record if stage in ("", record["stage"]) else None


def parse(content: bytes, path: str) -> Manifest:
    """Check the content of the manifest ``path``.

    Raises:
        UserError: It is of another version, or of another program, or a path in it leads elsewhere.
    """
    try:
        record = _types().validate_json(content, strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, fault["loc"])) or "all of it"
        raise UserError(
            f"{path} is not a manifest of this sentiflow: {shorten(key, 80)}: {fault['msg']}",
            hint=_NOT_OURS,
        ) from error
    for item in record["files"]:
        if not is_inside(item["path"]):
            raise UserError(
                f"{path} lists {shorten(ascii(item['path']), 80)}, which is no path below its "
                "directory",
                hint="do not use what this directory holds: it was changed by hand",
            )
    return record


@functools.cache
def _types() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)


def require(uri: str, *, stage: str, setting: str) -> Manifest:
    """Read the manifest of a directory that must be a complete output of ``stage``.

    Args:
        uri: The directory.
        stage: The stage.
        setting: The setting that holds the location, for messages.

    Raises:
        UserError: It is not complete, or damaged.
    """
    record = read(uri)
    expected = _EXPECTED.get(stage, f"the finished output of sentiflow {stage}")
    if record is None:
        raise UserError(f"{setting}: {uri} has no {MANIFEST}", hint=f"name {expected}")
    if record["stage"] != stage:
        raise UserError(
            f"{setting}: {uri} is an output of {record['stage']}", hint=f"name {expected}"
        )
    for key in _NEEDED if stage == "score" else ():
        try:
            functools.reduce(operator.getitem, key.split("."), cast(Any, record))
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{setting}: {join(uri, MANIFEST)} has no {key}", hint=_NOT_OURS
            ) from error
    if damaged := find_damaged(uri, record, filesystem.sizes(uri)):
        raise UserError(
            f"{setting}: {join(uri, damaged)} is missing or damaged",
            hint=f"make it again by sentiflow {stage} with --overwrite"
            if stage != "model"
            else "copy the model package again",
        )
    return record


def find_package(uri: str) -> str:
    """Find the model package of a run in its directory, or in that of its training; else ``uri``.

    Every setting and command that names a model takes these directories, too. The package of a
    run without a training is the average that it has scored with.
    """
    places = (uri, join(uri, MODEL), join(uri, TRAINED, MODEL), join(uri, SCORED, MODEL))
    return next((place for place in places if read(place, stage="model")), uri)


def find_damaged(uri: str, record: Manifest, sizes: Mapping[str, int]) -> str:
    """Find a file of a result that is missing or is another one; empty if there is none.

    Files are compared by size; and results within this one, such as the model package of a
    training, by the hash of their manifests.

    Args:
        uri: The directory.
        record: Its manifest.
        sizes: The files that are there.
    """
    for item in record["files"]:
        if sizes.get(item["path"]) != item["bytes"]:
            return item["path"]
    inner = [i["path"] for i in record["files"] if i["path"].endswith(f"/{MANIFEST}")]
    return next((path for path in inner if _read_listed(uri, record, path) is None), "")


def read_file(uri: str, record: Manifest, path: str) -> bytes:
    """Read a file that a manifest lists with its SHA-256.

    Args:
        uri: The directory.
        record: Its manifest.
        path: The file.

    Raises:
        UserError: It is missing, or not the file that was saved.
    """
    if (content := _read_listed(uri, record, path)) is None:
        raise UserError(
            f"{join(uri, shorten(printable(path), 200))} is not the file that was saved (its "
            "checksum differs)",
            hint="copy the whole directory again, or make it again with --overwrite",
        )
    return content


def _read_listed(uri: str, record: Manifest, path: str) -> bytes | None:
    """Read a file, if it is the one that the manifest lists."""
    listed = {item["path"]: item.get("sha256") for item in record["files"]}
    try:
        content = filesystem.read_bytes(join(uri, path)) if path in listed else b""
    except FileNotFoundError:
        return None
    return content if hashlib.sha256(content).hexdigest() == listed.get(path) else None


def identify_file(item: InputFile) -> str:
    """Identify the content of an input file: its hash, and the member of an archive."""
    return join_member(item["tree_sha256"], split_member(item["uri"])[1])


def identify_learned_files(prepared: Manifest) -> set[str]:
    """Identify the input files of prepared data, by content, but those of given test rows."""
    given = prepared["settings"].get("fixed_files", [])
    files = itertools.zip_longest(prepared["inputs"]["csv"]["files"], given)
    return {identify_file(item) for item, split in files if split != "test"}


def list_tables(record: Manifest, uri: str, folders: Iterable[str]) -> dict[str, int]:
    """List the files of some folders of a finished directory in their order, with their rows."""
    return {
        join(uri, item["path"]): item["rows"] or 0
        for folder in folders
        for item in sorted(record["files"], key=lambda item: item["path"])
        if item["path"].startswith(f"{folder}/")
    }


def read_input(inputs: Mapping[str, Any], name: str) -> Manifest | None:
    """Read the manifest of an input; None if it is missing or has been replaced since."""
    named = inputs.get(name) or {}
    record = read(named["uri"]) if "uri" in named else None
    return record if record and record["fingerprint"] == named["fingerprint"] else None


def reference(uri: str, record: Manifest) -> Input:
    """Describe a finished directory as an input of the next stage."""
    return {"uri": uri, "fingerprint": record["fingerprint"]}


def find_classes(record: Manifest) -> tuple[str, ...]:
    """Name the classes of prepared data: a label is a position among them."""
    return tuple(record["classes"])


def find_learnable(record: Manifest) -> tuple[str, ...]:
    """Name the classes whose rows ``encoded`` holds, some of :func:`find_classes` in their order.

    They are all classes; but negative and positive of Sentiment140.
    """
    is_binary = record["settings"]["format"]["kind"] == "sentiment140"
    return BINARY if is_binary else find_classes(record)


def list_learned(record: Manifest) -> tuple[str, ...]:
    """Name the classes of prepared data that a model learns unless the settings name others.

    They have enough rows, given test rows aside. Negative and positive of Sentiment140 are learned
    in any case.
    """
    learnable, fixed = find_learnable(record), record.get("fixed_splits", [])
    counts = [
        rows
        for split, rows in record["counts"]["labels"].items()
        if split != SPLITS[2] or split not in fixed
    ]
    return tuple(
        name
        for name in learnable
        if learnable == BINARY or sum(rows.get(name, 0) for rows in counts) >= MIN_CLASS_ROWS
    )
