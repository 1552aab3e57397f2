"""Files of a growing corpus keep their places, whatever the names of new files are."""

import os
from dataclasses import replace

import pytest
from stages import fill, finish, grow, look

from sentiflow.data import arrival, input_files, manifest
from sentiflow.data.output_status import find_status
from sentiflow.storage import hashes


@pytest.fixture
def hashed(monkeypatch):
    """Names of the files whose content is read."""
    names, hash_files = [], hashes.hash_files
    monkeypatch.setattr(
        hashes,
        "hash_files",
        lambda files, **options: names.extend(files) or hash_files(files, **options),
    )
    return names


@pytest.fixture
def known(tmp_path, hashed):
    """Describe two files that were read; the second name comes first in the alphabet."""
    fill(tmp_path, "m.csv", "b.csv")
    files = input_files.describe([f"{tmp_path}/m.csv", f"{tmp_path}/b.csv"])["files"]
    hashed.clear()
    return [{**item, "rows": 7} for item in files]


def find(folder):
    return input_files.find([f"{folder}/**/*.csv"])


def names(files, folder):
    return [os.path.relpath(item["uri"], folder) for item in files]


def test_new_files_of_any_name_follow_and_known_ones_are_not_opened(tmp_path, known, hashed):
    assert arrival.order(find(tmp_path), known) == known
    fill(tmp_path, "a.csv", "z.csv", "brand=A/day=2/x.csv")
    ordered = arrival.order(find(tmp_path), known)
    assert names(ordered, tmp_path) == ["m.csv", "b.csv", "a.csv", "brand=A/day=2/x.csv", "z.csv"]
    assert ordered[:2] == known
    assert [item["tree_sha256"] for item in ordered[2:]] == [""] * 3
    assert hashed == []


def test_a_file_that_is_only_newer_keeps_its_place_after_its_content_was_compared(
    tmp_path, known, hashed
):
    os.utime(tmp_path / "m.csv", ns=(5, 5))
    ordered = arrival.order(find(tmp_path), known)
    assert ordered == [{**known[0], "modified_ns": 5}, known[1]]
    assert hashed == [known[0]["uri"]]


def test_a_changed_file_keeps_its_place_and_loses_what_was_known_of_it(tmp_path, known, hashed):
    (tmp_path / "m.csv").write_text("longer than before")
    (tmp_path / "b.csv").write_text("c.csv")
    os.utime(tmp_path / "b.csv", ns=(5, 5))
    ordered = arrival.order(find(tmp_path), known)
    assert names(ordered, tmp_path) == ["m.csv", "b.csv"]
    assert all("rows" not in item for item in ordered)
    assert ordered[0]["tree_sha256"] == ""
    assert hashed == [known[1]["uri"]], "the size of the other has changed"


def test_moved_files_are_known_by_their_content(tmp_path, known, hashed):
    (tmp_path / "sub").mkdir()
    (tmp_path / "m.csv").rename(tmp_path / "sub/0.csv")
    fill(tmp_path, "a.csv", "longer.csv")
    ordered = arrival.order(find(tmp_path), known)
    assert names(ordered, tmp_path) == ["sub/0.csv", "b.csv", "a.csv", "longer.csv"]
    assert manifest.identify_file(ordered[0]) == manifest.identify_file(known[0])
    assert ordered[0]["rows"] == 7
    assert ordered[0]["read_as"] == known[0]["uri"]
    assert sorted(names([{"uri": uri} for uri in hashed], tmp_path)) == ["a.csv", "sub/0.csv"]


def test_a_file_that_has_moved_twice_tells_where_it_was_read(tmp_path, known):
    (tmp_path / "m.csv").rename(tmp_path / "0.csv")
    once = arrival.order(find(tmp_path), known)
    (tmp_path / "0.csv").rename(tmp_path / "1.csv")
    twice = arrival.order(find(tmp_path), once)
    assert names(twice, tmp_path) == ["1.csv", "b.csv"]
    assert twice[0]["read_as"] == known[0]["uri"]


