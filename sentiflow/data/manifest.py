"""Directory -> its manifest: the files, settings and inputs of a result, written last."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from importlib.metadata import version
from typing import Any, cast

from sentiflow import __version__
from sentiflow.config.settings import flatten
from sentiflow.data.manifest_types import (
    Counts,
    FileEntry,
    Input,
    InputFile,
    Manifest,
    RunRecord,
    Settings,
)
from sentiflow.errors import UserError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join, join_member, split_member

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
STARTED = "started.json"
WORK = "_work"
"""Subdirectory for files that are needed until a stage is complete."""
_HALF_STARTED = re.compile(rf"{re.escape(STARTED)}\.[0-9a-f]+\.tmp")
"""Left by a run that was killed before it wrote anything else."""

LIBRARIES = ("ray", "torch", "pyarrow", "numpy", "pandas", "mlflow")

_REQUIRED = {"stage", "format_version", "fingerprint", "settings", "inputs", "counts", "files"}
_EXPECTED = {"model": "a finished model package, such as runs/quickstart/trained/model"}


class State(Enum):
    """State of the output directory of a stage."""

    ABSENT = "absent"
    UNFINISHED = "unfinished"
    COMPLETE = "complete"
    EXTENDED = "extended"
    """Complete for the first input files; new files follow at the end."""
    DAMAGED = "damaged"
    """Complete, but a file is missing or has another size."""
    DIFFERENT = "different"
    """Complete for other settings or inputs."""
    NOT_OURS = "not ours"
    """The directory contains other files."""


@dataclass(frozen=True)
class OutputSpec:
    """Description of the output of a stage: where it goes, and what decides its content."""

    stage: str
    uri: str
    settings: Settings
    """Settings that decide the result, and no others."""
    inputs: dict[str, Any]
    """An ``Input`` for each name; a stage may add further keys to it."""
    owns: tuple[str, ...] = ()
    """Names in the directory that the stage writes, and deletes when it starts over."""
    grows: str = ""
    """Name of an input of files. If files were added at its end, the result is extended."""

    @property
    def fingerprint(self) -> str:
        """Identify the result: a hash of the stage, its settings and its inputs' fingerprints."""
        inputs = {name: value["fingerprint"] for name, value in self.inputs.items()}
        return fingerprint([FORMAT_VERSION, self.stage, self.settings, inputs])


@dataclass(frozen=True)
class Status:
    """State of an output directory compared with a spec."""

    state: State
    differences: tuple[str, ...] = ()
    """Settings and inputs that differ from the existing result; for a damaged one, the file."""
    record: Manifest | None = field(default=None, compare=False)
    """The manifest that was found."""


