"""The Python interface: its examples, in docs/python.md and in docstrings, answer as written."""

import doctest
import inspect
import logging
import re
import shutil
import subprocess
import sys
import typing

import pandas as pd
import pytest
import yaml
from conftest import PROJECT, make_store
from test_pages import blocks_of, form_of
from test_startup import loaded

import sentiflow

FUNCTIONS = [name for name in sentiflow.__all__ if inspect.isfunction(getattr(sentiflow, name))]


class FormChecker(doctest.OutputChecker):
    """Compares all but numbers: they hang on the data."""

    def check_output(self, want: str, got: str, flags: int) -> bool:
        got = re.sub(r"^sentiflow\.errors\.", "", got)
        got = re.sub(r" \(the network alone [\d.]+\)", "", got)  # the demo has no linear model
        want = re.sub(r"^sentiflow\.errors\.", "", want)
        return form_of(want) == form_of(got)


def run_examples(text: str, name: str, **known: object) -> int:
    """Run the examples of a text, which knows some names; returns their number."""
    names = {"sentiflow": sentiflow, **known}
    test = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    runner = doctest.DocTestRunner(FormChecker(), verbose=False)
    assert runner.run(test, clear_globs=False).failed == 0
    return len(test.examples)


def explain(what: object) -> str:
    """Take the docstring, with the examples that are skipped where there is no run."""
    return inspect.getdoc(what).replace("# doctest: +SKIP", "")


@pytest.fixture(scope="module")
def place(finished_run, tmp_path_factory):
    """Make a directory in which a run is as `make demo` leaves it."""
    folder = tmp_path_factory.mktemp("demo")
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    config |= {"name": "quickstart", "output_uri": "runs/quickstart"}
    config["tracking"] = {"uri": make_store(folder)}
    shutil.copytree(finished_run / "run", folder / "runs/quickstart")
    (folder / "configs").mkdir()
    (folder / "configs/quickstart.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture
def here(place, monkeypatch, caplog):
    monkeypatch.chdir(place)
    caplog.set_level(logging.WARNING, "sentiflow")
    with pd.option_context("display.width", 80):
        yield place


@pytest.mark.ray
@pytest.mark.slow
def test_the_page_answers_as_it_stands_there(here):
    assert run_examples("\n".join(blocks_of("python", "python")), "docs/python.md") > 20


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*FUNCTIONS} - {"read_texts", "promote", "write_answers"}))
def test_the_example_of_a_function_answers_as_it_stands_there(name, here):
    assert run_examples(explain(getattr(sentiflow, name)), name) >= 1


@pytest.mark.ray
@pytest.mark.slow
def test_the_examples_of_a_model_answer_as_they_stand_there(here):
    model = sentiflow.load_model("runs/quickstart")
    for what in (type(model), model.predict, model.predict_proba):
        assert run_examples(explain(what), what.__name__, model=model) >= 1


def test_every_public_name_is_there_and_explained():
    for name in set(sentiflow.__all__) - {"__version__"}:
        assert inspect.getdoc(getattr(sentiflow, name))
        assert name in dir(sentiflow)
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        sentiflow.nope  # noqa: B018


def test_every_function_says_its_types():
    for name in FUNCTIONS:
        signature = inspect.signature(getattr(sentiflow, name))
        assert signature.return_annotation is not inspect.Signature.empty, name
        for parameter in signature.parameters.values():
            assert parameter.annotation is not inspect.Parameter.empty, name


def test_an_editor_sees_the_types(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sentiflow\n"
        "run = sentiflow.run({'name': 'x'}, {'train.num_epochs': 1})\n"
        "reveal_type(run.predictions.to_pandas())\n"
        "reveal_type(run.metrics)\n"
        "reveal_type(sentiflow.load_model('x').predict(['a']))\n"
        "reveal_type(sentiflow.train('x').model.classes)\n"
        "run.nope\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", PROJECT / "pyproject.toml", program]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=200)
    shown = re.findall(r'Revealed type is "(.+?)"', done.stdout)
    assert [kind.rpartition(".")[2] for kind in shown[:1] + shown[2:3]] == ["DataFrame"] * 2, shown
    assert '"Run" has no attribute "nope"' in done.stdout


def test_importing_it_loads_nothing_heavy():
    assert loaded("import sentiflow; sentiflow.UserError, sentiflow.run") == set()
    script = (
        "import sys; before = {*sys.modules}; import sentiflow; print(*({*sys.modules} - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    others = {name for name in done.stdout.split() if not name.startswith("sentiflow")}
    assert not {name.partition(".")[0] for name in others} - sys.stdlib_module_names
    assert typing.TYPE_CHECKING is False
