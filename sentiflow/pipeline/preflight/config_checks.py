"""Config -> problems with its files, models and directories, before anything starts.

Every job checks its config before it starts Ray or a run in MLflow. ``sentiflow doctor``,
``config validate`` and ``--dry-run`` check it, too. Nothing is written. Only the first
megabyte of a few files of each input is read, so a wrong column, label or delimiter is found in a
moment.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sentiflow.config.class_names import check_chosen
from sentiflow.config.sections import Config
from sentiflow.config.text_units import Unit
from sentiflow.data import column_checks, input_files, manifest, prepared_data, schema
from sentiflow.data.answers import TEACHERS, read_answers
from sentiflow.data.corrections import CORRECTIONS, read_corrections
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.output_status import find_status, read_result
from sentiflow.data.row_checks import RowRules
from sentiflow.errors import JobError, UserError
from sentiflow.pipeline.preflight import previews
from sentiflow.pipeline.preflight.check import CheckResult, attempt, find_problem
from sentiflow.progress import say
from sentiflow.scoring import given_predictions
from sentiflow.storage import filesystem
from sentiflow.storage.uris import is_local
from sentiflow.tracking import model_sources, refits
from sentiflow.training import initial_model
from sentiflow.words import word_vectors

STAGES = ("prepare", "train", "score", "evaluate")
"""The stages of a whole run, in order."""


def require(
    config: Config,
    verbs: Sequence[str],
    *,
    needs_input: bool = True,
    new_files: Sequence[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Check the inputs and outputs of some stages; log warnings.

    Args:
        config: The experiment.
        verbs: The stages that will run, in order.
        needs_input: Whether missing input is an error. If not, it is a warning: the job may run on
            another machine, which has the input.
        new_files: The files that a scoring adds to its result; None: all files of the corpus.
        overwrite: Whether existing results may be replaced.

    Raises:
        UserError: A stage would fail; the message has a line for each reason.
        JobError: A server does not answer.
    """
    findings = find(config, verbs, new_files=new_files, overwrite=overwrite)
    errors = [finding for finding in findings if finding.level == "error"]
    if not needs_input:
        errors = [error for error in errors if error.check != "input"]
    if errors:
        kind = UserError if any(error.is_mistake for error in errors) else JobError
        raise kind("\n".join(error.what for error in errors))
    for finding in findings:
        say(verbs[0], finding.what)


def choose_stages(config: Config) -> tuple[str, ...]:
    """List the stages that a config describes, for commands that run none of them."""
    if config.prepare.csv:
        return STAGES
    prepared = config.prepare.output_uri
    trains = config.train.prepared_uri != prepared
    scores = not config.score.reads_prepared or config.score.prepared_uri != prepared
    evaluates = scores or config.evaluate.scored_uri != config.score.output_uri
    described = {"train": trains, "score": scores, "evaluate": evaluates}
    return tuple(name for name, is_described in described.items() if is_described)


def find(
    config: Config,
    verbs: Sequence[str],
    *,
    new_files: Sequence[str] | None = None,
    overwrite: bool = False,
) -> list[CheckResult]:
    """Find problems that would make some stages fail, and warnings.

    Args:
        config: The experiment.
        verbs: The stages that will run, in order.
        new_files: The files that a scoring adds to its result; None: all files of the corpus.
        overwrite: Whether existing results may be replaced.
    """
    findings: list[CheckResult] = []
    for verb in verbs:
        if verb == "prepare":
            findings += _check_preparation(config)
        elif verb in ("train", "sweep"):
            findings += _check_training(config, verbs)
        elif verb == "score":
            findings += _check_scoring(config, verbs, new_files=new_files)
    findings += check_outputs(config, verbs, overwrite=overwrite)
    return findings


