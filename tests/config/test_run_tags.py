"""A user's own tags fit into MLflow, and take no name that MLflow or sentiflow uses."""

# ruff: noqa: F401, F811 - fixtures of another file

import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.utils import validation
from test_settings import MINIMAL, faults_of, load, path

from sentiflow.config import run_tags, settings


def test_tags_of_a_file_and_of_the_command_line_come_together(path):
    tags = {"team": "crm", "ticket": 4711, "on call": True, "a.b": "x y"}
    path.write_text(yaml.safe_dump(MINIMAL | {"tracking": {"tags": tags}}))
    config = settings.load(path, ["tracking.tags.team=sales", "tracking.tags.cost.center=7.5"])
    assert config.tracking.tags == {
        "team": "sales",
        "ticket": "4711",
        "on call": "true",
        "a.b": "x y",
        "cost.center": "7.5",
    }


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        ("3", "tracking.tags=3: must be a mapping of names and values, such as {team: crm}"),
        ("{mlflow.user: ann}", "'mlflow.user': names that begin with mlflow. or sentiflow. are"),
        ("{Sentiflow.x: ann}", "'Sentiflow.x': names that begin with mlflow. or sentiflow. are"),
        ("{sentiflow: {run: ann}}", "'sentiflow.run': names that begin with mlflow. or senti"),
        ("{'a=b': c}", "'a=b': a name has letters, digits, _ - . : / and blanks between them"),
        ("{../a: c}", "'../a': a name has letters"),
        ("{' a': c}", "' a': a name has letters"),
        ("{'': c}", "'': a name has letters"),
        ("{a: null}", "'a': a value must be a text or a number"),
        ("{a: [b]}", "'a': a value must be a text or a number"),
        ("{a: ''}", "'a': a value has 1 to 5,000 characters"),
        (f"{{a: {'x' * 5001}}}", "'a': a value has 1 to 5,000 characters"),
        (f"{{{'x' * 251}: b}}", "a name has at most 250 characters"),
        (f"{{{', '.join(f'a{n}: b' for n in range(51))}}}", "51 tags; a run has at most 50"),
        ("{a: 's3://KEY:secret@bucket'}", "tracking.tags.a holds a user name or password"),
    ],
)
def test_a_tag_that_cannot_be_is_one_line(load, tags, problem):
    (line,) = faults_of(load, f"tracking.tags={tags}")
    assert line.startswith("command line: ")
    assert problem in line
    assert "secret@" not in line


def test_a_name_is_allowed_if_mlflow_allows_it():
    names = ["a", "ä b", "a/b", "a//b", "/a", "..a", ".", "a.", "a:b", "a,b", "a\nb", "x" * 250]
    for name in [*names, "x" * 251]:
        try:
            validation._validate_tag(name, "value")
        except MlflowException:
            assert not run_tags.is_own(name), name
        else:
            assert run_tags.is_own(name), name
