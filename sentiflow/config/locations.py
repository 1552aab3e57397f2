"""Settings -> the same settings with absolute and default locations.

Locations are files, directories and models, as paths or URIs.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from sentiflow.config import ray_job, vector_names
from sentiflow.config.sections import PREPARED, Config
from sentiflow.config.types import LOCATION, Settings
from sentiflow.errors import UserError
from sentiflow.storage.uris import absolute_uri, join, names_encoder

REFIT = "refit"
"""Folder of a refit in ``output_uri``: a refit is another run on the same prepared data."""


def resolve_locations(
    config: Config, *, base: str | None = None, submitted: bool | None = None
) -> Config:
    """Make every location absolute, and fill in default locations.

    Raises:
        UserError: Two stages would write to the same directory; or a location is relative in a job
            that was submitted to a cluster.
    """
    if submitted is None:
        submitted = ray_job.is_here()

    def make_absolute(key: str, uri: str) -> str:
        if _is_name(key, uri):
            return uri
        if submitted:
            ray_job.refuse_relative(key, uri)
        return absolute_uri(uri, base=base, setting=key)

    config = _change_locations(config, make_absolute)
    root = config.output_uri
    run_root = join(root, REFIT) if config.train.refit else root
    prepared = config.prepare.output_uri or join(root, "prepared")
    trained = config.train.output_uri or join(run_root, "trained")
    scored = config.score.output_uri or join(run_root, "scored")
    sections: dict[str, dict[str, Any]] = {
        "prepare": {"output_uri": prepared},
        "train": {
            "prepared_uri": config.train.prepared_uri or prepared,
            "output_uri": trained,
            "init_from": config.train.init_from or None,
        },
        "score": {
            "prepared_uri": config.score.prepared_uri or prepared,
            "model_uri": config.score.model_uri or join(trained, "model"),
            "output_uri": scored,
            "format": config.score.format or config.format,
        },
        "evaluate": {
            "scored_uri": config.evaluate.scored_uri or scored,
            "output_uri": config.evaluate.output_uri or join(run_root, "report"),
        },
        "trends": {"output_uri": config.trends.output_uri or join(root, "trends")},
        "sweep": {"output_uri": config.sweep.output_uri or join(root, "sweep")},
    }
    resolved_sections = {}
    for name, values in sections.items():
        resolved_sections[name] = getattr(config, name).model_copy(update=values)
    resolved = config.model_copy(update=resolved_sections)
    _check_outputs(resolved)
    return resolved


def _is_name(key: str, uri: str) -> bool:
    """Whether the value of a setting that holds locations is a name, which is left as it is."""
    if key == "score.corpus" and uri == PREPARED:
        return True
    if key == "train.distill.teachers" and names_encoder(uri):
        return True
    return vector_names.is_name(uri)


Section = TypeVar("Section", bound=Settings)


def _change_locations(
    section: Section, change: Callable[[str, str], str], prefix: str = ""
) -> Section:
    """Replace each location in a section, and in its sections, by ``change(key, location)``.

    Only settings whose value changes are set, because a setting that is set counts as given.
    """
    changed: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        key = f"{prefix}{name}"
        value = getattr(section, name)
        new = value
        if isinstance(value, Settings):
            new = _change_locations(value, change, f"{key}.")
        elif LOCATION in field.metadata and isinstance(value, str) and value:
            new = change(key, value)
        elif LOCATION in field.metadata and value:
            new = tuple(change(key, uri) for uri in value)
        if new != value:
            changed[name] = new
    return section.model_copy(update=changed)


def _check_outputs(config: Config) -> None:
    """Check that no stage writes to the directory of another stage.

    Raises:
        UserError: The directory of a stage is, or is inside, the directory of another stage.
    """
    stages = ("prepare", "train", "score", "evaluate", "trends", "sweep")
    outputs: dict[str, str] = {name: getattr(config, name).output_uri for name in stages}
    for name, uri in outputs.items():
        for other, other_uri in outputs.items():
            if name != other and f"{uri}/".startswith(f"{other_uri}/"):
                raise UserError(
                    f"{name}.output_uri is inside {other}.output_uri ({other_uri})",
                    hint="each stage needs its own directory",
                )
