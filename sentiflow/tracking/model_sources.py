"""URI of a model -> its manifest; URIs of teachers -> models, files of answers.

A URI is a directory, ``models:/…`` or ``runs:/…``. The models of a list of URIs are averaged.
"""

import logging
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

from pyarrow import fs

from sentiflow.config.sections import Config
from sentiflow.data import followed_inputs, input_files, manifest
from sentiflow.data.answers import TEACHERS
from sentiflow.data.manifest_types import Input, Manifest, ModelInput
from sentiflow.data.output_status import read_result
from sentiflow.errors import UserError, few, shorten
from sentiflow.models import average_files, package_files, text_encoders
from sentiflow.storage import filesystem, globs
from sentiflow.storage.stores import ForeignUri
from sentiflow.storage.uris import display_uri, join, names_encoder, names_model
from sentiflow.tracking import mlflow_store
from sentiflow.tracking.runs import REPORT_FOLDER

log = logging.getLogger(__name__)

SETTING = "score.model_uri"
"""The setting that error messages name by default."""
_MAX_SHOWN = 200
"""Maximum length of a location in a message, in characters."""
TEACHER = "teacher_"
"""Prefix of the names of a training's inputs that are teachers; a number follows."""

Teacher: TypeAlias = ModelInput | tuple[str, ...]
"""A model or an encoder; or the URIs of files of answers."""


def describe(
    uri: str | Sequence[str],
    *,
    tracking: str | None,
    setting: str = SETTING,
    to: str = "",
    near: str = "",
) -> ModelInput:
    """Describe a model, or the average of several, as an input of a stage.

    Args:
        uri: A directory of a package or of the run that trained it, ``models:/…`` or ``runs:/…``;
            or several of them.
        tracking: The setting ``tracking.uri``.
        setting: The setting that names ``uri``, for error messages.
        to: The directory where the package of an average will be.
        near: As for :func:`find`.

    Returns:
        The description. An alias in the URI is replaced by its version; values that the package's
        manifest lacks are None.

    Raises:
        UserError: A model does not exist or is not a finished package, or several models cannot be
            averaged.
        JobError: MLflow cannot be reached.
    """
    if isinstance(uri, str):
        place, record = find(uri, tracking=tracking, setting=setting, near=near)
        return package_files.to_input(place, record)
    members = [describe(each, tracking=tracking, setting=setting, near=near) for each in uri]
    return average_files.describe(members, uri=to, setting=setting)


def find(
    uri: str, *, tracking: str | None, setting: str = SETTING, near: str = ""
) -> tuple[str, Manifest]:
    """Find a model; return the location of its package, and its manifest.

    Args:
        uri: The model.
        tracking: The setting ``tracking.uri``.
        setting: The setting that names ``uri``, for error messages.
        near: A directory to which the command writes. The training of the model is looked up only
            in the store of the model, and in the store of this directory.

    Raises:
        UserError: There is no such model, or it is not a finished package.
        JobError: MLflow cannot be reached.
    """
    if names_model(uri):
        from sentiflow.tracking import model_registry  # it imports MLflow

        store = mlflow_store.default_uri(tracking)
        model = model_registry.resolve(uri, tracking_uri=store, near=near)
        return model.uri, model.record
    uri = manifest.find_package(uri)
    others = [near] if near else []
    return uri, manifest.require(uri, stage="model", setting=setting, near=others)


def find_evaluation(package: Manifest, uri: str) -> tuple[str, Manifest] | None:
    """Find the evaluation of a model in the run that made it: its location and its manifest.

    Args:
        package: Manifest of the model.
        uri: A directory of its run, or its URI in MLflow.
    """
    is_in_mlflow = names_model(uri)
    place = _find_maker(package) if is_in_mlflow else uri
    for level in range(3):  # the package may be in RUN, RUN/model or RUN/trained/model
        run = place.rsplit("/", level)[0]  # the directory that many levels above
        if not run or run[-1] in ":/":  # above the root of the storage, such as s3:/
            continue
        report = join(run, REPORT_FOLDER)
        if is_in_mlflow:
            record = followed_inputs.follow_directory(report, stage="evaluate")
        else:
            record = read_result(report)
        if not record or record["stage"] != "evaluate":
            continue
        if record.get("model_fingerprint") == package["fingerprint"]:
            return report, record
    return None


def _find_maker(package: Manifest) -> str:
    """Return the directory of the training or of the average that made a model, if it is known.

    Empty if it is unknown, or in another store than the model; a line says so then.
    """
    inputs = package["inputs"]
    maker = inputs.get("training") or inputs.get("members") or {}
    uri = maker.get("uri", "")
    if isinstance(uri, ForeignUri):
        place = shorten(uri, _MAX_SHOWN)
        log.warning("no evaluation is looked up: the model was made in another store, %s", place)
        return ""
    return str(uri)


