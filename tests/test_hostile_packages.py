"""A reader never writes, moves or deletes: a package or a manifest from a stranger is data.

Each case is a hostile change to what was received, and a command that reads it. Whatever lies
around stays as it is, and the command works, or ends in one line.
"""
# ruff: noqa: F811 -- fixtures are imported

import itertools
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import make_store
from hostile_run import (  # noqa: F401
    MISSING,
    MODEL,
    NAME,
    OTHER,
    RUN,
    Box,
    Change,
    bait,
    box,
    lay,
    link,
    plant,
    plant_deletion,
    plant_replacement,
    plant_work,
    put,
    received,
    rewrite,
    set_up,
)  # fmt: skip
from test_cli import invoke

import sentiflow
from sentiflow.errors import JobError, UserError
from sentiflow.tracking import model_registry

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

OF_MODEL = {
    "predict": "predict {model} good",
    "card": "card {model}",
    "words": "words nearest good --vectors {model}",
    "init": "init {box}/shared/messages.csv --model {model} --output new.yaml",
    "score": "score {box}/shared/config.yaml --dry-run score.model_uri={model}",
    "init_from": "train {box}/shared/config.yaml --dry-run train.init_from={model}",
    "teachers": "train {box}/shared/config.yaml --dry-run train.distill.teachers=[{model}]",
    "load_model": "",
}
OF_CHAMPION = {
    "champion": f"predict models:/{NAME}@champion good",
    "promote": "promote {box}/shared/config.yaml --force",
}
OF_RUN = {
    "compare": "compare {run} {other}",
    "compare to": "compare {other} {run}",
    "import": "tracking import {run} --tracking-uri sqlite:///imported.db",
}
COMMANDS = OF_MODEL | OF_CHAMPION | OF_RUN


def carry_out(command: str, box: Box, model: Path) -> Any:
    """Run a command line, or the Python call, in this process."""
    if command == "import":
        make_store(box / "out", "imported.db")
    if command in OF_CHAMPION:
        version, store = model_registry.Version(NAME, 1), os.environ["MLFLOW_TRACKING_URI"]
        model_registry.set_alias(version, model_registry.CHAMPION, tracking_uri=store)
    if command != "load_model":
        names = {"model": model, "box": box.root, "run": box / RUN, "other": box / OTHER}
        return invoke(*COMMANDS[command].format(**names).split())
    code, said = 0, ""
    try:
        sentiflow.load_model(model).predict(["good"])
    except (UserError, JobError) as error:
        code, said = (2 if isinstance(error, UserError) else 1), f"sentiflow: {error}\n"
    return SimpleNamespace(exit_code=code, stderr=said, output=said)


def check_ended_well(result: Any, expected: str = "") -> None:
    """A command has worked, or ended in one clear line; ``expected`` is one of the two."""
    assert not _UNPRINTABLE.search(result.output)
    if result.exit_code == 0:
        assert expected != "refused", result.output
        return
    assert expected != "works", result.stderr[-2000:]
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.stderr, result.stderr[-2000:]
    line = result.stderr[result.stderr.index("sentiflow: ") :]
    assert line.count("\n") == 1
    assert len(line) < 1000


LONG = "a" * 5000
PATHS = {
    "absolute": "{box}/victim/notes.txt",
    "above": "../../../../../victim/notes.txt",
    "through": "a/../../../../../../victim/notes.txt",
    "dotted": "./settings.json",
    "doubled": "a//settings.json",
    "backslashed": "..\\\\..\\\\victim",
    "empty": "",
    "NUL": "a\0b",
    "escape": "a\x1b[2Jb",
    "line": "a\nsentiflow: all is well",
    "surrogate": "\ud800",
    "long": LONG,
}
KINDS = {
    "null": None, "number": 7, "text": "x", "list": ["x"], "dict": {"x": 1}, "missing": MISSING,
}  # fmt: skip
PLANTS = {"deletion": plant_deletion, "replacement": plant_replacement, "work": plant_work}


def put_each(values: dict[str, Any], *keys: str, at: str = "") -> dict[str, Change]:
    """Put each value at each key."""
    return {
        f"{at}:{key}={name}".lstrip(":"): put(key, value, at)
        for key in keys
        for name, value in values.items()
    }


def plant_each(*places: str) -> dict[str, Change]:
    """Plant each kind of staging in each place, relative to what is read."""
    return {
        f"{name} {place}": plant(what, place) for name, what in PLANTS.items() for place in places
    }


