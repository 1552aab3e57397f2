"""A reader takes the telling figures along, and none that is not there."""

from sentiflow.evaluation import highlights

TERMS = [
    {"term": "elderly", "known": True},
    {"term": "older", "known": False},
    {"term": "teenage", "known": True},
]
FIGURES = {
    "num_rows": 1234,
    "accuracy": 0.8,
    "accuracy_low": 0.79,
    "accuracy_high": 0.81,
    "positive_fraction": 0.4,
}
FINDINGS = {
    "split": "test",
    "figures": {"test": FIGURES},
    "intervals": {"test": {"expected_calibration_error": (0.005, 0.0123)}},
    "three_class": {},
    "neutral": {"accuracy": 0.87, "coverage": 0.8},
    "slices": [
        {"name": "question", "num_rows": 1200, "accuracy": 0.75, "high": 0.78},
        {"name": "tiny", "num_rows": 2, "accuracy": 0.0, "high": 0.6},
    ],
    "label_errors": {"fraction": 0.05},
    "behavior": [
        {"name": "praise", "pass_rate": 0.9},
        {"name": "not bad", "pass_rate": 0.1},
        {"name": "no case", "pass_rate": None},
    ],
    "group_bias": [
        {"category": "age", "spread": 0.2, "chance_spread": 0.1, "terms": TERMS},
        {"category": "religion", "spread": 0.3, "chance_spread": 0.4, "terms": TERMS},
    ],
}


def test_each_part_gives_the_line_that_a_reader_wants():
    lines = {section: f"{figure} {text}" for figure, text, section in highlights.draw(FINDINGS)}
    assert lines["probabilities"].startswith("0.5 to 1.2 points is how far")
    assert lines["certainty"].startswith("87.0% of its answers are right")
    assert "only the 80.0% of the texts" in lines["certainty"]
    assert lines["slices"].endswith("where it is worst: question (1,200 texts)")
    assert lines["mistakes"].startswith("5.0% of the labels")
    assert lines["behavior"] == "10% is the lowest pass rate of 2 behavior tests: not bad"


def test_a_gap_of_a_term_that_the_model_does_not_know_is_no_conclusion():
    for end in (0, -1):
        terms = [dict(term) for term in TERMS]
        terms[end]["known"] = False
        gap = {"category": "age", "spread": 0.2, "chance_spread": 0.1, "terms": terms}
        found = highlights.draw(FINDINGS | {"group_bias": [gap]})
        assert "groups" not in {item.section for item in found}


def test_a_gap_within_chance_is_no_conclusion():
    lines = {section: text for _, text, section in highlights.draw(FINDINGS)}
    assert lines["groups"].endswith("the widest gap by age (chance reaches 10.0)")
    assert lines["groups"].startswith("of probability lie between elderly and teenage")
    within = FINDINGS | {"group_bias": FINDINGS["group_bias"][1:]}
    assert "groups" not in {section for _, _, section in highlights.draw(within)}


def test_what_was_not_measured_gives_no_line():
    bare = FINDINGS | {"neutral": None, "slices": [], "behavior": [], "group_bias": []}
    assert [section for _, _, section in highlights.draw(bare)] == ["figures", "probabilities"]
    silent = FINDINGS | {"neutral": {"accuracy": None, "coverage": 0.0}}
    assert "certainty" not in {section for _, _, section in highlights.draw(silent)}


def test_slices_of_few_texts_are_no_conclusion():
    few = FINDINGS | {"slices": FINDINGS["slices"][1:]}
    assert "slices" not in {section for _, _, section in highlights.draw(few)}


def test_what_may_be_chance_is_no_conclusion():
    within = FINDINGS | {"slices": [FINDINGS["slices"][0] | {"high": 0.81}]}
    assert "slices" not in {section for _, _, section in highlights.draw(within)}
    blind = FINDINGS["figures"]["test"] | {"accuracy_low": 0.59}
    drawn = highlights.draw(FINDINGS | {"figures": {"test": blind}})
    assert "mistakes" not in {section for _, _, section in drawn}
    honest = {"test": {"expected_calibration_error": (0.0, 0.0123)}}
    assert highlights.draw(FINDINGS | {"intervals": honest})[1][0] == "under 1.2 points"


def test_three_labels_are_told_beside_two():
    three = {"accuracy": 0.55, "num_rows": 500, "f1_macro": 0.5,
             "confusion": {"neutral": {"negative": 40, "positive": 60, "neutral": 40}}}  # fmt: skip
    found = FINDINGS | {"split": "all", "figures": {"all": FIGURES}, "three_class": {"all": three}}
    found["intervals"] = {"all": {}}
    first, second = (f"{figure} {text}" for figure, text, _ in highlights.draw(found)[:2])
    assert first.startswith("80.0% of 1,234 texts are labelled correctly (95 % interval 79.0% to")
    assert second.startswith("55.0% of all 500 are, with 140 that are labelled neutral")
