"""Results of scored parts -> counts, a summary, and the manifest with the earlier predictions."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sentiflow.data import input_files, lineage, manifest, row_checks, row_sources
from sentiflow.data.corpus import Corpus
from sentiflow.data.manifest import MODEL
from sentiflow.data.manifest_types import FileEntry, GivenCounts, Manifest, ModelInput, Scoring
from sentiflow.data.outputs import Output, list_result
from sentiflow.data.prediction_files import PredictionFile
from sentiflow.errors import UserError
from sentiflow.models.profile import Profile
from sentiflow.progress import say
from sentiflow.scoring import given_predictions, score_inputs, summary
from sentiflow.scoring.corpus_files import CorpusFiles
from sentiflow.scoring.earlier_jobs import EarlierJobs
from sentiflow.scoring.score_plan import STAGE, ScorePlan
from sentiflow.scoring.summary import Summary
from sentiflow.scoring.tasks import RowCounts, ScoreJob, kept_types
from sentiflow.storage.uris import join

if TYPE_CHECKING:
    from sentiflow.tracking.recorder import Recorder


@dataclass(frozen=True, kw_only=True)
class ScoredParts:
    """The parts of the new rows of a corpus, all scored."""

    job: ScoreJob
    """Arguments of the tasks."""
    source: Corpus
    """The new rows, with a description of their files as they were read."""
    files: CorpusFiles
    """The files of the corpus."""
    earlier: EarlierJobs
    """Results of earlier jobs."""
    given: PredictionFile | None
    """Predictions of another program; None if a model scores."""
    results: Sequence[dict[str, Any]]
    """The result of each part as JSON."""
    fresh: Sequence[int]
    """Numbers of the parts that this process has scored; a killed one has scored the others."""


def finish(
    plan: ScorePlan,
    output: Output,
    recorder: Recorder,
    scored: ScoredParts,
    *,
    began: float,
) -> Manifest:
    """Add up the results, tell and log them, and publish the predictions.

    Args:
        plan: The scoring.
        output: Its output.
        recorder: Its run in MLflow.
        scored: The parts of the new rows.
        began: When the scoring began, by ``time.monotonic``.

    Returns:
        The manifest.

    Raises:
        UserError: All rows are rejected, or a file of the corpus was changed during the scoring.
            The new output is removed.
    """
    source = scored.source
    part_counts = [RowCounts.from_json(result) for result in scored.results]
    new = _sum_up(plan.model, source, part_counts)
    total = RowCounts.sum([scored.earlier.counts, new])
    _check_accepted(output, source, new, total)
    counts_of_given = _count_given(scored.results, scored.given, output.previous)
    done = Summary(
        new=new,
        total=total,
        num_scored=sum(part_counts[number].accepted for number in scored.fresh),
        seconds=time.monotonic() - began,
        drift=summary.find_drift(total, plan.model),
    )
    summary.tell(done, plan.model, uri=plan.spec.uri)
    summary.log_metrics(done, recorder)
    return _publish(plan, output, recorder, scored, done, counts_of_given)


def _sum_up(model: ModelInput, source: Corpus, part_counts: Sequence[RowCounts]) -> RowCounts:
    """Add up the counts of the new rows; without a profile if the model may have learned some."""
    new = RowCounts.sum(part_counts)
    if lineage.is_of_others(model):
        return new
    learned = score_inputs.find_learned_files(source.files, model)
    reason = ""
    if learned.names:
        reason = f"the model was trained on rows of {learned.names[0]}"
    elif learned.unknown:
        reason = f"the files that the model was trained on are not known: {learned.unknown}"
    if reason:
        say(STAGE, f"drift is not measured: {reason}")
        new = replace(new, profile=Profile())
    return new


def _check_accepted(output: Output, source: Corpus, new: RowCounts, total: RowCounts) -> None:
    """Refuse a corpus if all its rows are rejected.

    Raises:
        UserError: All rows are rejected; the output is removed.
    """
    assert source.num_rows == new.rows_read, "each row is in one part"
    if total.rejected and total.rejected == total.rows_read:
        output.roll_back()
        reasons = row_checks.list_reasons(new.rejected_by_reason)
        hint = (
            "correct the corpus, or describe it: Parquet by score.text_column, CSV by "
            "score.format, such as score.format='{kind: csv, columns: {text: NAME}}'"
        )
        if given_predictions.NO_PREDICTION in new.rejected_by_reason:
            hint = "name files of score.predictions with row ids or texts of this corpus"
        raise UserError(f"no row was accepted: {total.rejected:,} rejected ({reasons})", hint=hint)


def _count_given(
    results: Sequence[dict[str, Any]], file: PredictionFile | None, previous: Manifest | None
) -> GivenCounts | None:
    """Count the predictions of another program that were used, if there are any, and say it.

    Args:
        results: Results of all parts that were scored now.
        file: The predictions; None if a model scores.
        previous: Manifest of the result that is extended.
    """
    if file is None:
        return None
    counts = given_predictions.count(results, len(file.keys), previous)
    given_predictions.tell(counts)
    return counts


def _publish(
    plan: ScorePlan,
    output: Output,
    recorder: Recorder,
    scored: ScoredParts,
    done: Summary,
    counts_of_given: GivenCounts | None,
) -> Manifest:
    """Publish the new predictions together with the previous ones.

    Args:
        plan: The scoring.
        output: Its output.
        recorder: Its run in MLflow.
        scored: The parts of the new rows.
        done: What was scored.
        counts_of_given: Counts of the predictions of another program, if these were scored.

    Raises:
        UserError: A file of the corpus was changed during the scoring; the new output is removed.
    """
    job = scored.job
    source = scored.source
    files = scored.files
    earlier = scored.earlier
    try:
        input_files.check_unchanged(source.files)
    except UserError:  # the corpus is another one now: the same command starts over
        output.roll_back()
        raise
    scoring: Scoring = {
        "model_version": job.model_version,
        "first_part": job.first_part,
        "first_file": files.num_old,
        "num_files": len(files.listed) - files.num_old,
        "rows": done.new.accepted,
    }
    places = [*earlier.places]
    if files.listed:
        places += row_sources.place_parts(source.parts, files.listed, first_part=job.first_part)
    unknown_values = Counter(done.total.unknown_values).most_common(row_checks.MAX_COUNTED)
    return output.publish(
        inputs=plan.spec.inputs | {"corpus": files.describe(source.files)},
        files=[*done.total.files, *_list_average(output)],
        models={**earlier.models, job.model_version: plan.model},
        scorings=[*earlier.scorings, scoring],
        peak_memory_bytes=done.total.peak_memory_bytes,
        num_parts=job.first_part + len(source.parts),
        parts=places,
        has_row_ids=source.table_format.has_row_ids,
        kept_types=kept_types(source.table_format),
        counts=done.total.counts,
        classes=list(job.classes),
        **score_inputs.find_class_values(plan, job.classes),
        precision=job.precision,
        profile=vars(done.total.profile),
        unknown_values=dict(unknown_values),
        drift=done.drift,
        seconds=done.seconds,
        run=recorder.describe(),
        **({"given": counts_of_given} if counts_of_given else {}),
    )


def _list_average(output: Output) -> list[FileEntry]:
    """List the files of an averaged model, which stays in the output."""
    uri = join(output.uri, MODEL)
    average = manifest.read(uri)
    if average is None:
        return []
    return list_result(uri, average, path=MODEL)
