"""A run from a stranger among the reader's own files, and hostile changes to it."""

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import make_store, new_package
from saved_package import forge
from stages import publish
from test_evaluated_rows import Runs, by_tens
from test_rebuild import describe

from sentiflow.data import manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.schema import SPLITS
from sentiflow.tracking import experiment_store, model_registry, recording

RUN = "shared/received/run"
"""The run that was received, and that tests make hostile."""
OTHER = "shared/other/run"
"""Another run of the same name."""
MODEL = "trained/model"
NAME = "received"
_WRITTEN = ("out/", "store/mlflow.db", "home/.ray")
"""Paths that commands write: their results, their runs in MLflow, and Ray's token."""


@dataclass(frozen=True)
class Box:
    """A folder with everything that a hostile run could reach."""

    root: Path
    champion: Path
    """The package of the received run in MLflow's artifacts."""

    def __truediv__(self, path: str) -> Path:
        return self.root / path

    def look(self) -> dict[str, tuple[str, str]]:
        """Return the kind and the content of each path, except paths that commands write."""
        found = {}
        for folder, folders, files in os.walk(self.root):
            for name in (*folders, *files):
                path = Path(folder, name)
                relative = str(path.relative_to(self.root))
                if relative.startswith(_WRITTEN):
                    continue
                if path.is_symlink():
                    found[relative] = ("link", os.readlink(path))
                elif path.is_file():
                    found[relative] = ("file", hashlib.sha256(path.read_bytes()).hexdigest())
                else:
                    found[relative] = ("folder", "")
        return found


@pytest.fixture(scope="module")
def received(tmp_path_factory) -> Box:
    """Make two runs, register their models, and copy the whole folder next to it."""
    root = tmp_path_factory.mktemp("hostile") / "box"
    lay(root)
    store = make_store(root / "store")
    opened = experiment_store.open_store(store, experiment=NAME, required=True)
    for seed, place in enumerate((RUN, OTHER)):  # the second is the candidate
        make_run(root / place, seed=seed)
        with recording.open_run(opened, "train", group="0123abcd", tags={}) as recorder:
            package = str(root / place / MODEL)
            model_registry.register(package, name=NAME, tracking_uri=store, run_id=recorder.run_id)
    source = Path(model_registry.resolve(f"models:/{NAME}/1", tracking_uri=store).source)
    shutil.copy(root / RUN / "scored/predictions/part-0.parquet", root / "victim")
    shutil.copy(root / RUN / MODEL / "weights.safetensors", root / "victim")
    csv = root / "shared/messages.csv"
    labels = {"negative": ["bad"], "positive": ["good"]}
    csv.write_text("text,label\n" + "so nice,good\nso sad,bad\n" * 50)
    prepared = {"prepared_uri": str(root / OTHER / "prepared")}
    config = {
        "name": NAME, "output_uri": str(root / "out/run"), "tracking": {"uri": store},
        "prepare": {"csv": str(csv)}, "score": prepared,
        "format": {"kind": "csv", "columns": {"text": "text", "label": "label"}, "labels": labels},
        "train": prepared | {"model": {"hidden_size": 6}},
    }  # fmt: skip
    (root / "shared/config.yaml").write_text(yaml.safe_dump(config))
    for code in source.parents[1].glob("*/artifacts/code"):
        shutil.rmtree(code)
    shutil.copytree(root, root.with_name("copy"))
    return Box(root, source / "artifacts/package")


