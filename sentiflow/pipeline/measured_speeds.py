"""Directory of a stage -> the last run of this stage here, and how fast it was.

"Here" is the directory itself and the directories of other runs beside it: for
``runs/b/prepared`` also ``runs/a/prepared``. The manifest of a result has its rows, its seconds and
the cores of its machine or cluster.
"""

import math
import posixpath
from contextlib import suppress
from typing import Any, NamedTuple

from pyarrow import fs
from pydantic import TypeAdapter

from sentiflow.cluster.resources import Resources
from sentiflow.config.train_sections import ModelSettings, TrainSettings
from sentiflow.data import lineage, manifest, prepared_data
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.pipeline import stage_costs, stage_data
from sentiflow.pipeline.stage_costs import Costs, ScoringModel, TrainingWork
from sentiflow.storage import filesystem
from sentiflow.storage.uris import is_local, join, names_encoder
from sentiflow.tracking.model_sources import TEACHER

_MAX_DIRECTORIES = 64
"""Directories beside a run whose manifests are looked for, at most."""
_MAX_READ = 4
"""Manifests that are read, the newest first."""
_MAX_BYTES = 32 << 20
"""Size of a manifest that is read, at most."""
_PRIOR_SECONDS = 4.0
"""A short run says little about the speed: a speed counts as the built-in one for this time."""
_MAX_FACTOR = 30.0
"""A run counts as at most so many times slower or faster than the built-in rates."""
_ADAPTER: TypeAdapter[Any] = TypeAdapter(ModelSettings)
"""Reads the settings of a network."""


class Speed(NamedTuple):
    """How many times slower than by the built-in rates a stage was."""

    parts: float = 1.0
    """The parts of a preparation or a scoring."""
    network: float = 1.0
    """The networks of a training."""
    linear: float = 1.0
    """Its linear models."""
    rest: float = 1.0
    """All else in a training: start, teachers, validation, registration."""
    num_networks: int = 0
    """Networks that a training with folds has trained; 0: not known."""
    num_folds_trained: int = 0
    """Folds that it has trained."""
    uri: str = ""
    """The directory of the run; empty without any run."""


def find_speed(verb: str, uri: str, resources: Resources) -> Speed:
    """Find how fast the last run of a stage was; without any, the speed of the built-in rates.

    Args:
        verb: The stage.
        uri: The output of the stage that will run.
        resources: The machine or cluster. A run without GPUs says nothing about one with GPUs.
    """
    newest: list[str] = []
    with suppress(OSError):  # a store may refuse to list a directory
        newest = _list_newest(uri)
    for place in newest[:_MAX_READ]:
        # A manifest of another version, or a damaged one, says nothing.
        with suppress(OSError, UserError, KeyError, TypeError, ValueError):
            record = manifest.read(place, stage=verb)
            if record is None or record.get("resumed"):
                continue
            of_run = _read_resources(record, resources)
            if bool(of_run.num_gpus) == bool(resources.num_gpus):
                seconds = _find_seconds(record)
                return _measure(verb, record, of_run, seconds)._replace(uri=place)
    return Speed()


def _list_newest(uri: str) -> list[str]:
    """List the directories of a stage here that have a manifest, the newest first."""
    run = posixpath.dirname(uri)
    parent = posixpath.dirname(run)
    places = {uri}
    for folder in _list_folders(parent)[:_MAX_DIRECTORIES]:
        places.add(join(parent, folder, posixpath.basename(uri)))
    manifests = [join(place, manifest.MANIFEST) for place in places]
    infos = filesystem.map_files(filesystem.file_info, manifests)
    found = []
    for place, info in zip(places, infos, strict=True):
        if info.type == fs.FileType.File and info.size <= _MAX_BYTES:
            found.append((info.mtime_ns or 0, place))
    return [place for _, place in sorted(found, reverse=True)]


def _list_folders(uri: str) -> list[str]:
    """List the folders in a directory; none in the root of a disk or of a bucket.

    A root may have millions of objects, and each thousand of them is a request.
    """
    if uri.rstrip("/").count("/") < (1 if is_local(uri) else 3):
        return []
    file_system, root = filesystem.locate(uri)
    selector = fs.FileSelector(root, recursive=False, allow_not_found=True)
    infos = file_system.get_file_info(selector)
    folders = [info for info in infos if info.type == fs.FileType.Directory]
    folders.sort(key=lambda info: info.mtime_ns or 0, reverse=True)
    return [info.base_name for info in folders]


def _read_resources(record: Manifest, here: Resources) -> Resources:
    """Read what a run had; a manifest of an earlier version does not say it: then the same."""
    written = record.get("resources")
    if not written:
        return here
    return Resources(
        num_cpus=max(1, written["num_cpus"]),
        num_gpus=written["num_gpus"],
        num_nodes=max(1, written["num_nodes"]),
        min_node_cpus=max(1, written["min_node_cpus"]),
    )


def _find_seconds(record: Manifest) -> float:
    """Find how long a run would have taken if nothing else had used its machine.

    Raises:
        ValueError: The manifest has no duration.
    """
    seconds = float(record["seconds"])
    if not math.isfinite(seconds):
        raise ValueError("the manifest has no duration")
    load_percent = record.get("resources", {}).get("load_percent", 0)
    return seconds / (1 + load_percent / 100)


