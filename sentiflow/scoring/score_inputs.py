"""Score settings -> the model and the corpus: described; the corpus planned and cut into parts."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from sentiflow.config.class_names import BINARY, SENTIMENT140, UNLABELLED
from sentiflow.config.sections import Config, ScoreSettings
from sentiflow.data import corpus, input_files, manifest, table_plans
from sentiflow.data.manifest import MODEL
from sentiflow.data.manifest_types import Input, InputFile, ModelInput
from sentiflow.data.outputs import Output, OutputSpec
from sentiflow.data.parts import Part
from sentiflow.storage.uris import display_uri, join, split_member
from sentiflow.tracking import model_sources, refits

PREPARED = "prepared"

_VERSION = re.compile(r"(models:/[^/@]+/)(\d+)")
_ALIAS = re.compile(r"models:/[^/@]+(@.+|/latest)")


def fetch_model(config: Config, output: Output) -> str:
    """Return a directory of the model that all nodes can read.

    A model in MLflow is downloaded for the time of the scoring. An average of several is made one
    package, which stays in the output: what comes later needs its members no more.

    Raises:
        UserError: The model is damaged.
        JobError: MLflow cannot be reached.
    """
    model, tracking = output.spec.inputs["model"], config.tracking.uri
    work = join(output.uri, "downloaded")
    if isinstance(config.score.model_uri, str):
        return model_sources.download(model, to=work, tracking=tracking)
    if output.previous:
        return join(output.spec.uri, MODEL)
    return model_sources.gather(model, to=join(output.uri, MODEL), work=work, tracking=tracking)


def name_model(spec: OutputSpec) -> str:
    """Name the model, or all of an average, for a line."""
    model: ModelInput = spec.inputs["model"]
    uris = [display_uri(each["uri"]) for each in model.get("members", [model])]
    return uris[0] if len(uris) == 1 else f"the average of {', '.join(uris)}"


def follow(settings: ScoreSettings, model: ModelInput) -> str:
    """Return the beginning of the URIs of all versions of a model, if an alias names it."""
    version = _VERSION.fullmatch(model["uri"])
    is_alias = isinstance(settings.model_uri, str) and _ALIAS.fullmatch(settings.model_uri)
    return version[1] if version and is_alias else ""


def name_version(model: ModelInput, models: Mapping[str, ModelInput]) -> str:
    """Name a model in predictions, of which other models have made a part.

    By the name that it has there, its number in the registry, or its fingerprint: a registry that
    was made anew gives a number again.
    """
    known = {each["fingerprint"]: name for name, each in models.items()}
    version = _VERSION.fullmatch(model["uri"])
    number = version[2] if version and version[2] not in models else model["fingerprint"]
    return known.get(model["fingerprint"], number)


def find_copies(files: Sequence[InputFile]) -> dict[str, tuple[InputFile, str]]:
    """Find files with the content of one before them; only new ones of equal size are read.

    Returns:
        By the URI of a copy its description, and the URI of the first file with this content.
    """
    kinds = [(item["bytes"], split_member(item["uri"])[1]) for item in files]
    counts, first, copies = Counter(kinds), dict[str, str](), {}
    for item, kind in zip(files, kinds, strict=True):
        if counts[kind] > 1:
            read = item if item["tree_sha256"] else input_files.describe([item["uri"]])["files"][0]
            original = first.setdefault(manifest.identify_file(read), item["uri"])
            if original != item["uri"]:
                copies[item["uri"]] = read, original
    return copies


def find_learned_files(corpus: Input, model: ModelInput) -> list[str]:
    """Name files of the corpus whose rows the model was trained on, where these are not marked.

    Prepared data mark them by their splits, but a refit may have learned all.
    """
    refit = model.get("refit")
    is_of_refit = refit and refit["prepared"]["fingerprint"] == corpus["fingerprint"]
    if refit and is_of_refit and refits.has_seen_test(refit):
        return [display_uri(corpus["uri"])]
    learned = set()
    for member in model.get("members") or [model]:
        training = manifest.read_input(member, "training")
        prepared = manifest.read_input(training["inputs"], "prepared") if training else None
        learned |= manifest.identify_learned_files(prepared) if prepared else set()
    files = [item for item in corpus.get("files", ()) if manifest.identify_file(item) in learned]
    return [display_uri(item["uri"]) for item in files]


def describe_corpus(settings: ScoreSettings) -> Input:
    """Describe the corpus as an input; files that were not scored before are not read.

    If all files of a complete result are gone, they are described as they were.

    Raises:
        UserError: It does not exist.
    """
    if settings.corpus == (PREPARED,):
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
) -> tuple[corpus.Plan | corpus.Corpus, tuple[str, ...]]:
    """Inspect the corpus before anything is written.

    Args:
        settings: The settings of the stage.
        files: Those of the corpus, as :func:`describe_corpus` does, without copies.
        classes: Those of the model, which files without names of their own are assumed to have, and
            neutral beside negative and positive.
        num_previous: Number of files at its beginning that were scored before.
        unpack_to: Directory for the content of compressed files.

    Returns:
        The plan, and the names of its classes: labels are positions among them.

    Raises:
        UserError: It mixes CSV and Parquet, or cannot be read.
    """
    if settings.corpus == (PREPARED,):
        uri, setting = settings.prepared_uri, "score.prepared_uri"
        record = manifest.require(uri, stage="prepare", setting=setting)
        prepared = corpus.open_prepared(
            uri, record, rows_per_part=settings.rows_per_file, keep_columns=settings.keep_columns
        )
        return prepared, manifest.find_classes(record)
    form = settings.format
    assert form is not None, "settings are resolved"
    assumed = SENTIMENT140 if classes == BINARY else classes
    if corpus.are_tables([item["uri"] for item in files], setting="score.corpus"):
        labels = tuple(dict.fromkeys((*assumed, *(form.classes or ()))))
        tables = table_plans.plan_scoring(
            files[num_previous:],
            text_column=settings.text_column,
            keep_columns=settings.keep_columns,
            classes=labels,
            settings=form,
            earlier=[item["uri"] for item in files[:num_previous]],
        )
        return tables, labels
    labels = form.classes or assumed
    if form.classes is None:  # the written values are the names
        values = {UNLABELLED: ("",), **{name: (name,) for name in labels}}
        form = form.model_copy(update={"labels": values})
    csvs = corpus.plan_csv(
        files[num_previous:],
        settings=form,
        rows_per_part=settings.rows_per_file,
        unpack_to=unpack_to,
        needs_all=False,
    )
    return csvs, labels


def name_part(part: Part, run_key: str) -> str:
    """Identify a part by the run, its rows and the content of its files."""
    contents = [manifest.identify_file(item) for item in part.inputs.get("files", [])]
    return manifest.fingerprint([run_key, str(part), contents or part.inputs["fingerprint"]])