def lay(root: Path) -> None:
    """Make the reader's own folders."""
    for name in ("home/.bashrc", "victim/notes.txt", "victim/deep/more.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"mine: {name}\n")
    for name in ("out", "store"):
        (root / name).mkdir()


def make_run(run: Path, *, seed: int) -> None:
    """Write the outputs of the four stages of a run, with a real model package."""
    runs = Runs(run.parent)
    trained = str(run / "trained")
    prepared = runs.prepare("run")
    labels = {split: {"negative": 100, "positive": 100, "unlabelled": 0} for split in SPLITS}
    counts = {"rows_read": 600, "accepted": 600, "rejected": 0, "rejected_by_reason": {}}
    put("counts", counts | {"left_out": 0, "labels": labels}, "prepared")(None, run)
    put("settings.split", {"kind": "hash"}, "prepared")(None, run)
    repeats = {
        "repeated_texts": 0, "surplus_rows": 0, "within": {},
        "leaked_rows": {"test_in_train": 0},
    }  # fmt: skip
    duplicates = {
        "rows": {}, "normalized": repeats, "dropped": {},
        "contradicting": {"texts": 0, "rows": {}},
    }  # fmt: skip
    put("duplicates", duplicates, "prepared")(None, run)
    classes = ["negative", "positive", "neutral"]
    put("classes", classes, "prepared")(None, run)
    put("fixed_splits", [], "prepared")(None, run)
    inputs = {"prepared": manifest.reference(prepared, manifest.read(prepared))}
    spec = OutputSpec("train", trained, {}, inputs)
    made_by = {"uri": trained, "fingerprint": spec.fingerprint}
    lineage = inputs | {"training": made_by}
    model = new_package(seed=seed).save(f"{trained}/model", lineage=lineage)
    publish(
        spec, run=describe("train", registers_model=True), history=[], chosen_epoch=1,
        counts={"rows": 210, "epochs": 1, "parameters": 51}, num_workers=1, device="cpu",
        precision="fp32", model_fingerprint=model["fingerprint"],
    )  # fmt: skip
    wrong = range(9, 300, 20 + seed)
    runs.score("run", prepared, trained, split=by_tens(), wrong=wrong, classes=classes)
    counts = {"rows_read": 600, "accepted": 600, "rejected": 0, "prior_only": 0}
    put("counts", counts, "scored")(None, run)
    scored = manifest.reference(f"{run}/scored", manifest.read(f"{run}/scored"))
    (run / "report").mkdir()
    (run / "report/model_card.md").write_text("# A card\n")
    spec = OutputSpec("evaluate", f"{run}/report", {}, {"scored": scored})
    files = [{"path": "model_card.md", "rows": None, "bytes": 9}]
    publish(spec, files=files, run=describe("evaluate", artifacts=["model_card.md"]))


@pytest.fixture
def box(received, monkeypatch, tmp_path_factory) -> Box:
    """Restore the folder from its copy, and go to the directory where commands may write."""
    copy = received.root.with_name("copy")
    before = Box(copy, copy).look()
    now = received.look()
    new = now.keys() - before.keys()
    for name in sorted(new, reverse=True):  # a folder after its files
        path = received / name
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    changed = [name for name, content in before.items() if now.get(name) != content]
    for name in sorted(changed):  # a folder before its files
        path = received / name
        path.unlink(missing_ok=True)
        kind, _ = before[name]
        if kind == "folder":
            path.mkdir()
        else:
            shutil.copy(copy / name, path)
    shutil.rmtree(received / "out")
    (received / "out").mkdir()
    monkeypatch.chdir(received / "out")
    monkeypatch.setenv("HOME", str(received / "home"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path_factory.getbasetemp()))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{received / 'store/mlflow.db'}")
    return received


MISSING = "(missing)"
Change = Callable[[Box, Path], None]
"""Changes a box, at the directory of a package or of a run."""


def put(key: str, value: Any, at: str = "") -> Change:
    """Set a dotted key of a manifest, with the matching fingerprint, which anybody can compute.

    ``{box}`` in a value stands for the path of the box. The value :data:`MISSING` removes the key.
    """

    def change(box: Box | None, place: Path) -> None:
        path = place / at / "manifest.json"
        record = json.loads(path.read_text())
        *outer, last = [int(name) if name.isdigit() else name for name in key.split(".")]
        item = record
        for name in outer:
            item = item[name]
        item[last] = value
        if value == MISSING:
            del item[last]
        with contextlib.suppress(TypeError, KeyError, AttributeError):  # a value of a wrong type
            record["fingerprint"] = manifest.identify(
                record["stage"],
                record["settings"],
                record["inputs"],
                format_version=record["format_version"],
            )
        root = str(box.root) if box else ""
        path.write_text(json.dumps(record).replace("{box}", root))

    return change


def set_up(**values: Any) -> Change:
    """Change settings of a package, in both of its files, with matching checksums."""

    def change(box: Box, package: Path) -> None:
        settings = json.loads((package / "settings.json").read_text()) | values
        put("settings", settings)(box, package)
        forge(str(package), settings=json.dumps(settings).encode())

    return change


def rewrite(edit: Callable[[str], str], at: str = "manifest.json") -> Change:
    """Change the text of a file."""

    def change(box: Box, place: Path) -> None:
        text = edit((place / at).read_text())
        (place / at).write_bytes(text.encode(errors="surrogateescape"))

    return change


def link(name: str, to: str, *, key: str = "") -> Change:
    """Replace a file or folder by a link; set ``key`` of the manifest to the size of its target."""

    def change(box: Box, place: Path) -> None:
        path = place / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(box / to)
        if key:
            put(key, (box / to).stat().st_size, str(Path(name).parent))(box, place)

    return change


def plant(what: Callable[[Box, Path, Path], None], at: str) -> Change:
    """Plant the staging folders of a killed job in, above, below or next to a result.

    Args:
        what: One of the functions ``plant_…``: gets the box, the folder to plant in, and a
            directory with a manifest.
        at: The folder to plant in, relative to the result.
    """

    def change(box: Box, place: Path) -> None:
        folder = Path(os.path.normpath(place / at))
        folder.mkdir(exist_ok=True)
        places = (folder, place, place / MODEL)
        results = [item for item in places if (item / "manifest.json").exists()]
        what(box, folder, results[0])

    return change


def plant_deletion(box: Box, folder: Path, result: Path) -> None:
    """Plant an unfinished exchange that would delete files outside the folder."""
    (folder / "_next").mkdir()
    shutil.copy(result / "manifest.json", folder / "_next")
    near = os.path.relpath(box / "victim/notes.txt", folder)
    owns = [str(box / "victim/deep"), near, str(box / "home")]
    (folder / "_next/started.json").write_text(json.dumps({"stage": "model", "owns": owns}))


def plant_replacement(box: Box, folder: Path, result: Path) -> None:
    """Plant an unfinished exchange that would move a file through a link."""
    (folder / "_next/d").mkdir(parents=True)
    (folder / "d").symlink_to(box / "home")
    (folder / "_next/d/.bashrc").write_text("theirs")
    (folder / "_next/started.json").write_text('{"owns": []}')
    record = json.loads((result / "manifest.json").read_text())
    record["files"].append({"path": "d/.bashrc", "rows": None, "bytes": 6, "sha256": "0" * 64})
    (folder / "_next/manifest.json").write_text(json.dumps(record))


def plant_work(box: Box, folder: Path, result: Path) -> None:
    """Plant the work of a dead job, which a new job might take over or delete."""
    owner = {"host": os.uname().nodename, "boot_id": "b", "pid": 2**22 + 1, "started": 1.0}
    claim = owner | {"job": "train", "since": "2026-11-26T09:00:00+00:00"}
    started = {"stage": "model", "owns": [str(box / "victim"), "../../victim"], "overwrite": True}
    work = folder / "_work"
    key = uuid.uuid4().hex[:16]
    contents = {
        folder / f"_lease/{uuid.uuid4().hex}.json": claim,
        work / "started.json": started,
        work / key / "started.json": started,
        work / key / "model/manifest.json": json.loads((result / "manifest.json").read_text()),
        work / "receipts/0.json": {"files": [{"path": str(box / "victim/notes.txt"), "bytes": 1}]},
        folder / "_swap/manifest.json": started,
    }
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    (work / key / "model/d").symlink_to(box / "home")


def bait(key: str, at: str = "") -> Change:
    """Set a URI in a manifest to a folder with an unfinished exchange."""

    def change(box: Box, place: Path) -> None:
        folder = box / "shared/bait"
        shutil.copytree(box / OTHER / "trained", folder)
        plant_deletion(box, folder, folder)
        put(key, "{box}/shared/bait", at)(box, place)

    return change
