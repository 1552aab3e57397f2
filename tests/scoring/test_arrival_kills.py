"""A growing corpus, killed at each step of a commit: numbers are kept, and no row has two."""
# ruff: noqa: F811 -- fixtures are imported

import pytest
from test_output_kills import Faults, Kill
from test_score import configure, model, record, score, table  # noqa: F401

import sentiflow
from sentiflow.errors import UserError

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_ROWS = 12
"""Rows of a file."""
DESCRIBED = 2
"""Steps after which the description of a run exists."""
STEPS = [pytest.param(step, marks=() if step in (5, 6) else pytest.mark.soak) for step in range(9)]
"""Steps before the kill. A description takes two steps, and so does the new manifest; then the part
is moved, then the manifest. 5: all but the manifest is in its place; 6: before the clean-up.
Step 9 releases the lease, which a process that dies does not do."""


def write(folder, name):
    path = folder / f"in/{name}.csv"
    path.parent.mkdir(exist_ok=True)
    lines = [f"good day {name} {number}" for number in range(NUM_ROWS)]
    path.write_text("\n".join(["text", *lines, ""]))


def configure_files(folder, model):
    form = {"kind": "csv", "columns": {"text": "text"}}
    return configure(folder, model, f"{folder}/in/*.csv", format=form, keep_columns=["text"])


def list_files(folder):
    """List the files of the corpus in the order of their arrival, without their folder."""
    files = record(folder)["inputs"]["corpus"]["files"]
    return [item["uri"].rpartition("/")[2].removesuffix(".csv") for item in files]


def check(folder):
    """Check that each row of each file has its number, its text, and one prediction."""
    names = list_files(folder)
    expected = [f"good day {name} {number}" for name in names for number in range(NUM_ROWS)]
    assert table(folder)["text"].tolist() == expected
    assert table(folder)["row_id"].tolist() == list(range(len(expected)))
    rows = sentiflow.read_predictions(folder / "run/scored", with_source=True)
    sources = rows.sort_values("row_id")["source"].str.rpartition("/")[2].tolist()
    assert sources == [f"{name}.csv" for name in names for _ in range(NUM_ROWS)]
    assert not (folder / "run/scored/_work").exists()
    return names


def order_new(names, after):
    """Put new files into the order of their arrival; a run that has no description leaves none."""
    return list(names) if after >= DESCRIBED else sorted(names)


class OneFault(Faults):
    """Kills once: the test has to release what a process that dies leaves to the next one."""

    def step(self):
        try:
            super().step()
        except Kill:
            self.after = None
            raise


class Killed:
    """Scores that are killed at a step of the driver in the storage."""

    def __init__(self, monkeypatch, config):
        self.faults = OneFault(monkeypatch)
        self.config = config

    def score(self, *overrides, after, **options):
        """Score; say whether it ended before the kill."""
        self.faults.after = after
        try:
            score(self.config, *overrides, **options)
        except Kill:
            return False
        finally:
            self.faults.after = None
        return True


@pytest.mark.parametrize("after", STEPS)
@pytest.mark.parametrize("first", ["m", ""], ids=["extended", "new"])
def test_files_that_arrive_between_kills_are_numbered_once(
    tmp_path, model, resources, monkeypatch, first, after
):
    config = configure_files(tmp_path, model)
    killed = Killed(monkeypatch, config)
    arrivals = [first] if first else []
    if first:
        write(tmp_path, first)
        score(config)
    for names in (["k", "z"], ["j"], ["a"]):
        for name in names:
            write(tmp_path, name)
        arrivals += names
        killed.score(after=after)
        if (tmp_path / "run/scored/manifest.json").exists():
            known = list_files(tmp_path)
            assert known == arrivals[: len(known)]
    write(tmp_path, "0")
    score(config)
    assert check(tmp_path) == [*first, *order_new("kzja0", after)]


@pytest.mark.parametrize("after", STEPS)
def test_a_replacement_that_is_killed_keeps_the_numbers(
    tmp_path, model, resources, monkeypatch, after
):
    config = configure_files(tmp_path, model)
    for name in "mka":
        write(tmp_path, name)
        score(config)
    killed = Killed(monkeypatch, config)
    fp32 = "score.precision=fp32"
    killed.score(fp32, after=after, overwrite=True)
    write(tmp_path, "j")
    killed.score(fp32, after=after, overwrite=True)
    write(tmp_path, "0")
    score(config, fp32, overwrite=True)
    assert check(tmp_path) == [*"mka", *order_new("j0", after)]


@pytest.mark.parametrize("first", ["m", ""], ids=["extended", "new"])
def test_a_file_that_is_renamed_after_a_kill_is_scored_once(
    tmp_path, model, resources, monkeypatch, first
):
    """It was not read before the kill, so it is another file."""
    config = configure_files(tmp_path, model)
    if first:
        write(tmp_path, first)
        score(config)
    for name in "kza":
        write(tmp_path, name)
    killed = Killed(monkeypatch, config)
    assert not killed.score(after=2)
    (tmp_path / "in/k.csv").rename(tmp_path / "in/y.csv")
    options = {}
    if not first:
        with pytest.raises(UserError, match=r"unfinished run of other settings .*/k\.csv"):
            score(config)
        options = {"overwrite": True}
    score(config, **options)
    files = list_files(tmp_path)
    texts = table(tmp_path)["text"].tolist()
    assert sorted(files) == sorted([*first, "y", "z", "a"])
    assert len(set(texts)) == len(texts) == NUM_ROWS * len(files)
    assert table(tmp_path)["row_id"].tolist() == list(range(len(texts)))
    assert not (tmp_path / "run/scored/_work").exists()