OUTSIDE = plant_each("..", "../../..", "../beside")
IN_PACKAGE = plant_each(".", "below")
IN_RUN = plant_each(".", "report", "scored", "trained", "trained/model", "prepared")
LINKS = {
    "weights are a file elsewhere": link("weights.safetensors", "victim/notes.txt"),
    "settings are a file at home": link("settings.json", "home/.bashrc"),
    "manifest is a file at home": link("manifest.json", "home/.bashrc"),
    "a folder is the home": link("d", "home"),
    "_next is a folder elsewhere": link("_next", f"{OTHER}/trained"),
    "_lease is a folder elsewhere": link("_lease", "victim"),
    "_work is a folder elsewhere": link("_work", "victim"),
}
NAMES = {
    "escape": "\x1b[2Jgood",
    "line": "good\nsentiflow: all is well",
    "return": "good\rbad",
    "NUL": "go\0od",
    "reversed": "\u202egood",
}
CLASSES = {f"class {name}": set_up(classes=[text, "bad"]) for name, text in NAMES.items()}
OTHERS = {f"tokenizer {name}": set_up(tokenizer=text) for name, text in NAMES.items()} | {
    "class long": set_up(classes=[LONG, "bad"]),
    "class empty": set_up(classes=["", "bad"]),
    "no class": set_up(classes=[], priors=[]),
}
NUMBERS = {
    f"{key} {value}": set_up(**{key: value})
    for key, value in [
        *(("temperature", value) for value in (1e-320, -1, 0, math.nan, math.inf, 10**400)),
        *(("max_length", value) for value in (-5, 0, 1.5, True)),
        *(("vocabulary_size", value) for value in (-1, 10**20)),
        ("priors", [math.nan, 1]),
    ]
} | {
    **put_each({"-1": -1, "NaN": math.nan, "text": "9"}, "files.0.bytes"),
    **put_each({"-5": -5, "text": "5"}, "files.0.rows"),
    **put_each({"99": 99, "true": True, "0": 0, "text": "2", "2.5": 2.5}, "format_version"),
    "seconds=1e400": rewrite(lambda text: text.replace('"seconds": 0', '"seconds": 1e400')),
}
TEXTS = {
    "deep": rewrite(lambda text: f'{{"history": {"[" * 2000}{"]" * 2000}, {text[1:]}'),
    "a key twice, first": rewrite(lambda text: f'{{"files": [], "inputs": 7, {text[1:]}'),
    "a key twice, last": rewrite(lambda text: f'{text.rstrip()[:-1]}, "files": [], "inputs": 7}}'),
    "not JSON": rewrite(lambda text: text[:-20]),
    "not UTF-8": rewrite(lambda text: text.replace("sentiflow", "\udcff")),
    "NaN alone": rewrite(lambda text: "NaN"),
    "deep settings": rewrite(lambda text: "[" * 2000, "settings.json"),
}
KEYS = (
    "stage", "settings", "inputs", "files", "counts", "metrics", "calibration", "reference",
    "refit", "run", "history", "fingerprint", "versions", "files.0", "files.0.sha256",
    "settings.classes", "settings.members", "settings.model", "inputs.content", "inputs.training",
    "inputs.members",
)  # fmt: skip
TYPES = put_each(KINDS, *KEYS)
URIS = {
    **put_each(PATHS, "inputs.training.uri"),
    "training:staged": bait("inputs.training.uri"),
    "members": put("inputs.members", {"fingerprint": "aa", "models": [{"uri": "../../victim"}]}),
    "many members": put("settings.members", [{}] * 3),
}
OF_STAGES = {
    **put_each(PATHS, "files.0.path", at="trained/model"),
    **put_each(PATHS, "files.0.path", "inputs.model.uri", "inputs.corpus.uri", at="scored"),
    **put_each(PATHS, "files.0.path", "run.artifacts.0", "inputs.scored.uri", at="report"),
    **put_each(PATHS, "inputs.prepared.uri", at="trained"),
    **{f"taught {n}": put("taught", {"uri": v, "fingerprint": "aa"}, "trained")
       for n, v in PATHS.items()},
    **{f"trial {n}": put("trials", [{"name": v, "status": "finished"}], "trained")
       for n, v in PATHS.items()},
    "corpus:staged": bait("inputs.corpus.uri", "scored"),
    "training:staged": bait("inputs.model.training.uri", "scored"),
    "prepared:staged": bait("inputs.prepared.uri", "trained"),
    "scored:staged": bait("inputs.scored.uri", "report"),
}  # fmt: skip
TYPES_OF_STAGES = {
    **put_each(KINDS, "settings", "inputs", "files", "classes", "inputs.model", "inputs.corpus",
               "inputs.model.settings", "inputs.model.members", at="scored"),
    **put_each(KINDS, "inputs", "settings", "run", "history", "taught", at="trained"),
    **put_each(KINDS, "inputs", "files", "run", "run.artifacts", "run.training", at="report"),
}  # fmt: skip
OF_LINEAGE = {
    **put_each(KINDS, "counts", "settings", "inputs", "created", "history", at=".."),
    **put_each(KINDS, "counts", "settings", "inputs", "duplicates", "classes", at="../../prepared"),
}
"""Manifests of the training and the data of a package."""
READ_ELSEWHERE = {
    "the weights": (link("weights.safetensors", "victim/weights.safetensors"), "predict"),
    "predictions": (
        link("scored/predictions/part-0.parquet", "victim/part-0.parquet"), "compare"),
    "a folder of predictions": (link("scored/predictions", "victim"), "compare"),
    "predictions by path": (
        put("files.0.path", "predictions/../../../../../victim/part-0.parquet", "scored"),
        "compare"),
}  # fmt: skip
"""What a manifest lists is elsewhere: its content is not taken for part of what was received."""


