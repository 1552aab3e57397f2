"""A stage sees a rule that was changed, by its name, and does not see a new number of a version."""

import importlib.metadata
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import sentiflow
from sentiflow.config import settings
from sentiflow.data import csv_records, manifest, text_hash, tweets
from sentiflow.errors import UserError
from sentiflow.models import rules as text_rules
from sentiflow.models import tokenizer, vocabulary
from sentiflow.preparation import duplicates, prepare, rules, splits
from sentiflow.scoring import score
from sentiflow.words import word_vectors

PACKAGE = "package:glove.6B.50d"


def found(name="tweet"):
    """Hash all rules anew."""
    text_rules.hash_rules.cache_clear()
    rules.hash_rules.cache_clear()
    return rules.hash_rules(name)


@pytest.fixture(autouse=True)
def forget():
    """Keep the hashes of changed rules out of other tests."""
    yield
    found()


def accents_off(text):
    """Drop an accent, as other Unicode tables would."""
    return pc.replace_substring(normalize_text(text), "\u0301", "")


def splits_moved(hashes, **shares):
    """Assign one hash of a thousand to another split."""
    split = assign_by_hash(hashes, **shares)
    split[::1000] = 0
    return split


normalize_text, assign_by_hash = text_hash.normalize_text, splits.assign_by_hash
CHANGES = {
    "records": (csv_records, "MAX_RECORD_BYTES", 50),
    "reading": (tweets, "_SECONDS", "^never$"),
    "tokenizer": (tokenizer, "_ENTITIES", ()),
    "vocabulary": (vocabulary, "UNKNOWN", "b"),
    "normalizing": (rules, "normalize_text", accents_off),
    "hashing": (rules, "CHECK_KEY", "sentiflow-others"),
    "splits": (splits, "assign_by_hash", splits_moved),
    "duplicates": (duplicates, "REPEATED", "again"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_rule_is_seen_by_its_name(monkeypatch, name):
    before = found()
    monkeypatch.setattr(*CHANGES[name])
    now = found()
    assert name in {key for key in before if before[key] != now[key]}
    assert before.keys() == now.keys() == CHANGES.keys()


@pytest.mark.parametrize("rules_of", ["_ENTITIES", "_BEFORE_SQUEEZING", "_AFTER_SQUEEZING"])
def test_each_rule_of_the_tokenizer_meets_a_text(monkeypatch, rules_of):
    before, all_rules = found()["tokenizer"], getattr(tokenizer, rules_of)
    for left_out in all_rules:
        monkeypatch.setattr(tokenizer, rules_of, tuple(r for r in all_rules if r != left_out))
        assert found()["tokenizer"] != before, left_out


@pytest.mark.parametrize("piece", tokenizer._PIECES)
def test_each_piece_of_the_tokenizer_meets_a_text(monkeypatch, piece):
    before = found()["tokenizer"]
    pieces = "|".join(other for other in tokenizer._PIECES if other != piece)
    changed = tuple(
        (pieces, to) if to == r" \0 " else (old, to) for old, to in tokenizer._AFTER_SQUEEZING
    )
    monkeypatch.setattr(tokenizer, "_AFTER_SQUEEZING", changed)
    assert found()["tokenizer"] != before


def test_the_tokenizer_is_the_one_that_is_used():
    one, other = found("tweet"), found("tutorial")
    assert {name for name in one if one[name] != other[name]} == {"tokenizer"}


def test_every_process_finds_the_same():
    program = "from sentiflow.preparation import rules; print(rules.hash_rules('tweet'))"
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(found())


@pytest.fixture
def describe(tmp_path, sample_csv, make_package):
    """Describe the output of a stage, by default that of a preparation."""
    raw = {"name": "a", "output_uri": str(tmp_path), "prepare": {"csv": str(sample_csv)}}
    raw["score"] = {"corpus": str(sample_csv), "model_uri": str(make_package())}
    config = settings.resolve(settings.validate(raw, source="test"))
    return lambda stage=prepare: stage.describe_output(config)


@pytest.mark.parametrize("stage", [prepare, score])
def test_a_new_version_alone_is_not_another_result(describe, monkeypatch, stage):
    before = describe(stage)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99.0")
    monkeypatch.setattr(manifest, "version", lambda name: "99.0")
    monkeypatch.setattr(sentiflow, "__version__", "99.0")
    monkeypatch.setattr(pa, "__version__", "99.0")
    found()
    assert describe(stage) == before


@pytest.mark.parametrize("stage", [prepare, score])
def test_a_changed_rule_is_another_result_and_named(describe, monkeypatch, stage):
    before = describe(stage)
    monkeypatch.setitem(tokenizer.TOKENIZERS, "tweet", (2, tokenizer.tutorial_rule))
    found()
    now = describe(stage)
    assert now.fingerprint != before.fingerprint
    record = manifest.describe("", before.settings, before.inputs, counts={}, files=[])
    record = json.loads(json.dumps(record))
    (line,) = now.find_changes(record)
    assert line.startswith("rules.tokenizer: ")


def test_an_installed_package_of_vectors_is_known_by_its_version(describe, monkeypatch):
    before = describe().settings["rules"]["vectors"]
    monkeypatch.setattr(word_vectors, "version", lambda name: f"{before}.1")
    assert describe().settings["rules"]["vectors"] == f"{before}.1"
    assert word_vectors.find_version("vectors.txt") == {}


def test_a_package_that_is_not_installed_is_said_before_anything_starts(describe, monkeypatch):
    absent = {PACKAGE: ("no_such_package", "a", "b")}
    monkeypatch.setattr(word_vectors, "_PACKAGES", absent)
    with pytest.raises(UserError, match="is not installed: pip install no-such-package"):
        describe()
