"""Plan of a scoring -> the model where all nodes find it, and the corpus as it is to be cut."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sentiflow.config.class_names import BINARY, SENTIMENT140, UNLABELLED
from sentiflow.config.sections import ScoreSettings
from sentiflow.data import corpus, input_files, manifest, table_plans
from sentiflow.data.manifest import MODEL
from sentiflow.data.manifest_types import Input, InputFile, Manifest, ModelInput
from sentiflow.data.outputs import Output
from sentiflow.data.parts import Part
from sentiflow.scoring.score_plan import VERSION, ScorePlan
from sentiflow.storage.uris import display_uri, join, split_member
from sentiflow.tracking import model_sources, refits


class Copy(NamedTuple):
    """A file with the content of an earlier file."""

    described: InputFile
    """Its description, with the hash of its content."""
    original: str
    """URI of the first file with this content."""


class Inspected(NamedTuple):
    """A corpus before it is cut."""

    rows: corpus.Plan | corpus.Corpus
    """New files, or prepared data, which are cut already."""
    labels: tuple[str, ...]
    """Names of its classes: labels are positions among them."""


def fetch_model(plan: ScorePlan, output: Output) -> str:
    """Return a directory of the model that all nodes can read.

    A model in MLflow is downloaded for the time of the scoring. Several models are averaged into
    one package, which stays in the output: its members are no longer needed then.

    Raises:
        UserError: The model is damaged.
        JobError: MLflow cannot be reached.
    """
    model = plan.model
    tracking = plan.config.tracking.uri
    work = join(output.uri, "downloaded")
    if isinstance(plan.settings.model_uri, str):
        return model_sources.download(model, to=work, tracking=tracking)
    if output.previous:
        return join(output.spec.uri, MODEL)
    return model_sources.gather(model, to=join(output.uri, MODEL), work=work, tracking=tracking)


def name_model(model: ModelInput) -> str:
    """Name the model, or all members of an average, for a line."""
    uris = [display_uri(member["uri"]) for member in model.get("members", [model])]
    return uris[0] if len(uris) == 1 else f"the average of {', '.join(uris)}"


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
    version = VERSION.fullmatch(model["uri"])
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


def inspect(
    plan: ScorePlan, files: Sequence[InputFile], *, num_previous: int, unpack_to: str
) -> Inspected:
    """Inspect the corpus before anything is written, and check that it has the columns to keep.

    Args:
        plan: The scoring.
        files: The files of the corpus without copies; none if prepared data are scored.
        num_previous: Number of files at its beginning that were scored before.
        unpack_to: Directory for the content of compressed files.

    Raises:
        UserError: It mixes CSV and Parquet, cannot be read, or has no such column.
    """
    settings = plan.settings
    # Files that do not name their classes are assumed to have the model's, and neutral beside
    # negative and positive.
    assumed = SENTIMENT140 if plan.classes == BINARY else plan.classes
    if plan.prepared:
        inspected = _open_prepared(settings, plan.prepared)
    elif corpus.are_tables([item["uri"] for item in files], setting="score.corpus"):
        inspected = _plan_tables(settings, files, assumed, num_previous)
    else:
        inspected = _plan_csv(settings, files[num_previous:], assumed, unpack_to)
    corpus.check_columns(inspected.rows.columns, settings.keep_columns, classes=plan.classes)
    return inspected


def _open_prepared(settings: ScoreSettings, record: Manifest) -> Inspected:
    prepared = corpus.open_prepared(
        settings.prepared_uri,
        record,
        rows_per_part=settings.rows_per_file,
        keep_columns=settings.keep_columns,
    )
    return Inspected(prepared, manifest.find_classes(record))


def _plan_tables(
    settings: ScoreSettings, files: Sequence[InputFile], assumed: tuple[str, ...], num_previous: int
) -> Inspected:
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
    return Inspected(tables, labels)


def _plan_csv(
    settings: ScoreSettings, files: Sequence[InputFile], assumed: tuple[str, ...], unpack_to: str
) -> Inspected:
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
    return Inspected(csvs, labels)


def name_part(part: Part, run_key: str) -> str:
    """Identify a part by the run, its rows and the content of its files."""
    contents = [manifest.identify_file(item) for item in part.inputs.get("files", [])]
    return manifest.fingerprint([run_key, str(part), contents or part.inputs["fingerprint"]])