def _check_preparation(config: Config) -> Iterator[CheckResult]:
    """Check the settings of a preparation, all files that it reads, and the word vectors."""
    settings = config.prepare
    yield from find_problem(
        "input",
        word_vectors.locate,
        settings.vocabulary.vectors,
        setting="prepare.vocabulary.vectors",
    )
    yield from find_problem("columns", column_checks.check_kept_names, settings.keep_columns)
    if config.format.classes:
        yield from find_problem(
            "labels", check_chosen, config.train.classes, config.format.learnable
        )
    yield from _check_corrections(config)
    if settings.unlabelled.files:
        yield from previews.check(
            "prepare.unlabelled.files",
            settings.unlabelled.files,
            settings.unlabelled.resolved_format,
            rules=RowRules.of_texts(settings.unlabelled.resolved_format),
            max_rejected_fraction=settings.max_rejected_fraction,
        )
    yield from _check_labelled(config, "csv", settings.csv)
    if settings.validation:
        yield from _check_labelled(config, "validation", settings.validation)
    if settings.test:
        yield from _check_labelled(config, "test", settings.test)


def _check_labelled(config: Config, name: str, files: Sequence[str]) -> Iterator[CheckResult]:
    """Check labelled files of a preparation.

    With corrections a wrong label is only a warning, as they may correct it.
    """
    settings = config.prepare
    for result in previews.check(
        f"prepare.{name}",
        files,
        config.format,
        lambda plan, source: column_checks.check_preparation(plan, settings, source=source),
        rules=RowRules.of_labelled(config.format, settings),
        max_rejected_fraction=settings.max_rejected_fraction,
    ):
        if result.check == "labels" and settings.corrections:
            yield replace(result, level="warning")
        else:
            yield result


def _check_corrections(config: Config) -> Iterator[CheckResult]:
    """Check the files of ``prepare.corrections``, and every label in them."""
    expand = functools.partial(input_files.expand, setting=CORRECTIONS)
    uris, problems = attempt("input", expand, config.prepare.corrections)
    yield from problems
    if uris:
        yield from find_problem("labels", read_corrections, uris, config.format)


def _check_training(config: Config, verbs: Sequence[str]) -> Iterator[CheckResult]:
    """Check the prepared data, the model to start from, and the run to repeat."""
    settings = config.train
    if settings.refit is not None:  # checks its model and its prepared data, too
        yield from find_problem("model", refits.apply, config)
        return
    yield from find_problem("input", require_prepared, config, verbs, "train")
    if settings.init_from is not None:
        unit = config.prepare.unit if "prepare" in verbs else None
        yield from find_problem("model", _check_initial, config, unit, setting="train.init_from")
    yield from find_problem("model", _check_teachers, config, setting=TEACHERS)


def _check_initial(config: Config, unit: Unit | None) -> None:
    """Check that the training can start from the model of ``train.init_from``.

    Args:
        config: The settings.
        unit: What the network reads; None if data that are prepared already decide it.
    """
    settings = config.train
    initial = model_sources.describe(
        settings.init_from or "", tracking=config.tracking.uri, setting="train.init_from"
    )
    initial_model.check(
        initial,
        settings.model,
        settings.classes or config.format.learnable,
        unit=unit,
    )


def _check_teachers(config: Config) -> None:
    """Check the teachers of a distillation, and every answer in their files.

    Teachers must know the classes of ``train.classes``. If it is not set: the classes of the
    prepared data. If these do not exist yet: the classes of the format.
    """
    settings = config.train
    classes = settings.classes
    if settings.distill.teachers and classes is None:
        classes = config.format.learnable
        record = read_result(settings.prepared_uri)
        if record is not None and record["stage"] == "prepare":
            classes = prepared_data.find_default_classes(record)
    for teacher in model_sources.find_teachers(config, classes):
        if isinstance(teacher, tuple):  # files of answers
            read_answers(teacher, classes or ())


