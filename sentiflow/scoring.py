"""Corpus + model package -> predictions Parquet.

One pass over the parts of the corpus, each a task (:mod:`scored_parts` is what it does). A finished
part leaves a receipt that names the model, the settings and the rows: a scoring that was killed
goes on with what has none, and one whose corpus has grown with what is new. Ray Data's own
checkpoints know neither model nor settings, and with them a rerun may keep what another has scored.
The parts are plain tasks of Ray: no data pass from one to another, and Ray Data waits a quarter of
a part's time before it starts the next.
"""

import functools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sentiflow import (
    cluster,
    corpus,
    drift,
    input_files,
    manifest,
    model_sources,
    schema,
    storage,
    table_files,
)
from sentiflow.corpus import Corpus, CsvPlan
from sentiflow.drift import Profile
from sentiflow.errors import JobError, UserError
from sentiflow.manifest import Claim, State
from sentiflow.passes import Passes
from sentiflow.progress import say
from sentiflow.sections import Config, ScoreSettings
from sentiflow.table_files import TableForm, TablePlan
from sentiflow.tracking import Recorder
from sentiflow.uris import as_typed, join

STAGE = "score"
OWNS = ("predictions", "rejected", "failed", "_work")

PREPARED = "prepared"

_DECISIVE = {"keep_columns", "rows_per_file", "format", "text_column", "precision", "keep_raw"}
_OF_PARTS = ("accepted", "rejected", "failed", "prior_only", "positive")
_COUNTS = ("rows_read", *_OF_PARTS)
_CORPUS = "_work/corpus.json"


def claim(config: Config) -> Claim:
    """Say what scoring would make; files of a corpus are read only if they changed.

    Raises:
        UserError: The corpus or the model is not there.
    """
    settings = config.score
    decisive = settings.model_dump(include=_DECISIVE)
    assert settings.model_uri, "settings are resolved"
    model = model_sources.describe(settings.model_uri, tracking=config.tracking.uri)
    inputs = {"model": model}
    if settings.corpus == (PREPARED,):
        record = manifest.require(
            settings.prepared_uri, stage="prepare", setting="score.prepared_uri"
        )
        inputs["corpus"] = manifest.reference(settings.prepared_uri, record)
    else:
        uris = storage.expand(list(settings.corpus))
        inputs["corpus"] = _describe_files(settings.output_uri, uris)
    decisive["corpus"] = PREPARED if settings.corpus == (PREPARED,) else "files"
    return Claim(STAGE, settings.output_uri, decisive, inputs, owns=OWNS, grows="corpus")


