"""What works where only the packages of ``requirements-predict.txt`` are installed."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pytest
from conftest import PROJECT

from sentiflow.models.package import ModelPackage

TEXTS = ["good morning", "bad bad day", "", "unheard of"]
LIBRARY = """
import json, sys, sentiflow
predictions = sentiflow.load_model(sys.argv[1]).predict(sys.argv[2:])
print(json.dumps(predictions.to_pydict()))
"""
COMMAND = "from sentiflow.cli.app import main; main()"


def run(code: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROJECT / "tests/without_packages.py", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(PROJECT)}, cwd=PROJECT, input=stdin,
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip


@pytest.fixture(scope="module")
def package(make_package) -> str:
    return make_package()


def test_python_gets_an_arrow_table_with_the_same_answers(package):
    done = run(LIBRARY, package, *TEXTS)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    expected = ModelPackage.load(package).score(pa.array(TEXTS))
    assert answers["num_tokens"] == expected.num_tokens.tolist()
    assert answers["confidence"] == pytest.approx(expected.confidence.tolist(), abs=1e-5)


def test_the_command_answers_arguments_and_lines(package):
    typed = run(COMMAND, "predict", package, *TEXTS)
    assert typed.returncode == 0, typed.stderr
    assert [line.split("\t")[2] for line in typed.stdout.splitlines()] == TEXTS
    piped = run(COMMAND, "predict", package, stdin="\n".join(TEXTS))
    assert piped.stdout == typed.stdout
    average = run(COMMAND, "predict", f"[{package}, {package}/]", "good")
    assert average.returncode == 0, average.stderr


def test_an_explanation_is_an_arrow_table_and_says_that_a_data_frame_needs_pandas(package):
    code = """
import sys, sentiflow
why = sentiflow.load_model(sys.argv[1]).explain("good morning")
print(why.table["word"].to_pylist())
why.to_pandas()
"""
    done = run(code, package)
    assert done.stdout == "['good', 'morning']\n"
    assert (
        "UserError: to_pandas() needs the package pandas, which is not installed: " in done.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["predict", "models:/fast@champion", "good"], "mlflow"),
        (["prepare", "configs/quickstart.yaml"], "psutil"),
    ],
)
def test_what_needs_more_packages_says_so_in_one_line(arguments, absent):
    done = run(COMMAND, *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"sentiflow: this needs the package {absent}, which is not installed: ")


def test_python_raises_an_error_that_says_so():
    code = "import sentiflow; sentiflow.load_model('runs:/1/model')"
    done = run(code)
    assert "UserError: this needs the package mlflow, which is not installed: " in done.stderr
