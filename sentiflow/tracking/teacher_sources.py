"""Names of teachers in ``train.distill.teachers`` -> model packages, and files of answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from pyarrow import fs

from sentiflow.config.sections import Config
from sentiflow.data import answers, input_files, manifest
from sentiflow.data.answers import SETTING
from sentiflow.data.manifest_types import Input, ModelInput
from sentiflow.errors import UserError
from sentiflow.models import package_files
from sentiflow.storage import filesystem, globs
from sentiflow.storage.uris import as_typed, join, names_model
from sentiflow.tracking import model_sources

TEACHER = "teacher_"
"""Names of the inputs of a training that are teachers begin so; a number follows."""


@dataclass(frozen=True)
class Teacher:
    """A model package, or files of answers."""

    model: ModelInput | None = None
    files: tuple[str, ...] = ()

    def describe(self) -> Input:
        """Describe the teacher as an input of the training; files are read if they are new."""
        if self.files:
            return input_files.describe(self.files)
        assert self.model is not None, "a teacher is one of both"
        known: dict[str, Any] = {**self.model}
        names = ("uri", "fingerprint", "training", "members")
        return cast(Input, {name: known[name] for name in names if name in known})


def describe(config: Config, classes: Sequence[str]) -> dict[str, Input]:
    """Describe the teachers as inputs of a training, as :func:`find` finds them."""
    found = enumerate(find(config, classes), start=1)
    return {f"{TEACHER}{number}": teacher.describe() for number, teacher in found}


def find(config: Config, classes: Sequence[str] | None) -> list[Teacher]:
    """Find the teachers of a training, in the order of the setting.

    Args:
        config: The experiment.
        classes: Classes that each must know; None: any.

    Raises:
        UserError: One does not exist, is neither a model nor Parquet, or lacks a class.
        JobError: MLflow cannot be reached.
    """
    return [_find(uri, config, classes) for uri in config.train.distill.teachers]


def _find(uri: str, config: Config, classes: Sequence[str] | None) -> Teacher:
    if not names_model(uri):
        package = manifest.find_package(uri)
        record = manifest.read(package)
        if record is None or record["stage"] != "model":
            files = _list_files(uri, record)
            answers.check_columns(files, classes)
            return Teacher(files=tuple(files))
    model = model_sources.describe(uri, tracking=config.tracking.uri, setting=SETTING)
    has = package_files.classes_of(model)
    if missing := [name for name in classes or () if name not in has]:
        raise UserError(
            f"{SETTING}: {as_typed(uri)} does not know the class {' or '.join(missing)}",
            hint=f"it has {', '.join(has)}; train.classes chooses those of the student",
        )
    return Teacher(model=model)


def _list_files(uri: str, record: Any) -> list[str]:
    """List the Parquet files of a name or glob, of a directory or of a scoring.

    Raises:
        UserError: There are none.
    """
    is_scored = record is not None and record["stage"] == "score"
    pattern = join(uri, "predictions", "*.parquet") if is_scored else uri
    is_folder = filesystem.file_info(uri).type == fs.FileType.Directory
    names_files = uri.endswith(".parquet") or any(mark in uri for mark in "*?[")
    if not is_scored and (is_folder or not names_files):
        pattern = join(uri, "*.parquet")
    try:
        return globs.expand([pattern])
    except UserError as error:
        raise UserError(
            f"{SETTING}: {as_typed(uri)} is neither a finished model nor a Parquet file",
            hint=str(error),
        ) from error
