"""Corpus + model package -> predictions Parquet.

One pass over the parts of the corpus, each a task (:mod:`scored_parts` is what it does). A finished
part leaves a receipt that names the model, the settings and the rows: a scoring that was killed
goes on with what has none, and one whose corpus has grown with what is new. Ray Data's own
checkpoints know neither model nor settings, and with them a rerun may keep what another has scored.
The parts are plain tasks of Ray: no data pass from one to another, and between two of them pass 4
ms, where Ray Data takes 40.
"""

import functools
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sentiflow.cluster import part_tasks
from sentiflow.cluster.map_stages import Engine, Passes
from sentiflow.cluster.resources import Resources, as_limit
from sentiflow.config.sections import Config, ScoreSettings
from sentiflow.data import manifest
from sentiflow.data.corpus import Corpus
from sentiflow.data.manifest import WORK, OutputSpec, State
from sentiflow.errors import JobError, UserError
from sentiflow.models import drift
from sentiflow.models.drift import Profile
from sentiflow.progress import say
from sentiflow.scoring import scored_corpus
from sentiflow.scoring.incremental import OF_PARTS, Earlier, kept_types
from sentiflow.scoring.scored_corpus import PREPARED
from sentiflow.storage import filesystem
from sentiflow.storage.uris import as_typed, join
from sentiflow.tracking import model_sources
from sentiflow.tracking.recording import Recorder

STAGE = "score"
OWNS = ("predictions", "rejected", "failed", WORK)

_BEGUN = f"{WORK}/begun.json"
"""In what precision an unfinished scoring was begun."""
_NOT_DECISIVE = {
    *("corpus", "prepared_uri", "model_uri", "output_uri"),
    *("batch_size", "num_workers", "gpus_per_worker", "max_failed_fraction"),
}


def describe_output(config: Config) -> OutputSpec:
    """Say what scoring would make; files of a corpus are read only if they changed.

    Raises:
        UserError: The corpus or the model is not there.
    """
    settings = config.score
    decisive = settings.model_dump(exclude=_NOT_DECISIVE)
    assert settings.model_uri, "settings are resolved"
    model = model_sources.describe(settings.model_uri, tracking=config.tracking.uri)
    inputs = {"model": model, "corpus": scored_corpus.describe(settings)}
    decisive["corpus"] = PREPARED if settings.corpus == (PREPARED,) else "files"
    return OutputSpec(STAGE, settings.output_uri, decisive, inputs, owns=OWNS, grows="corpus")


