"""A package keeps made-up texts with its answers; a loader that answers differently refuses it."""
# ruff: noqa: F811 -- fixtures are imported

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from conftest import PROJECT, messages, new_package
from saved_package import forge, package, saved  # noqa: F401
from test_cli import invoke

from sentiflow.data import manifest
from sentiflow.errors import UserError
from sentiflow.models import average_files, golden_texts, package_files, tokenizer
from sentiflow.models.package import ModelPackage
from sentiflow.storage import filesystem
from sentiflow.tracking import model_sources


def read(saved):
    with open(f"{saved}/golden.json") as file:
        return json.load(file)


def change(saved, **values):
    """Replace values of the golden texts, with the checksum that fits."""
    forge(saved, golden=json.dumps(read(saved) | values).encode())


def test_a_package_has_made_up_texts_with_its_answers(package, saved):
    golden = read(saved)
    num_words = len(package.vocabulary) - package.vocabulary.num_special
    assert len(golden["texts"]) == 30 + num_words + 1
    answers = package.score(pa.array(golden["texts"])).probabilities
    np.testing.assert_allclose(golden["probabilities"], answers, atol=1e-6)
    assert golden["classes"] == list(package.settings.classes)
    assert {"sentiflow", "python", "numpy", "pyarrow", "torch"} == set(golden["versions"])
    own = golden["texts"][30:]
    known = package.score(pa.array(own)).num_tokens
    assert max(known) > 0, "some texts are of the model's own words"


def test_golden_texts_of_words_take_each_word_once_and_spread_over_the_vocabulary():
    words = [f"word{number}" for number in range(1000)]
    *texts, long = golden_texts._join_words(words, " ")
    used = " ".join(texts).split(" ")
    assert len(texts) == 19
    assert len(used) == len(set(used)) == 95
    assert sorted(long.split(" ")) == sorted(used)
    assert max(int(word.removeprefix("word")) for word in used) > 900


def test_the_fixed_texts_are_in_many_scripts_and_one_is_empty():
    texts = golden_texts._read_fixed()
    assert len(texts) == len(set(texts)) == 30
    assert "" in texts
    for script in ("Latin", "Arabic", "Devanagari", "Han", "Hangul", "Thai", "Cyrillic"):
        assert any(pc.match_substring_regex(pa.array(texts), rf"\p{{{script}}}").to_pylist())


def test_a_rule_of_the_tokenizer_that_changes_an_answer_is_refused(saved, monkeypatch):
    assert ModelPackage.load(saved).golden
    newest = tokenizer.TOKENIZERS["tweet"]
    upper = newest._replace(rule=lambda chunks: pc.utf8_upper(newest.rule(chunks)))
    monkeypatch.setitem(tokenizer.TOKENIZERS, "tweet", upper)
    problem = (
        r"model answers differently than when it was saved: \S+ .* for its golden text \d+, '.*'; "
        r"saved with sentiflow \S+, read with sentiflow \S+: use what it was saved with"
    )
    with pytest.raises(UserError, match=problem):
        ModelPackage.load(saved)


@pytest.mark.parametrize(
    ("shift", "problem"),
    [
        (0.0005, None),
        (0.002, "probability 0.7980 of negative instead of 0.8000"),
        (np.nan, "no finite probability"),
    ],
)
def test_a_probability_may_differ_by_a_thousandth(package, shift, problem):
    golden = golden_texts.make(
        ["good", "bad"], joiner=" ", classes=package.settings.classes, score=package._score_alone
    )
    # Away from a tie, so that no label changes.
    rows = np.tile([0.8, 0.2], (len(golden.texts), 1))
    golden = golden.model_copy(update={"probabilities": tuple(map(tuple, rows.tolist()))})
    moved = rows.copy()
    moved[7] += [-shift, shift]
    found = golden_texts.find_mismatch(golden, moved, tolerance=golden_texts.TOLERANCE_ON_CPU)
    assert found == ((7, problem) if problem else None)


