"""One or two registered models -> their accuracy on test rows that neither was trained on."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.text_hash import hash_texts
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.evaluation.evaluated_rows import find_common_classes
from sentiflow.metrics import paired
from sentiflow.metrics.classification import macro_f1
from sentiflow.metrics.predicted import count_confusion
from sentiflow.models import package_files
from sentiflow.models.package import ModelPackage
from sentiflow.progress import Progress
from sentiflow.tracking import model_sources, registry
from sentiflow.tracking.registry import ResolvedModel
from sentiflow.tracking.runs import FINGERPRINT_TAG

_TEST_ROWS = ("tweets/split=test/",)


@dataclass(frozen=True)
class ChampionTest:
    """Candidate and champion on the same test rows."""

    num_rows: int
    """Rows that neither was trained on or chosen by, as far as that is known."""
    candidate_accuracy: float
    champion_accuracy: float | None
    """None if there is no champion yet."""
    only_candidate_right: int
    """Rows on which only the candidate is right."""
    only_champion_right: int
    p_value: float | None = None
    """The p-value of McNemar's test that both are right equally often."""
    candidate_f1_macro: float | None = None
    champion_f1_macro: float | None = None
    f1_macro_difference: paired.Difference | None = None
    """The candidate's macro F1 minus the champion's; None without a champion, or if undefined."""
    classes: tuple[str, ...] = ()
    """Classes that the models have."""
    other_classes: tuple[str, ...] = ()
    """Classes that only one of the two has. Rows with such a label are mistakes of the other."""
    unknown_classes: tuple[str, ...] = ()
    """Labels that none has: their rows are mistakes of both."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows by class that the settings of a training leave out; they are not compared."""
    difference: paired.Difference | None = None
    """The candidate's accuracy minus the champion's; None without a champion."""
    num_seen: int = 0
    """Test rows that are left out: one of the models was trained on their text, or chosen by it."""
    unknown: tuple[str, ...] = ()
    """Models whose training texts are unknown, by URI."""
    num_judged: int = 1
    """Versions that this test split has judged by now, with these."""


def measure(uri: str, models: Sequence[ResolvedModel]) -> ChampionTest:
    """Score the test rows of prepared data with a candidate and, if there is one, a champion.

    In place of a refit that has seen the test rows the run that it repeats is judged.

    Raises:
        UserError: There is no labelled test row that neither was trained on, the models have fewer
            than two classes in common, or prepared data are missing or damaged.
    """
    prepared = manifest.require(uri, stage="prepare", setting="train.prepared_uri")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    judged = [_load(model) for model in models]
    packages = [package.to(device) for package, _ in judged]
    names = ("the candidate", "the champion")
    common, others = find_common_classes(
        {n: package.settings.classes for n, package in zip(names, packages, strict=False)}
    )
    seen, is_known = lineage.find_training_texts([known for _, known in judged])
    excluded = set().union(*(lineage.left_out_of(known) for _, known in judged))
    of_data = [name for name in manifest.find_classes(prepared) if name not in excluded]
    every = tuple(dict.fromkeys([*common, *others, *of_data]))
    label, predictions, left_out, num_seen = _predict_test_rows(
        uri, prepared, packages, every, excluded, seen
    )
    present = [every[code] for code in np.unique(label)]
    right = [prediction == label for prediction in predictions]
    accuracies = [float(rows.mean()) for rows in right]
    f1 = [macro_f1(count_confusion(label, each, num_labels=len(every))) for each in predictions]
    unknown = tuple(m.uri for m, known in zip(models, is_known, strict=True) if not known)
    test = ChampionTest(
        len(label), accuracies[0], None, 0, 0, candidate_f1_macro=f1[0], classes=common,
        num_seen=num_seen, unknown=unknown, left_out=left_out,
        unknown_classes=tuple(name for name in present if name not in (*common, *others)),
    )  # fmt: skip
    if len(models) == 1:
        return test
    difference, mcnemar = paired.compare_accuracy(right[1], right[0])
    return replace(
        test,
        champion_accuracy=accuracies[1],
        only_candidate_right=mcnemar.only_second_right,
        only_champion_right=mcnemar.only_first_right,
        p_value=mcnemar.p_value,
        champion_f1_macro=f1[1],
        f1_macro_difference=paired.f1_macro_difference(
            label=label,
            first=predictions[1],
            second=predictions[0],
            num_classes=len(every),
        ),
        other_classes=tuple(name for name in others if name not in excluded),
        difference=difference,
    )


