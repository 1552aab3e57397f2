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

NOTEBOOKS = sorted((PROJECT / "examples").glob("*.ipynb"), reverse=True)
"""The first one runs in each test of all."""


def outputs_of(cell: NotebookNode) -> list[tuple[str, ...]]:
    """List the kinds of a cell's outputs; prints may come in one message or in several."""
    kinds = [
        (output.output_type, output.get("name", ""), *sorted(output.get("data", ())))
        for output in cell.get("outputs", ())
    ]
    return [kind for kind, _ in itertools.groupby(kinds)]


def text_of(book: NotebookNode) -> str:
    return json.dumps([cell.get("outputs", []) for cell in book.cells])


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [NOTEBOOKS[0], *(pytest.param(path, marks=pytest.mark.soak) for path in NOTEBOOKS[1:])],
    ids=lambda path: path.stem,
)
def test_a_notebook_runs_and_shows_what_it_was_saved_with(path, tmp_path):
    book = nbformat.read(path, as_version=4)
    saved = [outputs_of(cell) for cell in book.cells]
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=120, resources=resources).execute()
    assert [outputs_of(cell) for cell in book.cells] == saved
    assert "stderr" not in text_of(book)
    shown = [output for cell in book.cells for output in cell.get("outputs", ())]
    (first, *_) = [o for o in shown if o.output_type == "display_data"]
    lines = first["data"]["text/plain"].splitlines()
    assert lines[0].startswith("prepare")
    assert lines[-1].startswith("evaluate")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_saved_notebook_is_small_and_names_no_machine(path):
    book = nbformat.read(path, as_version=4)
    assert path.stat().st_size < 40_000
    assert all(cell.execution_count for cell in book.cells if cell.cell_type == "code")
    assert not re.search(r"/(tmp|home|root|work|Users)/", text_of(book))
    assert socket.gethostname() not in text_of(book)