def test_a_small_vocabulary_gives_no_empty_texts(package):
    golden = golden_texts.make(
        ["good", "bad"], joiner=" ", classes=package.settings.classes, score=package._score_alone
    )
    assert golden.texts[-3:] == ("good", "bad", "good bad")
    assert golden.texts.count("") == 1  # of the fixed ones


def test_a_label_may_change_only_where_both_classes_are_equally_probable(package):
    golden = golden_texts.GoldenTexts(
        texts=("a", "b"),
        classes=("negative", "positive"),
        probabilities=((0.5, 0.5), (0.5002, 0.4998)),
        versions={},
    )
    on_cpu = golden_texts.TOLERANCE_ON_CPU
    tie = np.array([[0.499999, 0.500001], [0.5002, 0.4998]])
    assert golden_texts.find_mismatch(golden, tie, tolerance=on_cpu) is None
    other = np.array([[0.5, 0.5], [0.4999, 0.5001]])
    found = golden_texts.find_mismatch(golden, other, tolerance=on_cpu)
    assert found == (1, "positive instead of negative")
    on_gpu = golden_texts.TOLERANCE_ON_GPU
    assert golden_texts.find_mismatch(golden, other, tolerance=on_gpu) is None


def test_a_package_of_an_earlier_version_has_none_and_loads(saved):
    with open(f"{saved}/manifest.json") as file:
        record = json.load(file)
    record["files"] = [item for item in record["files"] if item["path"] != "golden.json"]
    filesystem.write_bytes(f"{saved}/manifest.json", json.dumps(record).encode())
    with pytest.raises(UserError, match=r"golden\.json is not part of a model package"):
        ModelPackage.load(saved)
    filesystem.delete(f"{saved}/golden.json")
    assert ModelPackage.load(saved).golden is None


def test_a_package_and_an_average_of_format_3_have_none_and_load(tmp_path):
    earlier = str(PROJECT / "tests/format_3/run/trained/model")
    assert ModelPackage.load(earlier).golden is None
    to = str(tmp_path / "average")
    model = model_sources.describe([earlier, earlier], tracking=None, to=to)
    average_files.save(model, [earlier, earlier], to=to)
    assert ModelPackage.load(to).others[0].golden is None


def test_a_model_that_gives_no_number_for_some_texts_is_saved_and_read(package, tmp_path):
    word = package.vocabulary.words.index("good").as_py()
    with torch.no_grad():
        package.network.embedding.weight[word] = float("nan")
    package.save(str(tmp_path), lineage={})
    texts = ModelPackage.load(str(tmp_path)).golden.texts
    assert 30 < len(texts) < 50
    assert not any("good" in text.split() for text in texts)


def test_predict_ends_with_exit_code_2_and_one_line(saved):
    probabilities = read(saved)["probabilities"]
    probabilities[2].reverse()
    change(saved, probabilities=probabilities, versions={"sentiflow": "0.1.9", "pyarrow": "7.7"})
    result = invoke("predict", saved, "a good day")
    assert result.exit_code == 2, result.output
    (line,) = messages(result.stderr)
    assert "for its golden text 3, '@mira_k thanks sooo much" in line
    assert "saved with sentiflow 0.1.9, pyarrow 7.7, read with sentiflow" in line


def test_versions_that_a_package_does_not_name_are_unknown(saved):
    probabilities = read(saved)["probabilities"]
    probabilities[2].reverse()
    change(saved, probabilities=probabilities, versions={})
    with pytest.raises(UserError, match=r"; saved with sentiflow unknown, read with sentiflow \d"):
        ModelPackage.load(saved)


def test_a_model_whose_network_gives_no_number_keeps_texts_without_a_known_word(package, tmp_path):
    with torch.no_grad():
        package.network.output.bias[:] = float("nan")
    package.save(str(tmp_path), lineage={})
    golden = ModelPackage.load(str(tmp_path)).golden
    assert "" in golden.texts
    assert {*golden.probabilities} == {package.settings.priors}


