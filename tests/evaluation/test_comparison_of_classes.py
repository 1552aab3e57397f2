"""Models of any classes are compared on those that both have."""
# ruff: noqa: F811 -- fixtures are imported

import json
import re
from dataclasses import asdict

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from test_comparison import runs  # noqa: F401
from test_evaluated_rows import NUM_ROWS

from sentiflow.cli.compare import to_text
from sentiflow.data import manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import comparison, evaluated_rows

THREE = ("negative", "positive", "neutral")


LABEL_OF_THREE = np.random.default_rng(3).integers(0, 3, NUM_ROWS).astype(np.int8)


def of_classes(classes=THREE, *, certain, seed=0, label=LABEL_OF_THREE):
    """Probabilities of a model; the more certain, the more often it is right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (NUM_ROWS, len(classes)))
    for code, name in enumerate(classes):
        logits[:, code] += certain * (label == THREE.index(name))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return dict(zip(classes, probabilities.T, strict=True))


def test_models_of_three_classes_are_compared(runs):
    scored = {"label": LABEL_OF_THREE, "classes": THREE}
    a = runs.run("a", of_classes=of_classes(certain=1), **scored)
    b = runs.run("b", of_classes=of_classes(certain=4, seed=1), **scored)
    found = comparison.compare(a, b)
    rows = evaluated_rows.read(f"{a}/scored", manifest.read(f"{a}/scored"))
    rows = evaluated_rows.of_split(rows, "test")
    label, prediction = (rows[name].to_numpy() for name in ("label", "prediction"))
    figures = found.first.figures
    assert found.num_rows == len(rows)
    assert figures["accuracy"] == (label == prediction).mean()
    expected = sklearn_metrics.f1_score(label, prediction, average="macro")
    assert figures["f1_macro"] == pytest.approx(expected)
    difference = found.differences["f1_macro"]
    assert difference.low < difference.value < difference.high
    assert difference.value == pytest.approx(found.second.figures["f1_macro"] - figures["f1_macro"])
    assert found.differences["log_loss"].value < 0
    assert found.differences["roc_auc"] is None
    assert "better" in found.verdict
    assert not any("different classes" in note for note in found.notes)
    text = to_text(found)
    assert re.search(r"Macro F1\s+0\.\d{4}\s+1\.0000\s+\+0\.\d{4}", text)
    json.dumps(asdict(found), allow_nan=False)


def test_the_verdict_judges_by_the_headline(runs):
    scored = {"label": LABEL_OF_THREE, "classes": THREE}
    a = runs.run("a", of_classes=of_classes(certain=1), **scored)
    b = runs.run("b", of_classes=of_classes(certain=4, seed=1), **scored)
    found = comparison.compare(b, a, headline="f1_macro", margin=0)
    assert "is worse than" in found.verdict
    assert ": its macro F1 is 0." in found.verdict
    assert (found.headline, found.regression.worse[0].is_worse) == ("f1_macro", True)
    with pytest.raises(UserError, match="headline 'roc_auc' is unknown: name one of accuracy, f1"):
        comparison.compare(a, b, headline="roc_auc")
    with pytest.raises(UserError, match=r"Mean absolute error is undefined for .* ordered classes"):
        comparison.compare(a, b, headline="mae")


def test_each_value_of_a_column_is_listed_also_where_nothing_differs(runs):
    scored = {"label": LABEL_OF_THREE, "classes": THREE}
    a = runs.run("a", of_classes=of_classes(certain=1), **scored)
    found = comparison.compare(a, a, columns=["split"])
    (own,) = (item for item in found.slices if item.is_own)
    assert own.f1_macro_first == own.f1_macro_second == found.first.figures["f1_macro"]
    lines = [re.split(r"\s{2,}", line) for line in to_text(found).splitlines()]
    accuracy = f"{found.first.figures['accuracy']:.4f}"
    (row,) = (line for line in lines if line[0] == "split: test" and len(line) > 5)
    assert row[2:5] == [accuracy, accuracy, "+0.0000"]
    assert row[5].startswith("-0.0")
    assert row[6] == "p = 1"


@pytest.mark.parametrize("left_out", [[], ["neutral"]])
def test_rows_of_a_class_that_one_model_lacks_are_its_mistakes_unless_it_was_left_out(
    runs, left_out
):
    two = ("negative", "positive")
    three = THREE
    label = {"label": LABEL_OF_THREE, "classes": THREE}
    a = runs.run("a", of_classes=of_classes(two, certain=2), left_out=left_out, **label)
    b = runs.run("b", of_classes=of_classes(three, certain=2), **label)
    found = comparison.compare(a, b)
    for run, model in ((a, found.first), (b, found.second)):
        assert model.num_rows_only_here == 0
        rows = evaluated_rows.read(f"{run}/scored", manifest.read(f"{run}/scored")).to_pandas()
        rows = rows[(rows["split"] == "test") & (rows["label"] < (2 if left_out else 3))]
        assert found.num_rows == len(rows)
        assert model.figures["accuracy"] == (rows["label"] == rows["prediction"]).mean()
        expected = sklearn_metrics.f1_score(rows["label"], rows["prediction"], average="macro")
        assert model.figures["f1_macro"] == pytest.approx(expected)
    assert any("the settings of the training leave out" in n for n in found.notes) == bool(left_out)
    assert any("count as mistakes: neutral" in note for note in found.notes) == (not left_out)
    difference = found.differences["f1_macro"]
    change = found.second.figures["f1_macro"] - found.first.figures["f1_macro"]
    assert difference.value == pytest.approx(change)


def test_models_without_two_common_classes_are_refused(runs):
    a = runs.run("a", of_classes=of_classes(certain=2), classes=THREE, label=LABEL_OF_THREE)
    names = ("neutral", "spam", "ham")
    other = dict(zip(names, of_classes(certain=2).values(), strict=True))
    b = runs.run("b", of_classes=other, classes=names, label=LABEL_OF_THREE)
    with pytest.raises(UserError, match="fewer than two classes in common"):
        comparison.compare(a, b)
