import shutil
import subprocess
import sys
from importlib.metadata import version

import pytest
from conftest import PROJECT

from sentiflow.tracking import mlflow_model

MODEL_PACKAGE = PROJECT / "sentiflow/models/package.py"


@pytest.fixture
def script(tmp_path):
    """Write a file that imports in every way."""
    path = tmp_path / "script.py"
    path.write_text(
        "import json, yaml\n"
        "import pyarrow.parquet as pq\n"
        "from sentiflow.storage import uris\n"
        "from sentiflow.data.schema import SPLITS\n"
        "def later():\n"
        "    from sentiflow import errors\n"
    )
    return path


def test_each_kind_of_import_is_seen(script):
    found = mlflow_model.find_modules(script)
    assert [path.relative_to(mlflow_model.FOLDER).as_posix() for path in found] == [
        "__init__.py", "data/__init__.py", "data/schema.py", "errors.py", "storage/__init__.py",
        "storage/uris.py",
    ]  # fmt: skip


def test_packages_are_pinned_as_installed_without_the_build_for_this_machine(script):
    assert mlflow_model.pin_requirements([script]) == [
        f"pyarrow=={version('pyarrow')}", f"pyyaml=={version('pyyaml')}"
    ]  # fmt: skip
    pins = mlflow_model.pin_requirements([MODEL_PACKAGE])
    assert f"torch=={version('torch').partition('+')[0]}" in pins


def test_the_modules_found_are_all_that_a_module_needs(tmp_path):
    paths = mlflow_model.find_modules(MODEL_PACKAGE)
    for path in [*paths, MODEL_PACKAGE]:
        target = tmp_path / path.relative_to(PROJECT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import sentiflow.models.package; "
        "names = [n for n in sys.modules if n.partition('.')[0] == 'sentiflow']; "
        "print(sorted(sys.modules[n].__file__ for n in names))"
    )
    command = [sys.executable, "-I", "-c", script]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    files = sorted(str(path) for path in (tmp_path / "sentiflow").rglob("*.py"))
    assert ran.stdout.strip() == str(files)