@pytest.mark.parametrize("on_gpu", [False, True])
def test_another_version_of_torch_is_named_only_on_a_gpu(on_gpu):
    golden = golden_texts.GoldenTexts(
        texts=("good",),
        classes=("negative", "positive"),
        probabilities=((0.2, 0.8),),
        versions={"sentiflow": "0.2.0", "torch": "2.0.0", "numpy": "1.0.0"},
    )
    with pytest.raises(
        UserError, match=r"the model answers differently .* numpy 1\.0\.0"
    ) as raised:
        golden_texts.check(
            golden, name="the model", score=lambda text: np.array([[0.9, 0.1]]), on_gpu=on_gpu
        )
    assert ("torch 2.0.0" in str(raised.value)) == on_gpu


@pytest.mark.parametrize("content", [b"", b"[1]", b"\x80\x04.", b"{" * 100_000, b"\xff\xfe"])
def test_golden_texts_that_are_no_json_are_refused(saved, content):
    forge(saved, golden=content)
    with pytest.raises(UserError, match=r"golden\.json cannot be read"):
        ModelPackage.load(saved)


def test_golden_texts_do_not_change_the_fingerprint_of_a_model(package, saved, tmp_path):
    other = str(tmp_path / "again")
    record = package.save(other, lineage={})
    forge(saved, golden=b"{}")
    assert manifest.read(saved)["fingerprint"] == record["fingerprint"]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"probabilities": [[0.5, 0.5]]}, "has the answers of another model"),
        ({"classes": ["a", "b"]}, "has the answers of another model"),
        (
            {"probabilities": [[0.5, 2.0]] * 50},
            r"golden\.json cannot be read: .*less than or equal",
        ),
        ({"texts": "text"}, r"golden\.json cannot be read"),
        ({"texts": [], "probabilities": []}, r"golden\.json cannot be read: texts: .*at least 1"),
        ({"probabilities": [["0.5", "0.5"]] * 50}, r"golden\.json cannot be read: .*valid number"),
        ({"probabilities": [[True, False]] * 50}, r"golden\.json cannot be read: .*valid number"),
        ({"more": 1}, r"golden\.json cannot be read"),
        ({"texts": ["long" * 9000] * 50}, r"golden\.json cannot be read: .*at most 10000"),
        ({"texts": ["long" * 90_000] * 50}, r"golden\.json has 18,\d+,\d+ bytes"),
        ({"versions": dict.fromkeys(map(str, range(99)), "1")}, r"golden\.json cannot be read"),
    ],
)
def test_damaged_golden_texts_are_refused_in_one_line(saved, values, problem):
    change(saved, **values)
    with pytest.raises(UserError, match=problem) as raised:
        ModelPackage.load(saved)
    assert "\n" not in str(raised.value)


def test_changed_golden_texts_without_the_checksum_are_refused(saved):
    golden = read(saved)
    golden["probabilities"][0].reverse()
    filesystem.write_bytes(f"{saved}/golden.json", json.dumps(golden).encode())
    with pytest.raises(UserError, match=r"golden\.json"):
        ModelPackage.load(saved)


def test_each_member_of_an_average_is_checked_by_its_own_answers(tmp_path):
    packages = []
    for seed in (1, 2):
        uri = str(tmp_path / str(seed))
        new_package(seed=seed).save(uri, lineage={})
        packages.append(uri)
    members = [package_files.to_input(uri, manifest.read(uri)) for uri in packages]
    average = str(tmp_path / "average")
    model = average_files.describe(members, uri=average, setting="models")
    average_files.save(model, packages, to=average)
    loaded = ModelPackage.load(average)
    assert [loaded.golden, loaded.others[0].golden] == [
        ModelPackage.load(uri).golden for uri in packages
    ]
    member = f"{average}/members/1"
    forge(member, golden=golden_texts.to_json(ModelPackage.load(packages[0]).golden))
    with pytest.raises(UserError, match=r"members/1 answers differently"):
        ModelPackage.load(member)
