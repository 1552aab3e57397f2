"""Config -> the plan of a scoring: model and corpus, looked up once.

The plan is made when the output is described, and the scoring uses nothing else. If prepared data
are replaced while a scoring reads them, its output is not published (:meth:`Output.publish`).
"""

import re
from dataclasses import dataclass
from typing import Any

from sentiflow.config.sections import Config, ScoreSettings
from sentiflow.data import arrival, corpus, input_files, manifest, schema
from sentiflow.data.manifest import MODEL
from sentiflow.data.manifest_types import Input, Manifest, ModelInput
from sentiflow.data.output_spec import OutputSpec
from sentiflow.models import package_files
from sentiflow.storage.uris import join
from sentiflow.tracking import model_sources

STAGE = "score"
OWNS = ("predictions", "rejected", MODEL)

_NOT_DECISIVE = {
    "corpus",
    "prepared_uri",
    "model_uri",
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
    """The corpus. New files have no hash yet, because they are read when they are cut."""
    prepared: Manifest | None
    """Manifest of the prepared data, if these are the corpus."""

    @property
    def settings(self) -> ScoreSettings:
        """The section ``score``."""
        return self.config.score


def resolve(config: Config) -> ScorePlan:
    """Plan a scoring; files of a corpus are read only if they have changed.

    Raises:
        UserError: The corpus or the model does not exist, or several models have no average.
        JobError: MLflow cannot be reached.
    """
    settings = config.score
    assert settings.model_uri, "settings are resolved"
    model = model_sources.describe(
        settings.model_uri, tracking=config.tracking.uri, to=join(settings.output_uri, MODEL)
    )
    prepared = None
    if settings.reads_prepared:
        uri = settings.prepared_uri
        prepared = manifest.require(uri, stage="prepare", setting="score.prepared_uri")
        described = manifest.reference(uri, prepared)
    else:
        described = _describe_files(settings)
    spec = OutputSpec(
        stage=STAGE,
        uri=settings.output_uri,
        settings=_list_decisive(config),
        inputs={"model": model, "corpus": described},
        owns=OWNS,
        grows="corpus",
        follows=_find_version_prefix(settings, model),
    )
    return ScorePlan(
        config=config,
        spec=spec,
        model=model,
        classes=package_files.classes_of(model),
        corpus=described,
        prepared=prepared,
    )


def _list_decisive(config: Config) -> dict[str, Any]:
    """List the settings and rules that decide the result."""
    settings = config.score
    decisive = settings.model_dump(exclude=_NOT_DECISIVE)
    decisive["keep_raw"] = config.prepare.keep_raw
    decisive["corpus"] = "prepared" if settings.reads_prepared else "files"
    decisive["predictions_version"] = schema.PREDICTIONS_VERSION
    return decisive


def _describe_files(settings: ScoreSettings) -> Input:
    """Describe the files of a corpus in the order of their arrival.

    New files are not read, except to find a moved one. If a result is complete and all of its files
    are gone, the description of its files is returned.

    Raises:
        UserError: A file does not exist, or there are CSV files and Parquet files.
    """
    scored = manifest.read(settings.output_uri)
    earlier: Input | None = scored["inputs"].get("corpus") if scored else None
    found = input_files.find(settings.corpus, setting="score.corpus", earlier=earlier)
    if earlier and not found:
        return earlier
    corpus.are_tables([item["uri"] for item in found], setting="score.corpus")
    known = arrival.list_known(settings.output_uri, scored, name="corpus")
    return input_files.combine(arrival.order(found, known))


def _find_version_prefix(settings: ScoreSettings, model: ModelInput) -> str:
    """Return the beginning of the URIs of all versions of a model; empty if no alias names it."""
    version = REGISTRY_URI.fullmatch(model["uri"])
    is_alias = isinstance(settings.model_uri, str) and _ALIAS.fullmatch(settings.model_uri)
    return version["prefix"] if version and is_alias else ""