def cases(
    changes: dict[str, Change], commands: Iterable[str], *, each: int, expected: str = ""
) -> Iterator[Any]:
    """Pair each change with each command; but for ``make soak``, take ``each``-th pairs alone."""
    pairs = itertools.product(changes.items(), commands)
    for number, ((name, change), command) in enumerate(pairs):
        marks = [pytest.mark.soak] if number % each else []
        yield pytest.param(change, command, expected, id=f"{name}-{command}", marks=marks)


OF_PACKAGE = [*OF_MODEL, *OF_CHAMPION]
FEW = ("card", "predict", "score", "init_from", "champion")
CASES = [
    *cases(OUTSIDE, OF_PACKAGE, each=3, expected="works"),
    *cases(IN_PACKAGE, OF_PACKAGE, each=3),
    *cases(IN_RUN, OF_RUN, each=5),
    *cases(LINKS, OF_PACKAGE, each=7),
    *cases(put_each(PATHS, "files.0.path"), OF_PACKAGE, each=7),
    *cases(URIS, FEW, each=4),
    *cases(CLASSES, FEW, each=4, expected="refused"),
    *cases(OTHERS, FEW, each=4),
    *cases(NUMBERS, FEW, each=7),
    *cases(TEXTS, FEW, each=4),
    *cases(TYPES, FEW, each=19),
    *cases(OF_LINEAGE, ("card",), each=5),
    *cases(OF_STAGES, OF_RUN, each=17),
    *cases(TYPES_OF_STAGES, OF_RUN, each=17),
    *(
        pytest.param(change, command, "refused", id=f"{name} elsewhere-{command}")
        for name, (change, command) in READ_ELSEWHERE.items()
    ),
]


def choose_place(box: Box, command: str) -> Path:
    """Name the directory that a command reads: a package, a run, or the artifacts of MLflow."""
    if command in OF_RUN:
        return box / RUN
    return box.champion if command in OF_CHAMPION else box / RUN / MODEL


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_not_hostile_is_read(box, command):
    before = box.look()
    check_ended_well(carry_out(command, box, box / RUN / MODEL), "works")
    assert box.look() == before


@pytest.mark.parametrize("command", OF_MODEL)
def test_a_package_is_read_through_a_link_to_it(box, command):
    (box / "shared/link").symlink_to(box / RUN / MODEL)
    before = box.look()
    check_ended_well(carry_out(command, box, box / "shared/link"), "works")
    assert box.look() == before


@pytest.mark.parametrize(("change", "command", "expected"), CASES)
def test_a_hostile_run_changes_nothing(box, change, command, expected):
    place = choose_place(box, command)
    change(box, place)
    before = box.look()
    result = carry_out(command, box, place)
    assert box.look() == before
    check_ended_well(result, expected)


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.parametrize(
    "setting", ["score.model_uri", "train.init_from", "train.distill.teachers"]
)
def test_a_whole_job_changes_nothing(finished_run, sentiflow, tmp_path, setting):
    box, verb = Box(tmp_path / "box", tmp_path), setting.partition(".")[0]
    lay(box.root)
    shutil.copytree(finished_run / "run", box / RUN)
    model = box / RUN / MODEL
    beside = "../beside"  # in the package it would be refused
    for what, at in ((plant_deletion, beside), (plant_replacement, ".."), (plant_work, "../../..")):
        plant(what, at)(box, model)
    before = box.look()
    result = sentiflow(
        verb, finished_run / "config.yaml", f"{setting}={model}", "train.num_epochs=1",
        f"{verb}.prepared_uri={box / RUN}/prepared", f"output_uri={box / 'out'}/run",
        f"tracking.uri={make_store(box / 'out')}",
        env=os.environ | {"HOME": str(box / "home"), "MPLCONFIGDIR": str(tmp_path)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert box.look() == before
