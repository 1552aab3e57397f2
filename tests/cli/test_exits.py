"""What a terminal, a pipe or a disk does to the output of a command never gives a traceback."""

import io
import json
import os
import signal
import subprocess
import sys

import pytest
import typer
from conftest import PROJECT, messages
from test_cli import invoke

import sentiflow
from sentiflow.cli import terminal
from sentiflow.cli.exits import reporting
from sentiflow.errors import JobError, UserError
from sentiflow.progress import say

FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a full device")


def shell(command, **variables):
    """Run a command line of a shell, in which ``sentiflow`` is the program."""
    script = f'sentiflow() {{ "{sys.executable}" -m sentiflow "$@"; }}\n{command}'
    return subprocess.run(
        ["bash", "-c", script], cwd=PROJECT, env=os.environ | variables,
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip


@FULL
def test_a_full_standard_output_is_one_line():
    done = shell("sentiflow config show configs/quickstart.yaml > /dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("sentiflow: No space left on device: ")
    assert len(messages(done.stderr)) == 1


@FULL
def test_a_log_that_cannot_be_written_does_not_end_a_job(tmp_path):
    done = shell(f"sentiflow sample {tmp_path}/a.csv --rows 10 2> /dev/full")
    assert done.returncode == 0
    assert (tmp_path / "a.csv").read_bytes().count(b"\n") == 10


def test_only_a_reader_that_is_gone_ends_a_command_without_a_word(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(
        "from sentiflow.cli import exits\n"
        "@exits.reporting()\n"
        "def job(fault: str):\n"
        "    if fault == 'connection':\n"
        "        raise BrokenPipeError(32, 'Broken pipe')\n"
        "    print(' ' * 1_000_000)\n"
        "exits.run_alone(job)\n"
    )
    done = shell(f"{sys.executable} {script} connection | cat; exit ${{PIPESTATUS[0]}}")
    assert done.returncode == 1
    assert done.stderr.endswith("sentiflow: Broken pipe: run the same command again to resume\n")
    done = shell(f"{sys.executable} {script} output | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (1, "")


def test_an_encoding_that_lacks_a_character_gives_an_escape():
    write = "lambda: typer.echo('caf\\xe9 \\u20ac')"
    script = f"import typer; from sentiflow.cli import exits; exits.run({write})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (b"caf\xe9 \\u20ac\n", b"")


def test_a_name_in_a_message_does_not_act_on_the_terminal(capsys):
    name = "a\x1b[2J\x1b]0;b\x07\r\x9bc\u202e.csv"
    shown = r"a\x1b[2J\x1b]0;b\x07\r\x9bc\u202e.csv"

    @reporting()
    def fail(error: Exception) -> None:
        say("read", name)
        raise error

    for error in (UserError(f"no such file: {name}"), JobError(name), RuntimeError(name)):
        with pytest.raises(typer.Exit):
            fail(error)
        written = capsys.readouterr().err
        assert all(c.isprintable() for c in written.replace("\n", ""))
        assert written.count(shown) == (3 if isinstance(error, RuntimeError) else 2)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_valid_in_every_encoding(encoding, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    terminal.print_json({"a": "é \N{PARTY POPPER}"})
    sys.stdout.flush()
    assert json.loads(written.getvalue().decode(encoding)) == {"a": "é \N{PARTY POPPER}"}
    assert (b"\\u00e9" in written.getvalue()) == (encoding != "utf-8")


def get(number):
    """Get a signal in a command, and again while it ends."""
    with reporting():
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)  # it must not interrupt what is done at the end
            os.environ["ENDED"] = "yes"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_ends_a_command_with_one_line(monkeypatch, capsys, number):
    monkeypatch.setenv("ENDED", "no")
    before = signal.signal(number, signal.SIG_DFL)
    with pytest.raises(typer.Exit) as ended:
        get(number)
    assert ended.value.exit_code == 128 + number
    assert os.environ["ENDED"] == "yes"
    assert signal.signal(number, before) == signal.SIG_DFL
    assert capsys.readouterr().err == (
        "sentiflow: interrupted; run the same command again to resume\n"
    )


def test_under_nohup_a_command_continues(monkeypatch):
    monkeypatch.setenv("ENDED", "no")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        get(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert os.environ["ENDED"] == "yes"


def test_the_version_is_printed():
    assert invoke("--version").stdout == f"sentiflow {sentiflow.__version__}\n"