def run(
    config: Config, recorder: Recorder, *, resources: cluster.Resources, overwrite: bool
) -> dict[str, Any]:
    """Score a corpus, or go on where an earlier run was killed, or the corpus ended then.

    Returns:
        The manifest.

    Raises:
        UserError: Corpus or model cannot be used, or the directory belongs to other settings.
        JobError: A part failed, or too many rows; what is finished is kept for the next run.
    """
    began = time.monotonic()
    settings = config.score
    target = claim(config)
    found = manifest.look(target).state
    if found is State.COMPLETE:  # another driver was quicker
        return manifest.require(target.uri, stage=STAGE, setting="score.output_uri")
    earlier = _Earlier.read(target) if found is State.GROWN else _Earlier()
    plan = _plan(settings, target, earlier)
    _check_columns(plan.columns, settings.keep_columns)
    reference = _read_reference(target)
    precision = _choose_precision(settings, resources)
    earlier.check_fits(plan, precision)
    key = manifest.fingerprint([key_of(target), precision])
    goes_on = manifest.begin(target, overwrite=overwrite, resumable=True, key=key)
    if goes_on and found is State.UNFINISHED and not _knows_corpus(target):
        _refuse_another_corpus(target, overwrite)
        goes_on = manifest.begin(target, overwrite=overwrite, key=key)
    _note_corpus(target)
    passes = Passes(STAGE, target.uri, goes_on=goes_on, engine=cluster.map_tasks)
    try:
        source = _open(plan, settings, earlier, passes)
        model_uri = model_sources.bring(
            target.inputs["model"],
            to=join(target.uri, "_work/model"),
            tracking=config.tracking.uri,
        )
    except UserError:
        if not goes_on:
            manifest.abandon(target)
        raise
    num_rows = earlier.counts["rows_read"] + source.num_rows
    work = functools.partial(
        score_part,
        source=source,
        settings=settings,
        precision=precision,
        model_uri=model_uri,
        model_fingerprint=target.inputs["model"]["fingerprint"],
        first_part=earlier.num_parts,
        max_failed=int(settings.max_failed_fraction * num_rows),
        run_key=key,
    )
    results = passes.run(
        STAGE,
        work,
        [(part.num_rows, 0) for part in source.parts],
        unit="rows",
        keys=_keys(source, key),
        num_gpus=resources.gpus_per_score_task(),
        concurrency=None if settings.num_workers == "auto" else int(settings.num_workers),
    )
    counts = _count(source, earlier, results)
    _check_failed(counts, settings)
    profile = sum((Profile.from_json(item["profile"]) for item in results), earlier.profile)
    differences = drift.compare(profile, reference) if reference else {}
    seconds = time.monotonic() - began
    num_scored = sum(results[number]["accepted"] for number in passes.fresh)
    _report(counts, differences, seconds, recorder, num_scored=num_scored)
    files = [item for result in results for item in result["files"]]
    return manifest.publish(
        replace(target, inputs=target.inputs | {"corpus": earlier.join_files(source)}),
        counts=counts,
        files=[*earlier.files, *files],
        seconds=seconds,
        num_parts=earlier.num_parts + len(source.parts),
        precision=precision,
        has_row_ids=source.form.has_row_ids,
        kept_types=_kept_types(source.form),
        profile=vars(profile),
        drift=differences,
        peak_memory_bytes=max((item["peak_memory_bytes"] for item in results), default=0),
    )


