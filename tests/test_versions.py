"""After an upgrade, results of earlier versions are read, or told by their version and kept."""
# ruff: noqa: F811 -- fixtures are imported

import hashlib
import importlib
import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pytest
from conftest import make_store
from test_cli import invoke
from test_format_3 import FORMAT_3, earlier  # noqa: F401

import sentiflow as package
from sentiflow.config import settings
from sentiflow.config.sections import Config
from sentiflow.config.types import ADDED, Settings
from sentiflow.data import manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.output_status import find_status

PLACE = "/srv/reviews"
"""Where the results of format 3 were made."""
THIS = f"sentiflow {package.__version__}"
STAGES = {
    "prepare": "prepared",
    "train": "trained",
    "score": "scored",
    "evaluate": "report",
    "trends": "trends",
}
"""The folder of each stage in a run."""
MODULES = {
    "prepare": "sentiflow.preparation.prepare",
    "train": "sentiflow.training.train",
    "score": "sentiflow.scoring.score",
    "evaluate": "sentiflow.evaluation.evaluate",
    "trends": "sentiflow.shares.trends",
}
"""The module of each stage."""


def write_manifest(path: Path, record: dict[str, Any]) -> None:
    """Write a manifest, with the hashes of the manifests of inner results."""
    for item in record["files"]:
        if item["path"].endswith("manifest.json"):
            content = (path.parent / item["path"]).read_bytes()
            item["bytes"] = len(content)
            item["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(record))


def change_manifests(folder: Path, old: str, new: str) -> None:
    """Replace a text in all manifests, the manifests of inner results first."""
    for path in sorted(folder.rglob("manifest.json"), key=lambda path: -len(path.parts)):
        write_manifest(path, json.loads(path.read_text().replace(old, new)))


def look_at(folder: Path) -> dict[str, str]:
    """Return the hash of each file but those of MLflow."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_file() and not name.startswith("ml"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.fixture
def here(earlier) -> Path:
    """Make the results of version 0.1.0 as if they had been made in the directory of the test."""
    change_manifests(earlier, PLACE, str(earlier))
    with open(earlier / "reviews.yaml", "a") as file:
        file.write(f"tracking: {{uri: '{make_store(earlier)}'}}\n")
    return earlier


@pytest.fixture
def unreadable(here) -> Path:
    """Make results in a format of an earlier version."""
    change_manifests(here, '"format_version": 3', '"format_version": 2')
    return here


# Results that are read


@pytest.mark.parametrize("folder", ["prepared", "trained", "trained/model", "scored", "report"])
def test_every_result_names_the_version_that_made_it(folder):
    record = manifest.read(str(FORMAT_3 / "run" / folder))
    assert record["versions"]["sentiflow"] == "0.1.0"


def test_a_model_of_an_earlier_version_predicts_and_has_its_card(here):
    answers = pd.read_parquet(FORMAT_3 / "answers.parquet")
    text = answers["text"].iloc[0]
    result = invoke("predict", "run", text, "--json")
    assert result.exit_code == 0, result.output
    assert answers["run.predicted_label"].iloc[0] in result.stdout

    result = invoke("card", "run", "--output", "card.md")
    assert result.exit_code == 0, result.output
    written = Path("card.md").read_text()
    assert "0.725" in written or "72.5%" in written


def test_a_run_of_an_earlier_version_is_compared(here):
    result = invoke("compare", "run", "average", "--json")
    assert result.exit_code == 0, result.output
    compared = json.loads(result.stdout)
    assert compared["num_rows"] == 91


def test_shares_of_predictions_of_an_earlier_version_are_measured(here):
    before = look_at(here)
    result = invoke("trends", "reviews.yaml", "trends.output_uri=shares", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)["trends"]
    assert record["versions"]["sentiflow"] == package.__version__
    assert record["counts"]["rows"] == 998
    assert before.items() <= look_at(here).items()


@pytest.mark.ray
@pytest.mark.slow
def test_a_model_of_an_earlier_version_scores_as_it_did(here, resources):
    result = invoke("score", "reviews.yaml", "score.output_uri=again")
    assert result.exit_code == 0, result.output
    before = package.read_predictions(str(here / "run"))
    after = package.read_predictions(str(here / "again"))
    pd.testing.assert_frame_equal(after[before.columns], before, rtol=0, atol=1e-6)


def test_a_report_of_an_earlier_version_is_told_with_its_version_and_kept(here):
    """A report has rules of its own, which rise with the version; the other stages are complete."""
    before = look_at(here)
    result = invoke("run", "reviews.yaml", "--dry-run")
    assert result.exit_code == 2
    assert f"made by sentiflow 0.1.0, this is {THIS}" in result.stdout
    foreseen = result.stderr.strip().splitlines()[-1]
    assert f"made by sentiflow 0.1.0, this is {THIS}: choose another output_uri" in foreseen

    result = invoke("run", "reviews.yaml")
    assert result.exit_code == 2
    assert result.stderr.strip().splitlines()[-1] == foreseen
    assert look_at(here) == before


# Results that are not read

_READERS = {
    "compare": "compare run average",
    "evaluate": "evaluate reviews.yaml evaluate.output_uri=new",
    "trends": "trends reviews.yaml trends.output_uri=new",
    "sample": "trends reviews.yaml --sample 9 --output sample.csv",
    "score": "score reviews.yaml score.output_uri=new",
    "train": "train reviews.yaml train.output_uri=new",
    "import": "tracking import run",
}
"""Commands that read results; model packages of earlier formats are read, see
``test_earlier_formats.py``."""
_WRITERS = {
    "run": "run reviews.yaml",
    "dry run": "run reviews.yaml --dry-run",
    "prepare": "prepare reviews.yaml",
    "dry prepare": "prepare reviews.yaml --dry-run",
}
"""Commands that would replace results."""


@pytest.mark.parametrize("command", [*_READERS.values(), *_WRITERS.values()])
def test_an_unreadable_result_is_told_by_its_version_and_kept(unreadable, command):
    before = look_at(unreadable)
    result = invoke(*command.split())
    assert result.exit_code == 2, result.output
    line = result.stderr.strip().splitlines()[-1]
    assert f"made by sentiflow 0.1.0 in manifest format 2, which {THIS} cannot read" in line
    assert "--overwrite" in line
    assert "another output_uri" in line
    assert "delete" not in result.output
    assert look_at(unreadable) == before


def test_an_unreadable_result_may_be_replaced(unreadable):
    result = invoke("run", "reviews.yaml", "--dry-run", "--overwrite")
    assert result.exit_code == 0, result.output
    assert "would replace: it was made by sentiflow 0.1.0" in result.stdout


@pytest.mark.ray
@pytest.mark.slow
def test_an_unreadable_result_is_replaced_by_a_whole_run(unreadable, resources):
    result = invoke("run", "reviews.yaml", "--overwrite")
    assert result.exit_code == 0, result.output
    for stage in ("prepare", "train", "score", "evaluate"):
        record = manifest.read(str(unreadable / "run" / STAGES[stage]), stage=stage)
        assert record["versions"]["sentiflow"] == package.__version__
    assert not (unreadable / "run/prepared/_work").exists()


# Settings that a later version adds


def add_setting(section: Settings, value: int = 0) -> Settings:
    """Add a setting to a section, as a later version does; its default is 0."""

    class Later(type(section)):
        """A section with one setting more."""

        later: Annotated[int, ADDED] = 0
        """A setting that version 0.1 did not have."""

    return Later(**read_values(section), later=value)


def set_format(section: Settings, form: Settings) -> Settings:
    """Give a section a format with one setting more, which its own type does not allow."""

    class Later(type(section)):
        """A section whose format has one setting more."""

        format: type(form)
        """The format."""

    return Later(**read_values(section) | {"format": form})


def read_values(section: Settings) -> dict[str, Any]:
    """Return the settings of a section by name."""
    return {name: getattr(section, name) for name in type(section).model_fields}


def plan(stage: str, config: Config) -> OutputSpec:
    """Return the spec of the output of a stage."""
    module = importlib.import_module(MODULES[stage])
    return module.resolve(config).spec


def load_later(section: str, value: int = 0) -> Config:
    """Load the config of the results, with a setting more in a section."""
    config = settings.load("reviews.yaml")
    later = add_setting(getattr(config, section), value)
    config = config.model_copy(update={section: later})
    if section == "format":  # the format of scored files comes from it
        config = config.model_copy(update={"score": set_format(config.score, later)})
    return config


@pytest.mark.parametrize("stage", STAGES)
def test_a_new_setting_at_its_default_changes_no_fingerprint(here, stage):
    now = plan(stage, settings.load("reviews.yaml"))
    later = plan(stage, load_later(stage))
    changed = plan(stage, load_later(stage, value=1))

    assert later.fingerprint == now.fingerprint
    assert changed.fingerprint != now.fingerprint
    assert changed.settings["later"] == 1


@pytest.mark.parametrize(
    ("stage", "section"),
    [
        ("prepare", "prepare"),
        ("prepare", "format"),
        ("train", "train"),
        ("score", "score"),
        ("score", "format"),
    ],
)
def test_a_finished_result_stays_complete_when_a_version_adds_a_setting(here, stage, section):
    record = manifest.read(str(here / "run" / STAGES[stage]), stage=stage)
    spec = plan(stage, load_later(section))

    assert spec.fingerprint == record["fingerprint"]
    assert find_status(spec).state == "complete"
    changed = plan(stage, load_later(section, value=1))
    assert "later: null there, 1 here" in find_status(changed).problem


@pytest.mark.parametrize("stage", STAGES)
def test_the_settings_that_decide_a_result_are_those_of_version_0_1(here, stage):
    """A new one has the mark ADDED; without it, results of earlier versions would be refused."""
    record = manifest.read(str(here / "run" / STAGES[stage]), stage=stage)
    spec = plan(stage, settings.load("reviews.yaml"))

    assert settings.flatten(spec.settings).keys() == settings.flatten(record["settings"]).keys()