def find_test_metrics(package: Manifest, uri: str) -> dict[str, float]:
    """Return the metrics of a model on the test rows of its data; empty if it was not evaluated.

    Args:
        package: Manifest of the model.
        uri: A directory of its run, or its URI in MLflow.
    """
    evaluation = find_evaluation(package, uri)
    if evaluation is None:
        return {}
    _, record = evaluation
    run = record.get("run")
    if not run or "training" not in run:
        return {}
    return dict(run["training"]["metrics"])


def download(model: ModelInput, *, to: str, tracking: str | None) -> str:
    """Return a directory with the package of a described model, which all nodes can read.

    A model in MLflow is copied to ``to``. Any other model stays where it is.
    """
    if not names_model(model["uri"]):
        return model["uri"]
    from sentiflow.tracking import model_registry

    filesystem.delete(to)  # a killed job may have copied a part
    model_registry.download(model["uri"], to=to, tracking_uri=mlflow_store.default_uri(tracking))
    return to


def gather(model: ModelInput, *, to: str, work: str, tracking: str | None) -> str:
    """Copy the models of a described average into one package, and return ``to``.

    Models in MLflow are downloaded to the directory ``work`` first.
    """
    packages = [
        download(member, to=join(work, str(number)), tracking=tracking)
        for number, member in enumerate(model["members"])
    ]
    filesystem.delete(to)
    average_files.save(model, packages, to=to)
    return to


def describe_teachers(config: Config, classes: Sequence[str]) -> dict[str, Input]:
    """Describe the teachers of :func:`find_teachers` as inputs of a training.

    Each file of answers is read for its fingerprint, once in a process.
    """
    inputs = {}
    for number, teacher in enumerate(find_teachers(config, classes), start=1):
        if isinstance(teacher, tuple):
            described = input_files.describe(teacher)
        else:
            described = _choose_keys(teacher)
        inputs[f"{TEACHER}{number}"] = described
    return inputs


def _choose_keys(teacher: ModelInput) -> Input:
    """Choose the keys that identify a model or an encoder, or say how it was trained."""
    values = cast(dict[str, Any], teacher)
    kept = {}
    for name in ("fingerprint", "members", "training", "uri", "version"):
        if name in values:
            kept[name] = values[name]
    return cast(Input, kept)


def find_teachers(config: Config, classes: Sequence[str] | None) -> list[Teacher]:
    """Find the teachers of a training: models, encoders or files, in the order of the setting.

    Args:
        config: The experiment.
        classes: Classes that each model must know; None: models with any classes.

    Raises:
        UserError: A teacher does not exist, is neither a model nor Parquet, or lacks a class; or
            the package of an encoder is not installed.
        JobError: MLflow cannot be reached.
    """
    uris = config.train.distill.teachers
    return [_find_teacher(uri, config.tracking.uri, classes or ()) for uri in uris]


def _find_teacher(uri: str, tracking: str | None, classes: Sequence[str]) -> Teacher:
    """Find one teacher; see :func:`find_teachers`."""
    if names_encoder(uri):
        return cast(ModelInput, text_encoders.describe(uri))
    if not names_model(uri):
        record = manifest.read(manifest.find_package(uri))
        if record is None or record["stage"] != "model":
            return tuple(_list_files(uri, record))
    model = describe(uri, tracking=tracking, setting=TEACHERS)
    known = package_files.classes_of(model)
    missing = [name for name in classes if name not in known]
    if missing:
        raise UserError(
            f"{TEACHERS}: {display_uri(uri)} does not know the class {' or '.join(few(missing))}",
            hint=f"it has {', '.join(few(known))}; train.classes chooses the classes to train",
        )
    return model


def _list_files(uri: str, record: Manifest | None) -> list[str]:
    """List the Parquet files of a teacher: a file, a glob, a directory, or a scoring.

    The files of a scoring are those that its manifest lists. Other files there may be of a job that
    runs or was killed.

    Args:
        uri: The teacher.
        record: Its manifest, if it is the output of a stage.

    Raises:
        UserError: There are no such files.
    """
    if record is not None and record["stage"] == "score":
        return _list_predictions(uri)
    pattern = uri
    names_files = uri.endswith(".parquet") or globs.is_glob(uri)
    if filesystem.file_info(uri).type == fs.FileType.Directory or not names_files:
        pattern = join(uri, "*.parquet")
    try:
        return input_files.expand([pattern])
    except UserError as error:
        name = uri.rpartition("/")[2]
        is_encoder = name in text_encoders.SOURCES
        raise UserError(
            f"{TEACHERS}: {display_uri(uri)} is neither a finished model nor a Parquet file",
            hint=f"write encoder:{name}" if is_encoder else str(error),
        ) from error


def _list_predictions(uri: str) -> list[str]:
    """List the files with the predictions of a scored directory.

    Raises:
        UserError: A file is missing or damaged, or there is none.
    """
    record = manifest.require(uri, stage="score", setting=TEACHERS)
    paths = sorted(item["path"] for item in record["files"])
    files = [join(uri, path) for path in paths if path.startswith("predictions/")]
    if not files:
        raise UserError(
            f"{TEACHERS}: {display_uri(uri)} has no prediction", hint="name another teacher"
        )
    return files