def fingerprint(value: Any) -> str:
    """Hash a JSON value to 16 hexadecimal digits; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(uri: str) -> Manifest | None:
    """Read the manifest of the directory ``uri``; None if it is not complete.

    Raises:
        UserError: There is a manifest, but of a newer version, or of another program.
    """
    uri = join(uri, MANIFEST)
    try:
        record = json.loads(filesystem.read_bytes(uri))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{uri} is not JSON", hint="it is damaged, or not a manifest") from error
    found = record.get("format_version") if isinstance(record, dict) else None
    if isinstance(found, int) and found > FORMAT_VERSION:
        raise UserError(f"{uri} was written by a newer sentiflow", hint="update sentiflow")
    if found != FORMAT_VERSION or not record.keys() >= _REQUIRED:
        raise UserError(f"{uri} is not a manifest of sentiflow")
    return record


def require(uri: str, *, stage: str, setting: str) -> Manifest:
    """Read the manifest of a directory that must be a complete output of ``stage``.

    Raises:
        UserError: It is not; the message names ``setting``, which holds the location.
    """
    record = read(uri)
    wanted = _EXPECTED.get(stage, f"the finished output of sentiflow {stage}")
    if record is None:
        raise UserError(f"{setting}: {uri} has no {MANIFEST}", hint=f"name {wanted}")
    if record["stage"] != stage:
        raise UserError(
            f"{setting}: {uri} is an output of {record['stage']}", hint=f"name {wanted}"
        )
    return record


def find_status(spec: OutputSpec) -> Status:
    """Compare the output directory of a stage with its spec."""
    record = read(spec.uri)
    if record is not None and record["stage"] != spec.stage:
        return Status(State.NOT_OURS)
    if record is not None:
        return _compare(spec, record)
    if filesystem.exists(join(spec.uri, STARTED)):
        return Status(State.UNFINISHED)
    theirs = [name for name in filesystem.listing(spec.uri) if not _HALF_STARTED.fullmatch(name)]
    return Status(State.NOT_OURS if theirs else State.ABSENT)


def _compare(spec: OutputSpec, record: Manifest) -> Status:
    differences = _differences(spec, record)
    if _has_grown(spec, record, differences):
        return Status(State.EXTENDED, record=record)
    if not differences and record["fingerprint"] != spec.fingerprint:
        differences = ("written by another version of sentiflow",)
    if differences:
        return Status(State.DIFFERENT, differences, record)
    damaged = _find_damaged(spec.uri, record)
    return Status(State.DAMAGED if damaged else State.COMPLETE, tuple(damaged), record)


def _find_damaged(uri: str, record: Manifest) -> list[str]:
    """Find the first file that is missing or whose size is not that in the manifest, if any."""
    sizes = filesystem.sizes(uri)
    return [i["path"] for i in record["files"] if sizes.get(i["path"]) != i["bytes"]][:1]


def _has_grown(spec: OutputSpec, record: Manifest, differences: Sequence[str]) -> bool:
    """Say whether the only difference is that files were added at the end of the growing input."""
    only = len(differences) == 1 and differences[0].startswith(f"another {spec.grows}")
    if not spec.grows or not only:
        return False
    old, new = (
        [identify_file(item) for item in inputs.get(spec.grows, {}).get("files", ())]
        for inputs in (record["inputs"], spec.inputs)
    )
    return len(new) > len(old) > 0 and new[: len(old)] == old


def identify_file(item: InputFile) -> str:
    """Identify the content of an input file: its hash, and the member of an archive."""
    return join_member(item["tree_sha256"], split_member(item["uri"])[1])


def check_location(stage: str, uri: str) -> None:
    """Check that ``uri`` is empty, or an output of ``stage``, complete or not.

    Raises:
        UserError: It contains other files.
    """
    check(OutputSpec(stage, uri, {}, {}), overwrite=True)


def check(spec: OutputSpec, *, overwrite: bool = False) -> Status:
    """Check that a stage may write to its directory.

    Raises:
        UserError: It contains a result of other settings and ``overwrite`` is off, or other files.
    """
    found = find_status(spec)
    if found.state is State.NOT_OURS:
        raise UserError(
            f"{spec.uri} holds files that are not from {spec.stage}",
            hint="choose an empty or new directory",
        )
    if found.state is State.DIFFERENT and not overwrite:
        raise UserError(
            f"{spec.uri} belongs to other settings ({'; '.join(found.differences)})",
            hint="choose another output_uri, or replace it with --overwrite",
        )
    if found.state is State.DAMAGED and not overwrite:
        raise UserError(
            f"{join(spec.uri, found.differences[0])} is missing or damaged",
            hint="create the whole output again with --overwrite",
        )
    return found


def begin(
    spec: OutputSpec, *, overwrite: bool = False, resumable: bool = False, key: str | None = None
) -> bool:
    """Prepare the directory: remove the files of an unfinished or replaced run.

    ``started.json`` has no fingerprint while files are removed, so that a run that is killed then
    is not resumed. A complete result that is to be extended stays, with its manifest.

    Args:
        spec: The output, with the fingerprints of its inputs.
        overwrite: Replace a result of other settings.
        resumable: Keep the files of an unfinished run of the same key.
        key: Identifies runs that can resume each other; by default the fingerprint of the spec. If
            it is given, an unfinished run of another key is replaced with ``overwrite`` only.

    Returns:
        Whether there is an unfinished run, which the caller resumes.

    Raises:
        UserError: As :func:`check`.
    """
    found = check(spec, overwrite=overwrite)
    state, started = found.state, read_key(spec.uri)
    if key and state is State.UNFINISHED and started not in (None, key) and not overwrite:
        check_nothing_done(spec, "other settings")
    key = key or spec.fingerprint
    if resumable and state in (State.UNFINISHED, State.EXTENDED) and started == key:
        return True
    _write_started(spec, None)
    if state is not State.EXTENDED:
        filesystem.delete(join(spec.uri, MANIFEST))
    kept = found.record["files"] if found.record and state is State.EXTENDED else []
    _delete_owned(spec, keep=[item["path"] for item in kept])
    _write_started(spec, key)
    return False


def check_nothing_done(spec: OutputSpec, other: str) -> None:
    """Check that an unfinished run of other settings or inputs has not written any result.

    Raises:
        UserError: It has written some.
    """
    names = [name.split("/")[0] for name in filesystem.listing(spec.uri)]
    if any(name in spec.owns and name != WORK for name in names):
        raise UserError(
            f"{spec.uri} holds an unfinished run of {other}",
            hint="choose another output_uri, or replace it with --overwrite",
        )


def clean_up(spec: OutputSpec) -> None:
    """Remove files that a killed run left in a complete directory."""
    names = filesystem.listing(spec.uri, recursive=False)
    is_left = any(name == STARTED or _HALF_STARTED.fullmatch(name) for name in names)
    if is_left and (record := read(spec.uri)):
        _tidy(spec, record)


def roll_back(spec: OutputSpec) -> None:
    """Remove the files of an unfinished run that cannot succeed.

    A complete result that was to be extended stays as it was.
    """
    record = read(spec.uri)
    if record is not None:
        _tidy(spec, record)
        return
    _write_started(spec, None)
    _delete_owned(spec, keep=())
    filesystem.delete(join(spec.uri, STARTED))
    if not filesystem.listing(spec.uri):
        filesystem.delete(spec.uri)


def publish(
    spec: OutputSpec,
    *,
    counts: Counts,
    files: Sequence[FileEntry],
    seconds: float,
    run: RunRecord | None = None,
    **details: Any,
) -> Manifest:
    """Write the manifest, which makes the directory complete, and return it.

    Other files of the stage are removed afterwards, as a resumed run may need them until then. If
    this is interrupted, :func:`clean_up` removes them.

    Args:
        spec: The output, with the fingerprints of its inputs.
        counts: Numbers of rows and the like.
        files: All files of the result.
        seconds: Duration of the stage.
        run: The stage's MLflow run, to rebuild it from the manifest.
        details: Further keys of the manifest.
    """
    keys: dict[str, object] = {
        "stage": spec.stage,
        "format_version": FORMAT_VERSION,
        "fingerprint": spec.fingerprint,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "settings": spec.settings,
        "inputs": spec.inputs,
        "counts": counts,
        **details,
        "files": sorted(files, key=lambda item: item["path"]),
        "versions": {"sentiflow": __version__} | {name: version(name) for name in LIBRARIES},
    }
    record = cast(Manifest, keys | ({"run": run} if run else {}))
    filesystem.write_bytes(join(spec.uri, MANIFEST), _to_json(record))
    _tidy(spec, record)
    return record


def read_input(inputs: Mapping[str, Any], name: str) -> Manifest | None:
    """Read the manifest of an input; None if it is missing or has been replaced since."""
    named = inputs.get(name) or {}
    found = read(named["uri"]) if "uri" in named else None
    return found if found and found["fingerprint"] == named["fingerprint"] else None


def reference(uri: str, record: Manifest) -> Input:
    """Describe a finished directory as an input of the next stage."""
    return {"uri": uri, "fingerprint": record["fingerprint"]}


def list_files(uri: str, name: str) -> list[FileEntry]:
    """List the files of the subdirectory ``name``, for a manifest."""
    paths = [join(name, path) for path in filesystem.listing(join(uri, name))]
    return [
        {"path": path, "rows": None, "bytes": filesystem.file_info(join(uri, path)).size}
        for path in paths
    ]


def _tidy(spec: OutputSpec, record: Manifest) -> None:
    """Delete files of the stage that its manifest does not list; ``started.json`` last."""
    _delete_owned(spec, keep=[item["path"] for item in record["files"]])
    filesystem.delete(join(spec.uri, STARTED))


def _write_started(spec: OutputSpec, key: str | None) -> None:
    started = {
        "stage": spec.stage,
        "fingerprint": key,
        "format_version": FORMAT_VERSION,
    }
    filesystem.write_bytes(join(spec.uri, STARTED), _to_json(started))


def read_key(uri: str) -> Any:
    """Read the key of an unfinished run; None if it cannot be resumed."""
    try:
        started = json.loads(filesystem.read_bytes(join(uri, STARTED)))
    except (FileNotFoundError, ValueError):
        return None
    is_current = isinstance(started, dict) and started.get("format_version") == FORMAT_VERSION
    return started.get("fingerprint") if is_current else None


def _delete_owned(spec: OutputSpec, *, keep: Sequence[str]) -> None:
    """Delete the files of the stage in its directory, except those to ``keep``."""
    kept = set(keep)
    for name in spec.owns:
        if not any(path == name or path.startswith(f"{name}/") for path in kept):
            filesystem.delete(join(spec.uri, name))
    unpublished = tuple(f"{name}." for name in (*spec.owns, MANIFEST, STARTED))
    for name in filesystem.listing(spec.uri):
        first = name.split("/")[0]
        owned = first in spec.owns or (first.endswith(".tmp") and first.startswith(unpublished))
        if owned and name not in kept:
            filesystem.delete(join(spec.uri, name))


def _differences(spec: OutputSpec, record: Manifest) -> tuple[str, ...]:
    """List the settings and inputs in which a finished directory differs from the spec."""
    old, new = flatten(record["settings"]), flatten(json.loads(json.dumps(spec.settings)))
    settings = [
        f"{key}: {_brief(old.get(key))} there, {_brief(new.get(key))} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    inputs = [
        f"another {name}" + _explain_files(record["inputs"].get(name), spec.inputs.get(name))
        for name in sorted(record["inputs"].keys() | spec.inputs.keys())
        if _fingerprint_of(record["inputs"], name) != _fingerprint_of(spec.inputs, name)
    ]
    return (*settings, *inputs)


def _explain_files(before: Any, now: Any) -> str:
    """Describe the first difference between two inputs of files."""
    old, new = ((inputs or {}).get("files", []) for inputs in (before, now))
    there, here = ([identify_file(item) for item in files] for files in (old, new))
    if not old or not new or there == here[: len(there)]:
        return ""
    if len(old) == len(new) == 1 and old[0]["uri"] != new[0]["uri"]:
        return f": {old[0]['uri']} there, {new[0]['uri']} here"
    first = next(i for i, name in enumerate(there) if here[i : i + 1] != [name])
    uris = [item["uri"] for item in new]
    if there[first] in here and first < len(uris):
        return f", {uris[first]} is not at the end"
    return f", {old[first]['uri']} {'was changed' if old[first]['uri'] in uris else 'is gone'}"


def _fingerprint_of(inputs: dict[str, Any], name: str) -> Any:
    return inputs.get(name, {}).get("fingerprint")


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _to_json(record: Manifest | Settings) -> bytes:
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()