def _check_scoring(
    config: Config, verbs: Sequence[str], *, new_files: Sequence[str] | None
) -> Iterator[CheckResult]:
    """Check the model, the corpus and the columns to keep.

    Args:
        config: The experiment.
        verbs: The stages that will run.
        new_files: The files that are added to a result; None: all files.
    """
    settings = config.score
    if settings.predictions:
        yield from find_problem("predictions", _check_given, config, verbs)
    models = () if settings.predictions else settings.model_uris
    if "train" in verbs:  # the model of this training does not exist yet
        models = tuple(uri for uri in models if not config.is_trained_here(uri))
    if models:
        name = "score.model_uri"
        describe = functools.partial(
            model_sources.describe, tracking=config.tracking.uri, setting=name
        )
        one_or_all = models[0] if len(models) == 1 else models
        yield from find_problem("model", describe, one_or_all, setting=name)
    if settings.reads_prepared:
        yield from find_problem("input", require_prepared, config, verbs, "score")
        yield from find_problem("columns", _check_prepared_columns, config, verbs)
        return
    form = settings.format or config.format
    yield from previews.check(
        "score.corpus",
        settings.corpus,
        form,
        lambda plan, source: column_checks.check_scored(plan, settings.keep_columns),
        rules=RowRules.of_texts(form, keep=settings.keep_columns),
        text_column=settings.text_column,
        uris=new_files,
    )


def _check_given(config: Config, verbs: Sequence[str]) -> None:
    """Check every prediction of another program, unless the corpus is prepared later."""
    settings = config.score
    prepared = None
    if settings.reads_prepared:
        if _will_be_prepared(config, verbs, settings.prepared_uri):
            return
        prepared = manifest.require(
            settings.prepared_uri, stage="prepare", setting="score.prepared_uri"
        )
    earlier = read_result(settings.output_uri)
    given_predictions.read(settings, given_predictions.describe(config, prepared, earlier))


def _check_prepared_columns(config: Config, verbs: Sequence[str]) -> None:
    """Check that prepared tweets have, or will have, the columns that scoring keeps."""
    score = config.score
    kept = config.prepare.keep_columns
    if not _will_be_prepared(config, verbs, score.prepared_uri):
        record = manifest.read(score.prepared_uri)
        if record is None:
            return
        kept = record["settings"].get("keep_columns", ())
    column_checks.check_columns((*schema.TWEETS.names, *kept), score.keep_columns, is_prepared=True)


def require_prepared(config: Config, verbs: Sequence[str], section: str) -> None:
    """Check that the prepared data of a stage exist, unless an earlier stage will make them.

    Args:
        config: The experiment.
        verbs: The stages that will run.
        section: The section that names the data: ``train`` or ``score``.

    Raises:
        UserError: The data do not exist.
    """
    uri = getattr(config, section).prepared_uri
    is_read = section == "train" or config.score.reads_prepared
    if is_read and not _will_be_prepared(config, verbs, uri):
        manifest.require(uri, stage="prepare", setting=f"{section}.prepared_uri")


def _will_be_prepared(config: Config, verbs: Sequence[str], uri: str) -> bool:
    """Say whether one of the stages will make the prepared data at a location."""
    return "prepare" in verbs and uri == config.prepare.output_uri


def check_outputs(
    config: Config, verbs: Sequence[str], *, overwrite: bool = False
) -> Iterator[CheckResult]:
    """Check that local directories can be written, and that none holds other files.

    A result in the format of an earlier version is an error, unless it may be replaced.
    """
    for uri in find_outputs(config, verbs):
        if is_local(uri):
            yield from find_problem("output", filesystem.check_writable, uri)
    for verb in verbs:
        uri = getattr(config, verb).output_uri
        spec = OutputSpec(stage=verb, uri=uri, settings={}, inputs={})
        yield from find_problem("output", _check_result, spec, overwrite)


def _check_result(spec: OutputSpec, overwrite: bool) -> None:
    """Check that a stage may write to its output, whatever its settings are.

    Raises:
        UserError: It holds other files, or a result in a format that this version cannot read.
    """
    status = find_status(spec)
    if status.earlier_format and not overwrite:
        raise status.to_error(spec.uri)


def find_outputs(config: Config, verbs: Sequence[str]) -> list[str]:
    """List the directory of the whole run, and the directories of stages outside it."""
    uris = [getattr(config, verb).output_uri for verb in verbs]
    elsewhere = [uri for uri in uris if not uri.startswith(f"{config.output_uri}/")]
    return list(dict.fromkeys([config.output_uri, *elsewhere]))
