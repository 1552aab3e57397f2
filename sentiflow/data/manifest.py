"""Directory -> its manifest: the files, settings and inputs of a complete result.

A manifest is the only pointer to a result. It may come from a stranger, so it is validated for
every reader (:mod:`manifest_content`). Nothing is written here.

Who reads which directory:

- :func:`require`: an input that a job needs; its files are checked, too.
- :func:`read`, or :func:`output_status.read_result`: an output, which may be absent or, for the
  latter, of an earlier version.
- :func:`read_input`, or :func:`followed_inputs.follow`: an input of a result, which may be gone or
  replaced meanwhile. The latter also passes over what cannot be read, and says so.
"""

import contextlib
import errno
import functools
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, cast

from pydantic import ConfigDict, TypeAdapter

from sentiflow import __version__
from sentiflow.data import manifest_content
from sentiflow.data.manifest_types import (
    FORMAT_VERSION,
    Counts,
    FileEntry,
    Input,
    InputFile,
    Manifest,
    Settings,
)
from sentiflow.data.other_versions import OtherFormatError
from sentiflow.errors import ReplacedError, UserError, printable, shorten
from sentiflow.storage import filesystem, result_files
from sentiflow.storage.uris import display_uri, join, join_member, split_member

MANIFEST = "manifest.json"
WORK = "_work"
"""Folder in an output that has a staging folder for each unfinished run."""

TRAINED = "trained"
"""Folder of the training in the directory of a run."""
SCORED = "scored"
"""Folder of the predictions in the directory of a run."""
MODEL = "model"
"""Folder of the model package in ``TRAINED``; of an average of models in ``SCORED``."""
CARD = "model_card.md"
"""Model card in the output of an evaluation."""
_NUM_LOOKS = 3
"""Number of times that a result is looked at, if a job replaces it meanwhile."""
_LIBRARIES = ("ray", "torch", "pyarrow", "numpy", "pandas", "mlflow")
"""Libraries whose versions a manifest records."""


def fingerprint(value: Any) -> str:
    """Hash a JSON value to 16 hexadecimal digits; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identify(
    stage: str,
    settings: Settings,
    inputs: Mapping[str, Any],
    *,
    format_version: int = FORMAT_VERSION,
) -> str:
    """Identify a result: a hash of the stage, its settings and its inputs' fingerprints."""
    contents = {name: value["fingerprint"] for name, value in inputs.items()}
    return fingerprint([format_version, stage, settings, contents])


def make(
    stage: str,
    settings: Settings,
    inputs: Mapping[str, Any],
    *,
    counts: Counts,
    files: Sequence[FileEntry],
    seconds: float = 0,
    **details: Any,
) -> Manifest:
    """Make the manifest of a result after its files are written.

    Args:
        stage: The stage.
        settings: The settings that decide the result.
        inputs: Its inputs.
        counts: Numbers of rows and the like.
        files: All files of the result.
        seconds: Duration of the stage.
        details: Further keys of the manifest.
    """
    versions = {"sentiflow": __version__}
    for name in _LIBRARIES:
        versions[name] = version(name)
    record = {
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
        "versions": versions,
    }
    return cast(Manifest, record)


def to_json(value: Any) -> bytes:
    """Write a value as JSON that people read, such as a manifest."""
    # A thirteenth of the time of the module json, which indents in Python code.
    return _writer().dump_json(value, indent=2) + b"\n"


@functools.cache
def _writer() -> TypeAdapter[Any]:
    """Make the writer of :func:`to_json`; NaN is written as the module json does."""
    return TypeAdapter(Any, config=ConfigDict(ser_json_inf_nan="constants"))