def run(
    config: Config, recorder: Recorder, *, resources: Resources, overwrite: bool
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
    target = describe_output(config)
    found = manifest.find_status(target).state
    if found is State.COMPLETE:
        say(STAGE, f"complete: {as_typed(target.uri)}, by another run")
        return manifest.require(target.uri, stage=STAGE, setting="score.output_uri")
    earlier = Earlier.read(target.uri) if found is State.EXTENDED else Earlier()
    plan = scored_corpus.plan(
        settings, target.inputs["corpus"], num_earlier=len(earlier.input_files)
    )
    reference = _read_reference(target)
    precision = _choose_precision(target, earlier, settings, resources)
    earlier.check_fits(plan, precision)
    key = manifest.fingerprint([key_of(target), precision])
    goes_on = _begin(target, key, found, overwrite)
    _note_precision(target, precision)
    num_gpus = resources.gpus_per_score_task(settings.gpus_per_worker)
    passes = Passes(STAGE, target.uri, goes_on=goes_on, engine=_choose_engine(config))
    source, model_uri = _open(config, target, plan, earlier, passes)
    num_rows = earlier.counts["rows_read"] + source.num_rows
    advice = resources.advise_parts(
        len(source.parts), num_rows=source.num_rows, setting="score.rows_per_file"
    )
    if advice:
        say(STAGE, advice)
    work = functools.partial(
        score_part,
        source=source,
        settings=settings,
        precision=precision,
        on_gpu=num_gpus > 0,
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
        keys=scored_corpus.name_parts(source, key),
        num_gpus=num_gpus,
    )
    counts = _count(source, earlier, results)
    reasons = sum((Counter(result["rejected_by_reason"]) for result in results), Counter())
    _check_accepted(target, counts, reasons)
    _check_failed(counts, settings)
    profile = sum((Profile.from_json(item["profile"]) for item in results), earlier.profile)
    differences = drift.compare(profile, reference) if reference else {}
    seconds = time.monotonic() - began
    num_scored = sum(results[number]["accepted"] for number in passes.fresh)
    _report(counts, reasons, differences, seconds, recorder, num_scored=num_scored)
    return _publish(
        target, source, earlier, results,
        counts=counts, seconds=seconds, precision=precision, drift=differences,
        profile=vars(profile),
    )  # fmt: skip


def _open(
    config: Config,
    target: OutputSpec,
    plan: scored_corpus.Plan,
    earlier: Earlier,
    passes: Passes,
) -> tuple[Corpus, str]:
    """Cut the corpus, and bring the model to where all nodes find it; returns both.

    Raises:
        UserError: A file holds nothing, or the model is damaged; then nothing new is left behind.
    """
    try:
        source = scored_corpus.cut(
            plan,
            rows_per_part=config.score.rows_per_file,
            first_row=earlier.counts["rows_read"],
            map_parts=passes.map_parts,
        )
        model_uri = model_sources.download(
            target.inputs["model"],
            to=join(target.uri, f"{WORK}/model"),
            tracking=config.tracking.uri,
        )
    except UserError:
        if not passes.goes_on:
            manifest.roll_back(target)
        raise
    say(STAGE, f"{as_typed(target.inputs['model']['uri'])} on {source.num_rows:,} rows")
    for note in source.notes:
        say(STAGE, note)
    return source, model_uri


def _publish(
    target: OutputSpec,
    source: Corpus,
    earlier: Earlier,
    results: Sequence[dict[str, Any]],
    **details: Any,
) -> dict[str, Any]:
    """Make what was scored complete, together with what was there."""
    return manifest.publish(
        replace(target, inputs=target.inputs | {"corpus": earlier.join_files(source)}),
        files=[*earlier.files, *(item for result in results for item in result["files"])],
        peak_memory_bytes=max((item["peak_memory_bytes"] for item in results), default=0),
        num_parts=earlier.num_parts + len(source.parts),
        has_row_ids=source.form.has_row_ids,
        kept_types=kept_types(source.form),
        **details,
    )


def _begin(target: OutputSpec, key: str, state: State, overwrite: bool) -> bool:
    """Make the directory ready; returns whether there is something to go on with.

    Raises:
        UserError: It holds what an unfinished run of another model, setting or corpus has scored.
    """
    goes_on = manifest.begin(target, overwrite=overwrite, resumable=True, key=key)
    if goes_on and state is State.UNFINISHED and not scored_corpus.is_known(target):
        if not overwrite:
            manifest.check_nothing_done(target, "another corpus")
        goes_on = manifest.begin(target, overwrite=overwrite, key=key)
    scored_corpus.note(target)
    return goes_on


def key_of(target: OutputSpec) -> str:
    """Name what must be equal for an unfinished scoring to be continued; the corpus may grow."""
    return manifest.fingerprint([target.settings, target.inputs["model"]["fingerprint"]])


def _choose_precision(
    target: OutputSpec, earlier: Earlier, settings: ScoreSettings, resources: Resources
) -> str:
    """Choose it by what there is, unless a part of the same was scored before, with what was then.

    A cluster may have lost its GPUs since, or got some.
    """
    if settings.precision != "auto":
        return settings.precision
    if earlier.precision:
        return earlier.precision
    if filesystem.exists(place := join(target.uri, _BEGUN)):
        begun = json.loads(filesystem.read_bytes(place))
        if begun["key"] == key_of(target):
            return str(begun["precision"])
    return "bf16" if resources.uses_gpus(settings.gpus_per_worker) else "fp32"


def _note_precision(target: OutputSpec, precision: str) -> None:
    """Keep it for the run that may have to go on."""
    begun = {"key": key_of(target), "precision": precision}
    filesystem.write_bytes(join(target.uri, _BEGUN), json.dumps(begun).encode())


def _choose_engine(config: Config) -> Engine:
    """Choose what does the work on the parts, and how much of it at the same time."""
    return functools.partial(
        part_tasks.map_tasks,
        max_wait_seconds=60 * config.cluster.max_wait_minutes,
        concurrency=as_limit(config.score.num_workers),
    )


def _read_reference(target: OutputSpec) -> Profile | None:
    """Read what the model tells of the texts that it was made for."""
    known = target.inputs["model"]["reference"]
    try:
        return Profile.from_json(known) if known else None
    except (TypeError, ValueError):
        say(STAGE, "the model tells of its training data in a form unknown here: not compared")
        return None


def score_part(part: int, **job: Any) -> dict[str, Any]:
    """Do the work of a task, see :func:`scored_parts.score`; torch is imported there alone."""
    from sentiflow.scoring import scored_parts

    return scored_parts.score(part, **job)


def _count(source: Corpus, earlier: Earlier, results: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Count the rows of the whole corpus by what became of them.

    Raises:
        JobError: Not all came out of the parts.
    """
    new = {name: sum(result[name] for result in results) for name in OF_PARTS}
    if source.num_rows != new["accepted"] + new["rejected"] + new["failed"]:
        raise JobError(f"not all of the {source.num_rows:,} rows came out of the parts: {new}")
    new["rows_read"] = source.num_rows
    return {name: count + new[name] for name, count in earlier.counts.items()}


def _check_accepted(target: OutputSpec, counts: dict[str, int], reasons: Counter[str]) -> None:
    """Refuse a corpus of which nothing could be scored.

    Raises:
        UserError: Every row was rejected; nothing new is left behind.
    """
    if counts["rejected"] and counts["rejected"] == counts["rows_read"]:
        manifest.roll_back(target)
        raise UserError(
            f"no row was accepted: {counts['rejected']:,} rejected ({_name_reasons(reasons)})",
            hint="mend the corpus, or say by score.format or score.text_column what it is",
        )


def _name_reasons(reasons: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())


def _check_failed(counts: dict[str, int], settings: ScoreSettings) -> None:
    asked = counts["accepted"] + counts["failed"]
    if counts["failed"] > settings.max_failed_fraction * asked:
        raise JobError(
            f"the model fails for {counts['failed']:,} of {asked:,} rows, see failed/ in "
            f"{as_typed(settings.output_uri)}; a larger score.max_failed_fraction leaves them out"
        )


def _report(
    counts: dict[str, int],
    reasons: Counter[str],
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
    if reasons:
        say(STAGE, f"{reasons.total():,} rows rejected ({_name_reasons(reasons)}): see rejected/")
    if counts["unknown_labels"]:
        say(STAGE, f"{counts['unknown_labels']:,} labels are none of ours, and so null")
    for line in differences.get("warnings", ()):
        say(STAGE, f"unlike the training data: {line}")
    figures: dict[str, float | None] = {**counts, "rows_per_second": rate}
    figures["positive_fraction"] = share
    psi = {name: value for name, value in differences.items() if name.endswith("_psi")}
    figures |= {
        f"drift/{name}": value for name, value in (psi | differences.get("corpus", {})).items()
    }
    recorder.log_metrics({f"score/{name}": value for name, value in figures.items()})
