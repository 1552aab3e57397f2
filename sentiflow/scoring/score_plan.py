"""Config -> the plan of a scoring: model and corpus, looked up once.

The plan is made when the output is described, and the scoring uses nothing else. If prepared data
are replaced while a scoring reads them, its output is not published (:meth:`Output.publish`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sentiflow.config import decisive
from sentiflow.config.sections import Config, ScoreSettings
from sentiflow.data import (
    arrival,
    corpus,
    input_files,
    lineage,
    manifest,
    output_status,
    schema,
)
from sentiflow.data.manifest import MODEL
from sentiflow.data.manifest_types import Input, Manifest, ModelInput
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.own_files import PART
from sentiflow.errors import UserError
from sentiflow.models import package_files
from sentiflow.models.profile import Profile
from sentiflow.scoring import given_predictions
from sentiflow.storage.uris import display_uri, join
from sentiflow.tracking import model_sources

STAGE = "score"
OWNS = (f"(?:predictions|rejected)/{PART}",)
"""Files that are written before the manifest, see ``OutputSpec.owns``."""

_NOT_DECISIVE = {
    "corpus",
    "keep_expired",
    "prepared_uri",
    "model_uri",
    "predictions",
    "output_uri",
    "num_workers",
    "gpus_per_worker",
}
"""Settings that are not compared. Some name the corpus or the model, which are compared as inputs.
The others do not change the predictions, except that a GPU may change the precision; later jobs
keep the precision of the first."""
REGISTRY_URI = re.compile(r"(?P<prefix>models:/[^/@]+/)(?P<number>\d+)")
"""The URI of a version in the registry: ``prefix`` is the same for all versions of the model,
``number`` is the number of the version."""
_ALIAS = re.compile(r"models:/[^/@]+(@.+|/latest)")
"""A URI that may name another version later: ``models:/NAME@ALIAS`` or ``models:/NAME/latest``."""


@dataclass(frozen=True, kw_only=True)
class ScorePlan:
    """A scoring as it will run."""

    config: Config
    """The experiment."""
    spec: OutputSpec
    """The output. Its inputs are ``model`` and ``corpus``."""
    model: ModelInput
    """The model, or the average of several."""
    classes: tuple[str, ...]
    """The classes of the model."""
    corpus: Input
    """The corpus. New files have no hash yet, because they are read when they are cut. Files in
    ``spec.gone`` are gone: their rows stay if the scoring extends the result."""
    prepared: Manifest | None
    """Manifest of the prepared data, if these are the corpus."""

    @property
    def settings(self) -> ScoreSettings:
        """The section ``score``."""
        return self.config.score


def resolve(config: Config) -> ScorePlan:
    """Plan a scoring; files of a corpus are read only if they have changed.

    Raises:
        UserError: The corpus or the model does not exist, the model is damaged, or several models
            have no average.
        JobError: MLflow cannot be reached.
    """
    settings = config.score
    prepared = None
    if settings.reads_prepared:
        uri = settings.prepared_uri
        prepared = manifest.require(uri, stage="prepare", setting="score.prepared_uri")
        described = manifest.reference(uri, prepared)
        gone: tuple[str, ...] = ()
    else:
        described, gone = _describe_files(settings)
    model = _describe_model(config, prepared)
    spec = OutputSpec(
        stage=STAGE,
        uri=settings.output_uri,
        settings=_list_decisive(config),
        inputs={"model": model, "corpus": described},
        owns=OWNS,
        grows="corpus",
        follows=_find_version_prefix(settings, model),
        gone=gone,
        way_out_if_gone="are old files deleted in time? score.keep_expired=true keeps their "
        "predictions",
        notes=_note_gone(gone),
    )
    return ScorePlan(
        config=config,
        spec=spec,
        model=model,
        classes=_list_classes(model),
        corpus=described,
        prepared=prepared,
    )


def _describe_model(config: Config, prepared: Manifest | None) -> ModelInput:
    """Describe the model, or the predictions of another program in its place.

    Raises:
        UserError: It does not exist, or is damaged.
        JobError: MLflow cannot be reached.
    """
    settings = config.score
    if settings.predictions:
        earlier = output_status.read_result(settings.output_uri)
        return given_predictions.describe(config, prepared, earlier)
    assert settings.model_uri, "settings are resolved"
    model = model_sources.describe(
        settings.model_uri,
        tracking=config.tracking.uri,
        to=join(settings.output_uri, MODEL),
        near=settings.output_uri,
    )
    _check_reference(model)
    return model


def _list_classes(model: ModelInput) -> tuple[str, ...]:
    """List the classes of a model, or of the predictions in its place."""
    if lineage.is_of_others(model):
        return tuple((model["settings"] or {})["classes"])
    return package_files.classes_of(model)


def _check_reference(model: ModelInput) -> None:
    """Check the profile of the model's validation texts, which is needed after the last row.

    Raises:
        UserError: Its histograms have other bins.
    """
    if not model["reference"]:
        return
    try:
        Profile.from_json(model["reference"])
    except ValueError as error:
        raise UserError(
            f"score.model_uri: the manifest of {display_uri(model['uri'])} has a reference with "
            f"{error}",
            hint="it is damaged, or of another version: train the model again",
        ) from error


def _list_decisive(config: Config) -> dict[str, Any]:
    """List the settings and rules that decide the result."""
    settings = config.score
    listed = decisive.dump(settings, exclude=_NOT_DECISIVE)
    listed["keep_raw"] = config.prepare.keep_raw
    listed["corpus"] = "prepared" if settings.reads_prepared else "files"
    listed["predictions_version"] = schema.PREDICTIONS_VERSION
    return listed


class _CorpusFiles(NamedTuple):
    """The files of a corpus."""

    described: Input
    """All files, in the order of their arrival."""
    gone: tuple[str, ...]
    """URIs of those that are gone, and may be."""


def _describe_files(settings: ScoreSettings) -> _CorpusFiles:
    """Describe the files of a corpus in the order of their arrival.

    New files are not read, except to find a moved one. If a result is complete and all of its files
    are gone, the description of its files is returned. With ``score.keep_expired``, scored files
    that are gone keep their places.

    Raises:
        UserError: A file does not exist, or there are CSV files and Parquet files.
    """
    scored = output_status.read_result(settings.output_uri)
    earlier: Input | None = scored["inputs"].get("corpus") if scored else None
    may_be_gone: dict[str, None] = {}  # in the order of the files
    if earlier and settings.keep_expired:
        uris = [item["uri"] for item in earlier.get("files", [])]
        named = [uri for uri in uris if input_files.named_by(uri, settings.corpus)]
        may_be_gone = dict.fromkeys(named)
    found = input_files.find(
        settings.corpus, setting="score.corpus", earlier=earlier, may_be_gone=may_be_gone
    )
    if earlier and not found:
        return _CorpusFiles(earlier, tuple(may_be_gone))
    corpus.are_tables([item["uri"] for item in found], setting="score.corpus")
    known = arrival.list_known(settings.output_uri, scored, name="corpus")
    ordered = arrival.order(found, known, may_be_gone=may_be_gone)
    found_uris = {item["uri"] for item in found}
    gone = tuple(item["uri"] for item in ordered if item["uri"] not in found_uris)
    return _CorpusFiles(input_files.combine(ordered), gone)


def _note_gone(gone: Sequence[str]) -> tuple[str, ...]:
    """Say how many scored files are gone."""
    if not gone:
        return ()
    files = "1 scored file is" if len(gone) == 1 else f"{len(gone):,} scored files are"
    first = display_uri(gone[0])
    return (f"{files} gone, the first is {first}: the predictions stay; --overwrite drops them",)


def _find_version_prefix(settings: ScoreSettings, model: ModelInput) -> str:
    """Return the beginning of the URIs of all versions of a model; empty if no alias names it.

    Files of predictions by another program are versions of one model if files were only added.
    """
    if lineage.is_of_others(model):
        return model["uri"]
    version = REGISTRY_URI.fullmatch(model["uri"])
    is_alias = isinstance(settings.model_uri, str) and _ALIAS.fullmatch(settings.model_uri)
    return version["prefix"] if version and is_alias else ""
