"""A call of the library does what the command does, and leaves the program as it was."""

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, make_store

import sentiflow
from sentiflow import progress
from sentiflow.config import settings
from sentiflow.errors import JobError, StorageError, UserError
from sentiflow.pipeline import calls, session, stage_plans

BASE = {"name": "n", "output_uri": "o", "train": {"num_epochs": 3, "model": {"hidden_size": 9}}}


@pytest.fixture(autouse=True)
def logging_as_python_starts_it(monkeypatch):
    """Take away what a command, run earlier in this process, has set up."""
    logging.getLogger("sentiflow").setLevel(logging.NOTSET)
    kept = [h for h in logging.root.handlers if not isinstance(h, progress.LogHandler)]
    monkeypatch.setattr(logging.root, "handlers", kept)


def test_settings_of_a_program_are_those_of_a_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(BASE))
    written = ["train.num_epochs=1", "prepare.csv=[a.csv,b.csv]", "format.encoding=utf-8"]
    changes = {
        "train.num_epochs": 1,
        "prepare": {"csv": (Path("a.csv"), "b.csv")},
        "format": {"encoding": "utf-8"},
    }
    expected = settings.load(path, written)
    assert settings.load(path, changes) == settings.load(BASE, changes) == expected
    assert settings.load(os.fspath(path), {"output_uri": tmp_path}).output_uri == str(tmp_path)


@pytest.mark.parametrize(
    ("config", "changes", "problem"),
    [
        ("nope.yaml", {}, "no such settings file: nope.yaml: sentiflow init FILE writes"),
        (
            BASE,
            {"train.num_epoch": 1},
            "unknown setting train.num_epoch: did you mean train.num_epochs",
        ),
        (BASE, {}, "settings: sentiflow run needs prepare.csv"),
    ],
)
def test_wrong_settings_are_one_line(config, changes, problem):
    with pytest.raises(UserError, match=problem) as error:
        sentiflow.run(config, changes)
    assert "\n" not in str(error.value)


def test_errors_say_what_to_do_in_python():
    with pytest.raises(UserError, match="replace it with overwrite=True"), calls.reporting():
        raise UserError("it belongs to other settings", hint="replace it with --overwrite")
    with pytest.raises(JobError, match="free some space"), calls.reporting():
        raise OSError(errno.ENOSPC, "No space left on device", "/full")
    with pytest.raises(StorageError, match="make it writable"), calls.reporting():
        raise PermissionError(errno.EACCES, "Permission denied", "/srv/x")
    with pytest.raises(JobError, match=r"/run/part: was it deleted, or"), calls.reporting():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory: /run/part")
    with pytest.raises(ZeroDivisionError), calls.reporting():
        raise ZeroDivisionError


def test_a_call_shows_its_progress_and_restores_the_logger(capfd):
    logger = logging.getLogger("sentiflow")
    before = (logger.level, logger.handlers[:], logger.propagate)
    with calls.reporting():
        logging.getLogger("sentiflow.any").info("score     10 rows")
        print("of the program")
    shown = capfd.readouterr()
    assert "score     10 rows" in shown.err
    assert shown.out == "of the program\n"
    assert (logger.level, logger.handlers, logger.propagate) == before


@pytest.mark.parametrize(("level", "num_lines"), [(logging.INFO, 1), (logging.WARNING, 0)])
def test_a_program_decides_by_the_level_what_is_shown(level, num_lines, capfd, caplog):
    with caplog.at_level(level, "sentiflow"), calls.reporting():
        logging.getLogger("sentiflow.any").info("score     10 rows")
    assert len(caplog.messages) == num_lines
    assert capfd.readouterr().err == ""


def test_a_notebook_gets_lines_on_standard_output_though_it_says_that_it_is_a_terminal():
    script = """
import builtins, logging
builtins.get_ipython = type("ZMQInteractiveShell", (), {})
from sentiflow import progress
progress.LINE_EVERY_SECONDS = 0
with progress.shown(), progress.Progress("score", total=4, unit="rows") as running:
    progress.say("score", "begins")
    running.advance(2)
    running.advance(2)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"FORCE_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert (first, done.stderr) == ("score     begins", "")
    assert second.startswith("score     2 of 4 rows, ")


def program(text: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text)], cwd=PROJECT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options,
    )  # fmt: skip


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.soak
def test_an_interrupted_call_leaves_no_ray_and_the_program_continues(tmp_path, sample_csv):
    script = f"""
        import psutil, ray, sentiflow, signal, threading, time
        def interrupt_when_it_prepares():
            while not ray.is_initialized():
                time.sleep(0.01)
            signal.raise_signal(signal.SIGINT)

        threading.Thread(target=interrupt_when_it_prepares, daemon=True).start()
        config = {{"name": "n", "output_uri": {str(tmp_path / "run")!r},
                  "prepare": {{"csv": {str(sample_csv)!r}}},
                  "tracking": {{"uri": {make_store(tmp_path)!r}}}}}
        try:
            sentiflow.prepare(config)
        except KeyboardInterrupt:
            print("interrupted")
        left = [p for p in psutil.Process().children(recursive=True)
                if p.status() != psutil.STATUS_ZOMBIE and "/ray/" in " ".join(p.cmdline())]
        print(ray.is_initialized(), left)
        print(sentiflow.prepare(config))
    """
    with program(script) as process:
        out, err = process.communicate(timeout=120)
    assert out.splitlines() == [
        "interrupted",
        "False []",
        f"Prepared('{tmp_path}/run/prepared'): 6,000 rows accepted, 0 rejected",
    ], err


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_is_that_of_the_command_and_leaves_a_running_ray(
    tmp_path, finished_run, resources, capfd
):
    import ray

    for folder in ("prepared", "trained"):
        shutil.copytree(finished_run / "run" / folder, tmp_path / "run" / folder)
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    changes = {"output_uri": tmp_path / "run", "tracking.uri": make_store(tmp_path)}
    run = sentiflow.run(config, changes)
    assert ray.is_initialized()
    other = sentiflow.load_run(finished_run / "run")
    assert run.predictions.to_arrow().equals(other.predictions.to_arrow())
    names = [name for name in run.metrics if name.startswith("test/")]
    assert [run.metrics[n] for n in names] == [other.metrics[n] for n in names]
    assert "test/accuracy" in names
    assert {verb: stage.ran for verb, stage in run.stages.items()} == {
        "prepare": False, "train": False, "score": True, "evaluate": True
    }  # fmt: skip
    assert capfd.readouterr().out == ""
    again = sentiflow.run(config, changes)
    assert not any(stage.ran for stage in again.stages.values())
    assert again == sentiflow.load_run(tmp_path / "run")
    assert sentiflow.evaluate(config, changes) == again.evaluated
    with pytest.raises(
        UserError, match=r"other settings \(num_epochs: 6 there, 2 here\).*ite=True"
    ):
        sentiflow.train(config, changes | {"train.num_epochs": 2})


@pytest.mark.parametrize(
    ("setting", "is_whole_run", "expected"),
    [
        ("auto", True, ["evaluate"]),
        ("auto", False, []),
        (True, False, ["train"]),
        (False, True, []),
    ],
)
def test_the_setting_says_which_stage_registers(setting, is_whole_run, expected):
    config = settings.validate(BASE | {"tracking": {"register_model": setting}}, source="test")
    asked = [
        verb
        for verb in stage_plans.VERBS
        if session.registers_model(config, verb, is_whole_run=is_whole_run)
    ]
    assert asked == expected