def _load(model: ResolvedModel) -> tuple[ModelPackage, Mapping[str, Any]]:
    """Load what a model is judged by: itself, or the run that it repeats.

    Returns:
        The model; its description as an input.

    Raises:
        UserError: The run that it repeats is gone.
    """
    record = model.record
    if not lineage.has_seen_test(record):
        return registry.load(model), package_files.to_input(model.uri, record)
    of, tracking = record["refit"]["of"], model.tracking_uri
    assert model.version is not None, "it was found by alias or number"
    name, what = model.version.name, f"the run that {model.uri} repeats"
    known = registry.find_tagged(name, FINGERPRINT_TAG, of["fingerprint"], tracking_uri=tracking)
    uri = f"models:/{name}/{max(known)}" if known else of["uri"]
    uri, record = model_sources.find(uri, tracking=tracking, setting=what)
    if record["fingerprint"] != of["fingerprint"]:
        raise UserError(
            f"{what} is gone: {uri} holds another model", hint=f"promote another version of {name}"
        )
    return model_sources.load(uri, tracking=tracking), package_files.to_input(uri, record)


def _predict_test_rows(
    uri: str,
    prepared: Manifest,
    packages: Sequence[ModelPackage],
    classes: Sequence[str],
    excluded: Collection[str],
    seen: np.ndarray,
) -> tuple[np.ndarray, list[np.ndarray], dict[str, int], int]:
    """Read the labels of the unseen test rows and predict them.

    Returns:
        Labels and predictions, as positions in the classes; the rows of each class that is not
        asked; the number of rows that were seen.

    Raises:
        UserError: No unseen test row is labelled with a class that is asked.
    """
    names, left_out = manifest.find_classes(prepared), Counter[str]()
    codes = np.array([-1 if n in excluded else classes.index(n) for n in names], np.int8)
    positions = [
        np.array([classes.index(name) for name in package.settings.classes], np.int8)
        for package in packages
    ]
    batches, num_seen = [], 0
    for every in _test_rows(uri, prepared):
        label = every["label"].to_numpy()
        code = codes[label]
        counts = np.bincount(label[code < 0], minlength=len(names)).tolist()
        left_out.update({name: count for name, count in zip(names, counts, strict=True) if count})
        labelled = every.filter(pa.array(code >= 0)).combine_chunks()
        is_seen = np.isin(hash_texts(labelled["text"].combine_chunks()), seen)
        num_seen += int(is_seen.sum())
        rows = labelled.filter(pa.array(~is_seen)).combine_chunks()
        if not len(rows):
            continue
        text = rows["text"].combine_chunks()
        found = [package.score(text).prediction for package in packages]
        batches.append(
            [
                codes[rows["label"].to_numpy()],
                *(of_model[each] for of_model, each in zip(positions, found, strict=True)),
            ]
        )
    if not batches and num_seen:
        raise UserError(
            f"all {num_seen:,} labelled texts in the test split of {uri} were seen in the training "
            "of candidate or champion",
            hint="set train.prepared_uri to data with the same prepare.split for both",
        )
    if not batches:
        raise UserError(
            f"{uri} has no labelled row in its test split", hint="set train.prepared_uri"
        )
    label, *predictions = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return label, predictions, dict(left_out), num_seen


def _test_rows(uri: str, prepared: Manifest) -> Iterator[pa.Table]:
    """Read texts and labels of the labelled test rows."""
    numbers = [item["rows"] for item in prepared["files"] if item["path"].startswith(_TEST_ROWS)]
    columns, hint = ["text", "label"], "prepare again with sentiflow prepare CONFIG --overwrite"
    with Progress("promote", total=sum(filter(None, numbers)), unit="rows") as progress:
        for table in lineage.read_tables(uri, prepared, _TEST_ROWS, columns=columns, hint=hint):
            if len(rows := table.filter(pc.field("label").is_valid()).combine_chunks()):
                yield rows
            progress.advance(len(table))
