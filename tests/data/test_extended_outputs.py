"""A result is extended where files were added at the end; other differences are named."""

from dataclasses import replace

import pytest
from stages import add_part, begin, finish, grow, look

from sentiflow.data import manifest
from sentiflow.data.output_status import find_status
from sentiflow.errors import UserError
from sentiflow.storage import filesystem


def test_an_unfinished_run_is_resumed_when_files_were_added_at_the_end(spec):
    def found(*names, time=1):
        return grow(spec, *names, time=time, tree="")

    add_part(begin(found("a")))
    assert look(found("a", "b")).resumes
    for other in (found("b"), found("a", "b", time=2), replace(found("a", "b"), grows="")):
        with pytest.raises(UserError, match=r"unfinished run of other settings.*another corpus"):
            look(other)


def test_only_files_at_the_end_extend_a_corpus(spec):
    finish(grow(spec, "a", "b"))
    states = {
        names: find_status(grow(spec, *names)).state
        for names in ("ab", "abc", "abcd", "a", "ba", "acb", "cab", "c")
    }
    grown = {name for name, state in states.items() if state == "extended"}
    assert states.pop("ab") == "complete"
    assert grown == {"abc", "abcd"}
    assert {states[name] for name in states.keys() - grown} == {"other"}


def test_an_extended_directory_stays_complete_until_there_is_a_new_manifest(spec, folder):
    record = finish(grow(spec, "a"))
    before = manifest.read(str(folder))
    grown = grow(spec, "a", "b")
    assert begin(grown).resumes is False
    added = add_part(output := begin(grown))
    assert output.resumes
    assert output.previous == before
    assert manifest.require(str(folder), stage="prepare", setting="") == before
    output.publish(counts={}, files=[*record["files"], added], seconds=0)
    parts = sorted([record["files"][0]["path"], added["path"]])
    assert filesystem.listing(str(folder)) == ["manifest.json", *parts, "words.parquet"]
    assert find_status(grown).state == "complete"


def of_model(spec, uri, *, classes=("negative", "positive"), names="a", follows=""):
    model = {"uri": uri, "fingerprint": f"c0ffee of {uri}", "settings": {"classes": [*classes]}}
    made = grow(spec, *names)
    return replace(made, inputs=made.inputs | {"model": model}, follows=follows)


VERSIONS = {"follows": "models:/x/"}


@pytest.mark.parametrize(
    ("uri", "options", "state"),
    [
        ("models:/x/1", {}, "complete"),
        ("models:/x/2", {}, "other"),
        ("models:/x/2", VERSIONS, "complete"),
        ("models:/x/2", {**VERSIONS, "names": "ab"}, "extended"),
        ("models:/x/2", {**VERSIONS, "classes": ("positive", "negative")}, "other"),
        ("models:/x/1", {"follows": "models:/y/"}, "complete"),
        ("models:/y/1", {"follows": "models:/y/"}, "other"),
        ("/a/package", {}, "other"),
    ],
)
def test_only_a_version_of_the_same_classes_follows_by_an_alias(spec, uri, options, state):
    first = of_model(spec, "models:/x/1")
    finish(first, models={"1": first.inputs["model"]})
    status = find_status(of_model(spec, uri, **options))
    assert status.state == state
    assert ("another model: models:/x/1 of " in status.problem) == (state == "other")


def test_every_model_of_a_result_counts_where_one_is_asked_for(spec):
    second = of_model(spec, "models:/x/2")
    models = {n: of_model(spec, f"models:/x/{n}").inputs["model"] for n in "12"}
    finish(second, models=models)
    assert find_status(second).problem.startswith("belongs to other settings (another model: mo")
    assert find_status(replace(second, follows="models:/x/")).state == "complete"
