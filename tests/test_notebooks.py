"""The notebooks of ``examples/`` run from top to bottom, and show what they were saved with."""

import itertools
import json
import re
import socket

import nbclient
import nbformat
import pytest
from conftest import PROJECT
from nbformat import NotebookNode

NOTEBOOKS = sorted((PROJECT / "examples").glob("*.ipynb"))


def outputs_of(cell: NotebookNode) -> list[tuple[str, ...]]:
    """List the kinds of a cell's outputs; prints may come in one message or in several."""
    kinds = [
        (output.output_type, output.get("name", ""), *sorted(output.get("data", ())))
        for output in cell.get("outputs", ())
    ]
    return [kind for kind, _ in itertools.groupby(kinds)]


def text_of(book: NotebookNode) -> str:
    return json.dumps([cell.get("outputs", []) for cell in book.cells])


def execute(book: NotebookNode, folder) -> list[str]:
    """Run a notebook; returns the lines that its first call of a job has shown."""
    resources = {"metadata": {"path": str(folder)}}
    client = nbclient.NotebookClient(book, timeout=120, resources=resources, coalesce_streams=True)
    client.execute()
    assert "stderr" not in text_of(book)
    shown = [output for cell in book.cells for output in cell.get("outputs", ())]
    (first, *_) = [output for output in shown if output.output_type == "stream"]
    return first["text"].splitlines()


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_was_saved_with(path, tmp_path):
    book = nbformat.read(path, as_version=4)
    saved = [outputs_of(cell) for cell in book.cells]
    lines = execute(book, tmp_path)
    assert [outputs_of(cell) for cell in book.cells] == saved
    assert lines[0].startswith("prepare")
    assert lines[-1].startswith("evaluate")


@pytest.mark.ray
@pytest.mark.soak
def test_a_job_in_a_cell_shows_its_lines_and_then_its_result(finished_run, tmp_path):
    code = [
        f"import sentiflow; run = sentiflow.run({str(finished_run / 'config.yaml')!r}); run",
        "run.report",
        "run.model.predict(['what a lovely day'])",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in code])
    lines = execute(book, tmp_path)
    assert [line.split()[:2] for line in lines] == [
        [verb, "complete:"] for verb in ("prepare", "train", "score", "evaluate")
    ]
    html = ("execute_result", "", "text/html", "text/plain")
    assert [outputs_of(cell) for cell in book.cells] == [
        [("stream", "stdout"), ("execute_result", "", "text/plain")],
        [html],
        [html],
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_saved_notebook_is_small_and_names_no_machine(path):
    book = nbformat.read(path, as_version=4)
    assert path.stat().st_size < 40_000
    assert all(cell.execution_count for cell in book.cells if cell.cell_type == "code")
    assert not re.search(r"/(tmp|home|root|work|Users)/", text_of(book))
    assert socket.gethostname() not in text_of(book)
