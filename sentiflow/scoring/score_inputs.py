"""Score settings -> the model and the corpus: described; the corpus planned and cut into parts."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sentiflow.config.class_names import BINARY, SENTIMENT140, UNLABELLED
from sentiflow.config.sections import Config, ScoreSettings
from sentiflow.data import corpus, input_files, manifest, table_plans
from sentiflow.data.manifest import MODEL
from sentiflow.data.manifest_types import Input, InputFile, ModelInput
from sentiflow.data.outputs import Output, OutputSpec
from sentiflow.data.parts import Part
from sentiflow.storage.uris import display_uri, join, split_member
from sentiflow.tracking import model_sources, refits

STAGE = "score"
PREPARED = "prepared"
"""The value of ``score.corpus`` for prepared data, instead of files."""

_VERSION = re.compile(r"(models:/[^/@]+/)(\d+)")
_ALIAS = re.compile(r"models:/[^/@]+(@.+|/latest)")


class Copy(NamedTuple):
    """A file with the content of an earlier file."""

    described: InputFile
    """Its description, with the hash of its content."""
    original: str
    """URI of the first file with this content."""


class Planned(NamedTuple):
    """A corpus before it is cut."""

    plan: corpus.Plan | corpus.Corpus
    """New files, or prepared data, which are cut already."""
    labels: tuple[str, ...]
    """Names of its classes: labels are positions among them."""


def reads_prepared(settings: ScoreSettings) -> bool:
    """Say whether prepared data are scored, instead of files."""
    return settings.corpus == (PREPARED,)


def fetch_model(config: Config, output: Output) -> str:
    """Return a directory of the model that all nodes can read.

    A model in MLflow is downloaded for the time of the scoring. Several models are averaged into
    one package, which stays in the output: its members are no longer needed then.

    Raises:
        UserError: The model is damaged.
        JobError: MLflow cannot be reached.
    """
    model = output.spec.inputs["model"]
    tracking = config.tracking.uri
    work = join(output.uri, "downloaded")
    if isinstance(config.score.model_uri, str):
        return model_sources.download(model, to=work, tracking=tracking)
    if output.previous:
        return join(output.spec.uri, MODEL)
    return model_sources.gather(model, to=join(output.uri, MODEL), work=work, tracking=tracking)


def name_model(spec: OutputSpec) -> str:
    """Name the model, or all members of an average, for a line."""
    model: ModelInput = spec.inputs["model"]
    uris = [display_uri(member["uri"]) for member in model.get("members", [model])]
    return uris[0] if len(uris) == 1 else f"the average of {', '.join(uris)}"


def follow(settings: ScoreSettings, model: ModelInput) -> str:
    """Return the beginning of the URIs of all versions of a model, if an alias names it."""
    version = _VERSION.fullmatch(model["uri"])
    is_alias = isinstance(settings.model_uri, str) and _ALIAS.fullmatch(settings.model_uri)
    return version[1] if version and is_alias else ""


def name_version(model: ModelInput, models: Mapping[str, ModelInput]) -> str:
    """Name a model in the column ``model_version`` of predictions.

    The name is the model's number in the registry, or else its fingerprint. A model that has scored
    some of the rows keeps its name. A recreated registry reuses numbers: a number that another
    model has is not used again.

    Args:
        model: The model.
        models: The models that have scored rows already, by name.
    """
    for name, other in models.items():
        if other["fingerprint"] == model["fingerprint"]:
            return name
    version = _VERSION.fullmatch(model["uri"])
    if version and version[2] not in models:
        return version[2]
    return model["fingerprint"]


def find_copies(files: Sequence[InputFile]) -> dict[str, Copy]:
    """Find files with the content of one before them, by URI.

    A new file is read only if another one has its size.
    """
    kinds = [(item["bytes"], split_member(item["uri"])[1]) for item in files]
    counts = Counter(kinds)
    originals: dict[str, str] = {}
    copies: dict[str, Copy] = {}
    for item, kind in zip(files, kinds, strict=True):
        if counts[kind] == 1:
            continue
        described = item
        if not item["tree_sha256"]:
            described = input_files.describe([item["uri"]])["files"][0]
        original = originals.setdefault(manifest.identify_file(described), item["uri"])
        if original != item["uri"]:
            copies[item["uri"]] = Copy(described, original)
    return copies


def find_learned_files(corpus: Input, model: ModelInput) -> list[str]:
    """Name files of the corpus whose rows the model was trained on, unless the rows are marked.

    Prepared data mark them by their splits, but a refit may have learned all rows.
    """
    refit = model.get("refit")
    is_of_refit = refit and refit["prepared"]["fingerprint"] == corpus["fingerprint"]
    if refit and is_of_refit and refits.has_seen_test(refit):
        return [display_uri(corpus["uri"])]
    learned: set[str] = set()
    for member in model.get("members") or [model]:
        training = manifest.read_input(member, "training")
        if training:
            prepared = manifest.read_input(training["inputs"], "prepared")
            if prepared:
                learned |= manifest.identify_learned_files(prepared)
    files = [item for item in corpus.get("files", ()) if manifest.identify_file(item) in learned]
    return [display_uri(item["uri"]) for item in files]


def describe_corpus(settings: ScoreSettings) -> Input:
    """Describe the corpus as an input; files that were not scored before are not read.

    If all files of a complete result are gone, they are described as they were.

    Raises:
        UserError: It does not exist.
    """
    if reads_prepared(settings):
        record = manifest.require(
            settings.prepared_uri, stage="prepare", setting="score.prepared_uri"
        )
        return manifest.reference(settings.prepared_uri, record)
    scored = manifest.read(settings.output_uri)
    earlier: Input | None = scored["inputs"].get("corpus") if scored else None
    uris = input_files.expand(settings.corpus, setting="score.corpus", earlier=earlier)
    if earlier and not uris:
        return earlier
    if not earlier or "files" not in earlier:
        return input_files.as_found(uris)
    return input_files.add(earlier, uris) or input_files.describe(uris, earlier=earlier)


def plan(
    settings: ScoreSettings,
    files: Sequence[InputFile],
    *,
    classes: tuple[str, ...],
    num_previous: int,
    unpack_to: str,
) -> Planned:
    """Inspect the corpus before anything is written.

    Args:
        settings: The settings of the stage.
        files: Its files without copies; none if prepared data are scored.
        classes: The classes of the model. Files that do not name their classes are assumed to have
            these, and neutral beside negative and positive.
        num_previous: Number of files at its beginning that were scored before.
        unpack_to: Directory for the content of compressed files.

    Raises:
        UserError: It mixes CSV and Parquet, or cannot be read.
    """
    if reads_prepared(settings):
        return _open_prepared(settings)
    assumed = SENTIMENT140 if classes == BINARY else classes
    if corpus.are_tables([item["uri"] for item in files], setting="score.corpus"):
        return _plan_tables(settings, files, assumed, num_previous)
    return _plan_csv(settings, files[num_previous:], assumed, unpack_to)


def _open_prepared(settings: ScoreSettings) -> Planned:
    record = manifest.require(settings.prepared_uri, stage="prepare", setting="score.prepared_uri")
    prepared = corpus.open_prepared(
        settings.prepared_uri,
        record,
        rows_per_part=settings.rows_per_file,
        keep_columns=settings.keep_columns,
    )
    return Planned(prepared, manifest.find_classes(record))


def _plan_tables(
    settings: ScoreSettings, files: Sequence[InputFile], assumed: tuple[str, ...], num_previous: int
) -> Planned:
    assert settings.format is not None, "settings are resolved"
    labels = tuple(dict.fromkeys((*assumed, *(settings.format.classes or ()))))
    tables = table_plans.plan_scoring(
        files[num_previous:],
        text_column=settings.text_column,
        keep_columns=settings.keep_columns,
        classes=labels,
        settings=settings.format,
        earlier=[item["uri"] for item in files[:num_previous]],
    )
    return Planned(tables, labels)


def _plan_csv(
    settings: ScoreSettings, files: Sequence[InputFile], assumed: tuple[str, ...], unpack_to: str
) -> Planned:
    form = settings.format
    assert form is not None, "settings are resolved"
    labels = form.classes or assumed
    if form.classes is None:  # the written values are the names
        values = {UNLABELLED: ("",), **{name: (name,) for name in labels}}
        form = form.model_copy(update={"labels": values})
    csvs = corpus.plan_csv(
        files,
        settings=form,
        rows_per_part=settings.rows_per_file,
        unpack_to=unpack_to,
        needs_all=False,
    )
    return Planned(csvs, labels)


def name_part(part: Part, run_key: str) -> str:
    """Identify a part by the run, its rows and the content of its files."""
    contents = [manifest.identify_file(item) for item in part.inputs.get("files", [])]
    return manifest.fingerprint([run_key, str(part), contents or part.inputs["fingerprint"]])