def read(uri: str, *, stage: str = "", near: Collection[str] = ()) -> Manifest | None:
    """Read the manifest of a directory; None if there is none, or it is of another stage.

    Args:
        uri: The directory.
        stage: The stage. Default: any.
        near: Further directories whose stores the inputs may be in, see
            :func:`foreign_inputs.mark`.

    Raises:
        UserError: There is a manifest, but of another program, or of another version in another
            format (``OtherFormatError``); or the manifest of another directory names ``uri``, but
            in another store than its own.
    """
    if "\0" in uri:  # no directory has such a name
        return None
    path = join(uri, MANIFEST)
    try:
        content = result_files.read(path, max_bytes=manifest_content.MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeEncodeError:  # Arrow opens no file whose name is not UTF-8
        return None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return None
        raise
    record = manifest_content.parse(content, path, directories=(uri, *near))
    if stage and record["stage"] != stage:
        return None
    return record


def require(uri: str, *, stage: str, setting: str, near: Collection[str] = ()) -> Manifest:
    """Read the manifest of a directory that must be a complete output of ``stage``.

    Args:
        uri: The directory.
        stage: The stage; ``model`` for a model package.
        setting: The setting that holds the location, for messages.
        near: As for :func:`read`.

    Raises:
        UserError: The directory has no manifest or one of another stage, a manifest of predictions
            lacks a key, or a file is missing or damaged.
        ReplacedError: A job replaces the directory again and again.
    """
    way_out = f"make it again by sentiflow {stage} with --overwrite"
    if stage == "model":
        way_out = "copy the model package again"
    for _ in range(_NUM_LOOKS):
        record = _require_manifest(uri, stage=stage, setting=setting, near=near)
        if stage == "score":
            manifest_content.check_predictions(record, f"{setting}: {join(uri, MANIFEST)}", way_out)
        damaged = find_damaged(uri, record, filesystem.sizes(uri))
        if not damaged:
            return record
        if not was_replaced(uri, record):
            raise UserError(f"{setting}: {join(uri, damaged)} is missing or damaged", hint=way_out)
    raise explain_replaced(uri)


def _require_manifest(uri: str, *, stage: str, setting: str, near: Collection[str]) -> Manifest:
    """Read the manifest of an output of ``stage``, see :func:`require`; do not look at its files.

    Raises:
        UserError: There is none, or it is of another stage.
    """
    expected = f"the finished output of sentiflow {stage}"
    if stage == "model":
        expected = "a finished model package, such as runs/quickstart/trained/model"
    record = read(uri, near=near)
    if record is None:
        hint = f"name {expected}"
        if filesystem.exists(join(uri, WORK)):
            hint = f"sentiflow {stage} writes it now, or was stopped: wait, or run it again"
        raise UserError(f"{setting}: {uri} has no {MANIFEST}", hint=hint)
    if record["stage"] != stage:
        raise UserError(
            f"{setting}: {uri} is an output of {record['stage']}", hint=f"name {expected}"
        )
    return record


def was_replaced(uri: str, record: Manifest) -> bool:
    """Say whether a job has replaced a result since its manifest was read, or is about to."""
    now = read(uri)
    if now is None:
        return True
    return any(now[key] != record[key] for key in ("fingerprint", "created"))


def explain_replaced(uri: str) -> ReplacedError:
    """Make the error for a result that was replaced while it was read."""
    return ReplacedError(
        f"{display_uri(uri)} was replaced by another job while it was read: run again"
    )


@contextlib.contextmanager
def naming_replacement(uri: str, record: Manifest) -> Iterator[None]:
    """If reading a result fails in the block, say whether a job has replaced it meanwhile.

    Raises:
        ReplacedError: It was replaced.
    """
    try:
        yield
    except (OSError, ValueError, UserError) as error:  # Arrow's errors are of the first two types
        if was_replaced(uri, record):
            raise explain_replaced(uri) from error
        raise


def find_package(uri: str) -> str:
    """Find the model package in the directory of a run or of its training; else return ``uri``.

    Settings and commands that name a model also accept these directories. A run that only scores
    has a package if it has scored with an average of models.

    Raises:
        OtherFormatError: There is a package of a later version in another format; or there is none,
            and ``uri`` is a result in the format of another version.
    """
    other: OtherFormatError | None = None
    for place in (uri, join(uri, MODEL), join(uri, TRAINED, MODEL), join(uri, SCORED, MODEL)):
        try:
            if read(place, stage="model"):
                return place
        except OtherFormatError as error:
            if error.found.stage == "model":
                raise
            other = error  # of a training, whose package may be read
    if other:
        raise other
    return uri


def find_damaged(uri: str, record: Manifest, sizes: Mapping[str, int]) -> str:
    """Find a file of a result that is missing or has changed; empty if there is none.

    Files are compared by size. A result within this one, such as the model package of a training,
    is compared by the hash of its manifest, which earlier formats do not have.

    Args:
        uri: The directory.
        record: Its manifest.
        sizes: The size of each file that is there, by its path.
    """
    for item in record["files"]:
        if sizes.get(item["path"]) != item["bytes"]:
            return item["path"]
    for item in record["files"]:
        path = item["path"]
        has_hash = record["format_version"] == FORMAT_VERSION or item.get("sha256")
        if path.endswith(f"/{MANIFEST}") and has_hash:
            has_changed = _read_listed(uri, record, path) is None
            if has_changed:
                return path
    return ""


def read_file(uri: str, record: Manifest, path: str) -> bytes:
    """Read a file that a manifest lists with its SHA-256.

    Args:
        uri: The directory.
        record: Its manifest.
        path: The file.

    Raises:
        UserError: It is missing, or not the file that was saved.
        ReplacedError: A job has replaced it since the manifest was read.
    """
    content = _read_listed(uri, record, path)
    if content is None:
        if was_replaced(uri, record):
            raise explain_replaced(uri)
        raise UserError(
            f"{join(uri, shorten(printable(path), 200))} is not the file that was saved (its "
            "checksum differs)",
            hint="copy the whole directory again, or make it again with --overwrite",
        )
    return content


def _read_listed(uri: str, record: Manifest, path: str) -> bytes | None:
    """Read a file; None if the manifest does not list it with its present SHA-256."""
    listed = {item["path"]: item for item in record["files"]}
    item = listed.get(path)
    if item is None or "sha256" not in item:
        return None
    try:
        content = result_files.read(join(uri, path), max_bytes=item["bytes"])
    except FileNotFoundError:
        return None
    return content if hashlib.sha256(content).hexdigest() == item["sha256"] else None


def identify_file(item: InputFile) -> str:
    """Identify the content of an input file: its hash, and the member of an archive."""
    return join_member(item["tree_sha256"], split_member(item["uri"])[1])


def rows_by_file(record: Manifest, uri: str, folders: Iterable[str]) -> dict[str, int]:
    """List the files of some folders of a finished directory in order, each with its row count.

    Args:
        record: The manifest of the directory.
        uri: The directory.
        folders: Paths without a slash at the end.
    """
    files = sorted(record["files"], key=lambda item: item["path"])
    num_rows = {}
    for folder in folders:
        for item in files:
            if item["path"].startswith(f"{folder}/"):
                num_rows[join(uri, item["path"])] = item["rows"] or 0
    return num_rows


def read_input(inputs: Mapping[str, Any], name: str) -> Manifest | None:
    """Read the manifest of a finished directory that was an input.

    Args:
        inputs: Inputs by name: ``inputs`` of a manifest, or a model with its ``training``.
        name: The name of the input.

    Returns:
        The manifest. None if there is no such input, if files were the input, if the directory is
        gone or has been replaced since, or if it is in the format of another version.
    """
    described = inputs.get(name) or {}
    if "uri" not in described:
        return None
    try:
        record = read(described["uri"])
    except OtherFormatError:  # the input of a model of an earlier version
        return None
    if record is None or record["fingerprint"] != described["fingerprint"]:
        return None
    return record


def reference(uri: str, record: Manifest) -> Input:
    """Describe a finished directory as an input, for the manifest of the next stage."""
    return {"uri": uri, "fingerprint": record["fingerprint"]}


def find_classes(record: Manifest) -> tuple[str, ...]:
    """Return the classes of prepared data or of predictions; a label is a position among them."""
    return tuple(record["classes"])


def find_class_values(record: Manifest) -> tuple[float | None, ...] | None:
    """Return the numbers of the ordered classes of prepared data or of predictions.

    Returns:
        A number for each class of :func:`find_classes`; None in place of a number that is unknown,
        or of all if the classes have no order.
    """
    values = record.get("class_values")
    return None if values is None else tuple(values)