def test_a_file_that_has_moved_before_an_unfinished_run_keeps_its_place(spec, folder, tmp_path):
    fill(tmp_path, "m.csv", "b.csv")

    def describe(*others):
        record = manifest.read(str(folder))
        known = arrival.list_known(str(folder), record, name="corpus")
        ordered = arrival.order(find(tmp_path), known)
        assert names(ordered, tmp_path) == [*others]
        return replace(grow(spec), inputs={"corpus": input_files.combine(ordered)})

    read = input_files.describe([f"{tmp_path}/b.csv", f"{tmp_path}/m.csv"])
    finish(replace(describe("b.csv", "m.csv"), inputs={"corpus": read}))
    (tmp_path / "b.csv").rename(tmp_path / "z.csv")
    fill(tmp_path, "new.csv")
    look(describe("z.csv", "m.csv", "new.csv")).begin()
    assert find_status(describe("z.csv", "m.csv", "new.csv")).state == "extended"


def test_a_file_that_is_gone_is_left_out(tmp_path, known):
    (tmp_path / "m.csv").unlink()
    fill(tmp_path, "a.csv")
    assert names(arrival.order(find(tmp_path), known), tmp_path) == ["b.csv", "a.csv"]


def test_the_order_is_kept_by_the_result_then_by_unfinished_runs(spec, folder):
    def list_names():
        files = arrival.list_known(str(folder), manifest.read(str(folder)), name="corpus")
        return "".join(item["uri"][-1] for item in files)

    look(grow(spec, "d", tree="")).begin()
    assert list_names() == "d"
    look(grow(spec, "d", "b", tree="")).begin()
    assert list_names() == "db"
    finish(grow(spec, "d", "b"))
    look(grow(spec, "d", "b", "a")).begin()
    assert list_names() == "dba"
    assert arrival.list_known(f"{folder}/none", None, name="corpus") == []


def test_a_file_that_is_gone_is_named_and_not_the_next_one(spec):
    finish(grow(spec, "a", "b", "c"))
    problem = find_status(grow(spec, "a", "c", "d")).problem
    assert problem == "belongs to other settings (another corpus: it lacks /in/b)"


def test_a_problem_says_how_a_file_differs(spec):
    finish(grow(spec, "a", "b"))
    changed = grow(spec, "a", "b")
    changed.inputs["corpus"]["files"][1]["tree_sha256"] = "other"
    changed.inputs["corpus"]["fingerprint"] = "other"
    assert "another corpus: /in/b was changed" in find_status(changed).problem
    moved = grow(spec, "b", "a")
    assert "another corpus: /in/b has another place in the order" in find_status(moved).problem
    fixed = replace(grow(spec, "a", "0", "b"), grows="")
    assert "another corpus: /in/0 is new" in find_status(fixed).problem


def test_a_file_that_may_be_gone_keeps_its_place_unless_it_is_elsewhere(tmp_path, known):
    uris = {item["uri"] for item in known}
    (tmp_path / "m.csv").unlink()
    fill(tmp_path, "a.csv")
    ordered = arrival.order(find(tmp_path), known, may_be_gone=uris)
    assert names(ordered, tmp_path) == ["m.csv", "b.csv", "a.csv"]
    assert ordered[0] == known[0]
    (tmp_path / "brand=A").mkdir()
    (tmp_path / "brand=A/m.csv").write_text("m.csv")  # a file with the same rows in another folder
    ordered = arrival.order(find(tmp_path), known, may_be_gone=uris)
    assert names(ordered, tmp_path) == ["b.csv", "a.csv", "brand=A/m.csv"]


def test_what_a_gone_file_means_is_said_and_an_overwritten_result_has_no_such_file(spec):
    finish(grow(spec, "a", "b"))
    gone = replace(grow(spec, "a", "b", "c"), gone=("/in/a",), way_out_if_gone="set x=true")
    assert find_status(gone).state == "extended"
    new = gone.to_replace()
    assert [item["uri"] for item in new.inputs["corpus"]["files"]] == ["/in/b", "/in/c"]
    problem = find_status(new).problem
    assert problem == "belongs to other settings (another corpus: it lacks /in/a (set x=true))"
    assert grow(spec, "a").to_replace() == grow(spec, "a")