def _measure(verb: str, record: Manifest, resources: Resources, seconds: float) -> Speed:
    """Measure the speed of a run that took some seconds."""
    if verb == "train":
        return _measure_training(record, resources, seconds)
    costs = _find_costs(verb, record)
    num_tasks = stage_costs.count_tasks(costs.num_parts, resources)
    expected = stage_costs.divide_parts(costs, num_tasks)
    return Speed(parts=_compare(seconds - costs.start, expected))


def _compare(measured: float, expected: float) -> float:
    """Divide a duration by the one that the built-in rates give."""
    factor = (max(0.0, measured) + _PRIOR_SECONDS) / (expected + _PRIOR_SECONDS)
    return min(max(factor, 1 / _MAX_FACTOR), _MAX_FACTOR)


def _find_costs(verb: str, record: Manifest) -> Costs:
    """Find what a preparation or a scoring would cost by the built-in rates."""
    settings = record["settings"]
    if verb == "prepare":
        data = stage_data.of_prepared(record)
        return stage_costs.of_preparation(data.num_rows, data.num_bytes, settings)
    profile = record["profile"]
    tokens_per_row = prepared_data.average_tokens(profile["tokens"], profile["rows"])
    model = record["inputs"]["model"]
    models = read_models(model)
    # A result that was extended: the seconds are those of the last job.
    num_rows = record["scorings"][-1]["rows"]
    return stage_costs.of_scoring(num_rows, tokens_per_row, models, settings["rows_per_file"])


def read_models(model: Any) -> list[ScoringModel]:
    """Read what the speed of a described model depends on, or of each member of an average.

    Predictions of another program are only looked up: there is no model.
    """
    found: list[ScoringModel] = []
    if lineage.is_of_others(model):
        return found
    for member in model.get("members", [model]):
        settings = member["settings"]
        found.append(
            ScoringModel(
                network=_ADAPTER.validate_python(settings["model"]),
                vector_size=settings["embedding_dim"],
                has_linear=bool(settings.get("linear_weight")),
            )
        )
    return found


def _measure_training(record: Manifest, resources: Resources, seconds: float) -> Speed:
    """Measure the speed of a training: of its networks, of its linear models, and of the rest."""
    work = _find_work(record)
    costs = stage_costs.of_training(work)
    num_workers = max(1, record.get("num_workers", 1))
    num_threads = max(1, resources.min_node_cpus - 1)
    expected = stage_costs.divide_network(costs, num_threads, num_workers)
    costs_of_run = record.get("costs", {})
    network_seconds = costs_of_run.get("network_seconds", 0.0)
    if not network_seconds:
        epochs = [*record.get("pretraining", []), *record["history"]]
        network_seconds = sum(epoch["seconds"] for epoch in epochs)
    idle_fraction = seconds / max(1e-9, record["seconds"])  # without the load
    network_seconds *= idle_fraction
    linear_seconds = costs_of_run.get("linear_seconds", 0.0) * idle_fraction
    rest = seconds - network_seconds - linear_seconds
    return Speed(
        network=_compare(network_seconds, expected),
        linear=_compare(linear_seconds, costs.linear),
        rest=_compare(rest, costs.start + costs.teaching / resources.num_cpus),
        num_networks=int(costs_of_run.get("num_networks", 0)),
        num_folds_trained=work.num_folds,
    )


def _find_work(record: Manifest) -> TrainingWork:
    """Find what the duration of a training depended on; if its data are gone, guess their kind."""
    num_unlabelled = 0.0
    tokens_per_row = prepared_data.TOKENS_PER_ROW
    vector_size = stage_data.VECTOR_SIZE
    num_classes = 2
    is_ordered = False
    settings = _read_settings(record)
    costs_of_run = record.get("costs", {})
    # An earlier version has not counted the folds that it has trained.
    num_folds = 0 if "refit" in record else settings.folds
    prepared = manifest.read_input(record["inputs"], "prepared")
    if prepared:
        data = stage_data.of_prepared(prepared)
        num_unlabelled = data.num_unlabelled
        tokens_per_row = data.tokens_per_row
        vector_size = data.vector_size
        num_classes = data.num_classes
        is_ordered = data.is_ordered
        if num_folds:
            num_folds = stage_costs.count_folds(settings, data)
    num_rows = record["counts"]["rows"]
    return TrainingWork(
        settings=settings,
        num_rows=num_rows,
        num_pretrained=num_rows + num_unlabelled,
        tokens_per_row=tokens_per_row,
        vector_size=vector_size,
        num_networks=int(costs_of_run.get("num_networks", 1)),
        num_folds=int(costs_of_run.get("num_folds_trained", num_folds)),
        has_linear=costs_of_run.get("linear_seconds", 0.0) > 0,
        num_classes=num_classes,
        is_ordered=is_ordered,
        num_encoders=_count_encoders(record),
        num_asked=num_rows,
    )


def _count_encoders(record: Manifest) -> int:
    """Count the teachers of a training that are sentence encoders."""
    number = 0
    for name, described in record["inputs"].items():
        if name.startswith(TEACHER) and names_encoder(described.get("uri", "")):
            number += 1
    return number


def _read_settings(record: Manifest) -> TrainSettings:
    """Read the settings of a training that decide its duration."""
    written = record["settings"]
    names = ("model", "batching", "pretrain", "num_epochs", "folds", "unsure")
    return TrainSettings.model_validate({name: written[name] for name in names if name in written})
