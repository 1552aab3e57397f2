"""Records that a store has missed -> a file of lines, and from there into the store."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sentiflow.errors import JobError, UserError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import as_typed
from sentiflow.tracking import mlflow_store
from sentiflow.tracking.mlflow_sender import Sender
from sentiflow.tracking.mlflow_store import StoreAwayError, default_uri, first_line, without_user
from sentiflow.tracking.run_records import AnyRecord, parse

FORMAT_VERSION = 1

Line = TypeVar("Line")


class Header(BaseModel):
    """The first line of a file of records."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    tracking_uri: str
    """Without user and password."""
    experiment_id: str


def to_jsonl(sender: Sender, records: Sequence[AnyRecord]) -> bytes:
    """Write records that a store has missed as lines of JSON."""
    header = Header(
        format_version=FORMAT_VERSION,
        tracking_uri=without_user(sender.tracking_uri),
        experiment_id=sender.experiment_id,
    )
    lines = [header.model_dump_json(), *(record.model_dump_json() for record in records)]
    return "\n".join([*lines, ""]).encode()


class Unsent(NamedTuple):
    """What a file holds."""

    uri: str
    content: bytes
    header: Header
    records: list[AnyRecord]


def read(uri: str) -> Unsent:
    """Read a file of records.

    Raises:
        UserError: There is none, or it is something else.
    """
    try:
        content = filesystem.read_bytes(uri)
    except FileNotFoundError:
        raise UserError(f"no such file: {uri}", hint="was it imported before?") from None
    except OSError as error:
        raise UserError(f"cannot read {uri}", hint=first_line(error)) from error
    lines = content.decode(errors="replace").split("\n")
    header = _read_line(uri, 1, lines[0], Header.model_validate_json)
    if header.format_version > FORMAT_VERSION:
        raise UserError(f"{uri} needs a newer sentiflow", hint="pip install -U sentiflow")
    records = [
        _read_line(uri, number, line, parse)
        for number, line in enumerate(lines[1:], start=2)
        if line or number < len(lines)
    ]
    return Unsent(uri, content, header, records)


def _read_line(uri: str, number: int, line: str, read_as: Callable[[str], Line]) -> Line:
    try:
        return read_as(line)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]["msg"]
        raise UserError(f"{uri}, line {number} is no record for MLflow", hint=fault) from error


@contextmanager
def keeping_credentials() -> Iterator[None]:
    """Give the next file's store no user and password that this one's had."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def find_store(header: Header, option: str | None) -> str:
    """Decide where to send what a file holds: where it was to go, unless the user says otherwise.

    User and password are in ``option``, in ``MLFLOW_TRACKING_URI`` if that is the same store, or
    in MLflow's own variables.
    """
    if option:
        os.environ["MLFLOW_TRACKING_URI"] = option
    mine = os.environ.get("MLFLOW_TRACKING_URI", "")
    is_same = without_user(mine) == header.tracking_uri
    return default_uri(mine if option or is_same else header.tracking_uri)


def import_file(unsent: Unsent, *, tracking_uri: str, register: Callable[..., object]) -> None:
    """Send all records of a file, and delete it when all are in the store.

    Args:
        unsent: By :func:`read`.
        tracking_uri: Where to.
        register: As :func:`registry.register`, for models.

    Raises:
        UserError: There is no such store.
        JobError: The store is away, or refuses some; the file stays, and can be imported again.
    """
    sender = Sender(tracking_uri, unsent.header.experiment_id, register=register)
    refusals = []
    try:
        mlflow_store.connect(tracking_uri)
        with mlflow_store.patient():
            for record, following in zip_longest(unsent.records, unsent.records[1:]):
                refusal = sender.offer(record, following)
                if refusal is not None:
                    refusals.append(f"{record.kind} of the run {record.run}: {first_line(refusal)}")
    except StoreAwayError as error:
        raise StoreAwayError(f"{error}; {as_typed(unsent.uri)} is kept") from error
    if refusals:
        raise JobError(
            f"MLflow refuses {len(refusals)} of {len(unsent.records)} records of "
            f"{as_typed(unsent.uri)}, which is kept: {refusals[0]}"
        )
    _delete(unsent)


def _delete(unsent: Unsent) -> None:
    if not filesystem.exists(unsent.uri):
        return  # its job was as quick
    if filesystem.read_bytes(unsent.uri) != unsent.content:
        raise JobError(f"{unsent.uri} has changed meanwhile: import it again when its job is over")
    filesystem.delete(unsent.uri)