@dataclass(frozen=True)
class _Earlier:
    """What was scored before the corpus has grown; nothing, where it has not."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))
    num_parts: int = 0
    input_files: tuple[dict[str, Any], ...] = ()
    files: tuple[dict[str, Any], ...] = ()
    profile: Profile = field(default_factory=Profile)
    precision: str = ""
    has_row_ids: bool = False
    kept_types: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, target: Claim) -> "_Earlier":
        """Read it from the manifest."""
        record = manifest.require(target.uri, stage=STAGE, setting="score.output_uri")
        return cls(
            counts=record["counts"],
            num_parts=record["num_parts"],
            input_files=tuple(record["inputs"]["corpus"]["files"]),
            files=tuple(record["files"]),
            profile=Profile.from_json(record["profile"]),
            precision=record["precision"],
            has_row_ids=record["has_row_ids"],
            kept_types=record["kept_types"],
        )

    def check_fits(self, plan: CsvPlan | TablePlan | Corpus, precision: str) -> None:
        """Make sure that what is new can stand beside what is there.

        Raises:
            UserError: It cannot.
        """
        if not self.num_parts:
            return
        if precision != self.precision:
            raise UserError(
                f"what is there was scored in {self.precision}, not {precision}",
                hint=f"set score.precision={self.precision}",
            )
        if not isinstance(plan, TablePlan):
            return
        if self.has_row_ids and not plan.form.has_row_ids:
            raise UserError(
                plan.notes[0].partition(":")[0] if plan.notes else f"{plan.uris[0]} has no row_id",
                hint="number the new rows on, or score all into another directory",
            )
        types = _kept_types(plan.form)
        for name in self.kept_types.keys() & types.keys():
            if types[name] != self.kept_types[name]:
                raise UserError(
                    f"score.keep_columns: {name} is {types[name]} in the new files, "
                    f"{self.kept_types[name]} in what is there",
                    hint="make it one type, or score all into another directory",
                )

    def join_files(self, source: Corpus) -> dict[str, Any]:
        """Describe the whole corpus as an input."""
        if not self.input_files:
            return source.files
        return input_files.join([*self.input_files, *source.files["files"]])


def key_of(target: Claim) -> str:
    """Name what must be equal for an unfinished scoring to be continued; the corpus may grow."""
    return manifest.fingerprint([target.settings, target.inputs["model"]["fingerprint"]])


def _kept_types(form: TableForm) -> dict[str, str]:
    return {name: str(kind) for name, kind in form.kept}


def _choose_precision(settings: ScoreSettings, resources: cluster.Resources) -> str:
    if settings.precision == "auto":
        return "bf16" if resources.num_gpus else "fp32"
    return settings.precision


def _read_reference(target: Claim) -> Profile | None:
    """Read what the model tells of the texts that it was made for."""
    known = target.inputs["model"]["reference"]
    try:
        return Profile.from_json(known) if known else None
    except (TypeError, ValueError):
        say(STAGE, "the model tells of its training data in a form unknown here: not compared")
        return None


def _describe_files(output_uri: str, uris: Sequence[str]) -> dict[str, Any]:
    """Describe the files of a corpus, without reading those that were read before, or none yet."""
    record = manifest.read(output_uri)
    known = record["inputs"].get("corpus", {}) if record else {}
    if "files" not in known:
        return input_files.as_found(uris)
    return input_files.add(known, uris) or input_files.describe(uris, known=known)


def _sequence(target: Claim) -> list[str]:
    """Name what a corpus is made of, in its order, by what is known without reading it."""
    described = target.inputs["corpus"].get("files")
    if described is None:
        return [target.inputs["corpus"]["fingerprint"]]
    return [
        manifest.fingerprint([item["uri"], item["bytes"], item["modified_ns"]])
        for item in described
    ]


def _note_corpus(target: Claim) -> None:
    """Keep what the corpus is made of for the run that may have to go on."""
    content = json.dumps(_sequence(target)).encode()
    storage.write_bytes(join(target.uri, _CORPUS), content)


def _knows_corpus(target: Claim) -> bool:
    """Say whether an unfinished run was of this corpus, the beginning of it, or more of it."""
    if not storage.exists(join(target.uri, _CORPUS)):
        return True
    before, now = json.loads(storage.read_bytes(join(target.uri, _CORPUS))), _sequence(target)
    common = min(len(before), len(now))
    return before[:common] == now[:common]


def _refuse_another_corpus(target: Claim, overwrite: bool) -> None:
    if not overwrite:
        raise UserError(
            f"{as_typed(target.uri)} holds an unfinished run of another corpus",
            hint="choose another output_uri, or replace it with --overwrite",
        )


def _plan(
    settings: ScoreSettings, target: Claim, earlier: _Earlier
) -> CsvPlan | TablePlan | Corpus:
    """Look at what is to be scored, before anything is written.

    Raises:
        UserError: It is of mixed or unknown kinds, or cannot be read.
    """
    if settings.corpus == (PREPARED,):
        return corpus.open_prepared(
            settings.prepared_uri,
            rows_per_part=settings.rows_per_file,
            setting="score.prepared_uri",
            keep_columns=settings.keep_columns,
        )
    uris = [item["uri"] for item in target.inputs["corpus"]["files"]]
    old, new = uris[: len(earlier.input_files)], uris[len(earlier.input_files) :]
    are_parquet = {uri.lower().endswith(".parquet") for uri in uris}
    if len(are_parquet) > 1:
        raise UserError(
            f"score.corpus: {', '.join(settings.corpus)} are of two kinds",
            hint="name CSV files or .parquet files",
        )
    if are_parquet == {True}:
        return table_files.plan(
            new,
            text_column=settings.text_column,
            keep_columns=settings.keep_columns,
            earlier=old,
        )
    assert settings.format is not None, "settings are resolved"
    return corpus.plan_csv(
        new,
        form=settings.format,
        rows_per_part=settings.rows_per_file,
        unpack_to=join(settings.output_uri, "_work"),
    )


def _open(
    plan: CsvPlan | TablePlan | Corpus,
    settings: ScoreSettings,
    earlier: _Earlier,
    passes: Passes,
) -> Corpus:
    """Cut what was planned into parts.

    Raises:
        UserError: A file holds nothing, or is damaged.
    """
    if isinstance(plan, Corpus):
        return plan
    uris = [file.uri for file in plan.files] if isinstance(plan, CsvPlan) else plan.uris
    key, here = input_files.as_found(uris)["fingerprint"], corpus.is_brief(uris)
    first_row = earlier.counts["rows_read"]
    if isinstance(plan, CsvPlan):
        map_parts = corpus.map_here if here else passes.map_parts("cut", key=key)
        return corpus.cut_csv(plan, map_parts=map_parts, first_row=first_row)
    for note in plan.notes:
        say(STAGE, note)
    return corpus.open_tables(
        plan,
        rows_per_part=settings.rows_per_file,
        map_parts=corpus.map_here if here else passes.map_parts("hash", key=key),
        first_row=first_row,
    )


def score_part(part: int, **job: Any) -> dict[str, Any]:
    """Do the work of a task, see :func:`scored_parts.score`; torch is imported there alone."""
    from sentiflow import scored_parts

    return scored_parts.score(part, **job)


def _keys(source: Corpus, run_key: str) -> list[str]:
    """Name each part by the run, its rows and the content of its files."""
    contents = {item["uri"]: item["tree_sha256"] for item in source.files.get("files", ())}
    return [
        manifest.fingerprint(
            [
                run_key,
                str(part),
                str(source.form),
                [contents.get(uri, source.files["fingerprint"]) for uri in part.sources],
            ]
        )
        for part in source.parts
    ]


def _check_columns(columns: Sequence[str], keep_columns: Sequence[str]) -> None:
    """Make sure that predictions can have the columns; DuckDB and Spark know no upper case."""
    ours = set(schema.PREDICTIONS.names)
    for name in keep_columns:
        if name.lower() in ours and name not in schema.TWEETS.names:
            raise UserError(
                f"score.keep_columns: predictions have a column {name.lower()} of their own",
                hint="leave it out, or rename it in the corpus",
            )
    missing = sorted(set(keep_columns) - set(columns))
    if missing:
        raise UserError(
            f"score.keep_columns: the corpus has no column {', '.join(missing)}",
            hint=f"it has {', '.join(columns)}",
        )


def _count(source: Corpus, earlier: _Earlier, results: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Count the rows of the whole corpus by what became of them.

    Raises:
        JobError: Not all came out of the parts.
    """
    new = {name: sum(result[name] for result in results) for name in _OF_PARTS}
    if source.num_rows != new["accepted"] + new["rejected"] + new["failed"]:
        raise JobError(f"not all of the {source.num_rows:,} rows came out of the parts: {new}")
    new["rows_read"] = source.num_rows
    return {name: count + new[name] for name, count in earlier.counts.items()}


