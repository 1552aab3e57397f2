"""A job's upload is what it imports and reads, measured as Ray packs it."""

import shutil
import zipfile
from pathlib import Path

import pytest
from test_mlflow_model import find_modules

from sentiflow.cluster import upload
from sentiflow.cluster.upload import Upload
from sentiflow.errors import UserError

MOST_BYTES = 1_500_000


@pytest.fixture(scope="module")
def found(clone) -> Upload:
    return upload.measure(clone)


def test_results_and_data_in_a_clone_are_not_uploaded(found):
    tops = {name.partition("/")[0] for name in found.sizes}
    assert tops == {"sentiflow", "jobs", "configs", "pyproject.toml", "constraints.txt"}


def test_an_upload_is_small(found):
    assert found.num_bytes < MOST_BYTES, found.largest(10)


def test_it_holds_all_that_jobs_import_and_read(found, clone):
    jobs = sorted((clone / "jobs").glob("*.py"))
    assert len(jobs) >= 6
    package = Path(upload.__file__).parents[1]
    imported = [file for job in jobs for file in find_modules(job)]
    modules = {file.relative_to(package).as_posix() for file in imported}
    assert {f"sentiflow/{name}" for name in modules} <= set(found.sizes)
    suffixes = (".j2", ".css", ".yaml")
    data = {f.relative_to(package) for f in package.rglob("*") if f.suffix in suffixes}
    assert {f.suffix for f in data} == set(suffixes)
    assert {f"sentiflow/{name.as_posix()}" for name in data} <= set(found.sizes)


def test_it_is_what_ray_packs(found, clone, tmp_path):
    """Byte for byte the archive of Ray's own client."""
    from ray._private import ray_constants
    from ray._private.runtime_env import packaging

    excludes = ray_constants.get_runtime_env_default_excludes()
    path = tmp_path / "package.zip"
    packaging.create_package(str(clone), path, include_gitignore=True, excludes=excludes)
    with zipfile.ZipFile(path) as archive:
        packed = {i.filename: i.file_size for i in archive.infolist() if not i.is_dir()}
    assert packed == found.sizes
    assert path.stat().st_size < MOST_BYTES


def test_a_directory_without_rayignore_is_measured_whole_but_for_git_and_venv(clone, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(clone, folder)
    (folder / ".rayignore").unlink()
    tops = {name.partition("/")[0] for name in upload.measure(folder).sizes}
    assert {"data", "docs", ".env"} <= tops
    assert not {".git", ".venv", "runs"} & tops


def test_what_is_too_large_is_named(tmp_path):
    (tmp_path / "data").mkdir()
    for name, size in (("data/tweets.csv", 25_000_000), ("data/a.csv", 10), ("b.py", 2_000)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    with pytest.raises(UserError) as error:
        upload.measure(tmp_path).check()
    assert str(error.value) == (
        "the upload has 25.0 MB, more than 20.0 MB: data/tweets.csv 25.0 MB, "
        "b.py 2 kB, data/ 0 kB: add data to .rayignore, and give its URI in the settings"
    )