def _check_failed(counts: dict[str, int], settings: ScoreSettings) -> None:
    asked = counts["accepted"] + counts["failed"]
    if counts["failed"] > settings.max_failed_fraction * asked:
        raise JobError(
            f"the model fails for {counts['failed']:,} of {asked:,} rows, see failed/ in "
            f"{as_typed(settings.output_uri)}; a larger score.max_failed_fraction leaves them out"
        )


def _report(
    counts: dict[str, int],
    differences: dict[str, Any],
    seconds: float,
    recorder: Recorder,
    *,
    num_scored: int,
) -> None:
    rate = num_scored / seconds
    share = counts["positive"] / counts["accepted"] if counts["accepted"] else None
    positive = "" if share is None else f"{share:.1%} positive, "
    failed = f"{counts['failed']:,} failed, " if counts["failed"] else ""
    before = counts["accepted"] - num_scored
    also = f"{before:,} before; of all " if before else ""
    say(
        STAGE,
        f"{num_scored:,} rows scored, {also}{positive}{failed}"
        f"{counts['prior_only']:,} without a known word ({seconds:.1f} s, {rate:,.0f} rows/s)",
    )
    for line in differences.get("warnings", ()):
        say(STAGE, f"unlike the training data: {line}")
    figures: dict[str, float | None] = {**counts, "rows_per_second": rate}
    figures["positive_fraction"] = share
    psi = {name: value for name, value in differences.items() if name.endswith("_psi")}
    figures |= {
        f"drift/{name}": value for name, value in (psi | differences.get("corpus", {})).items()
    }
    recorder.log_metrics({f"score/{name}": value for name, value in figures.items()})
