import json
import subprocess
import sys

import pytest
from conftest import PROJECT, messages
from typer.testing import CliRunner

from sentiflow.cli import jobs
from sentiflow.cli.app import app

QUICKSTART = str(PROJECT / "configs/quickstart.yaml")


def invoke(*arguments: str, **options):
    return CliRunner().invoke(app, list(arguments), **options)


def one_line(result) -> str:
    """Check that a user's mistake gave exit code 2 and one clear line; return it."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = messages(result.stderr)
    return line


@pytest.mark.parametrize(
    "command",
    [
        ["init", "{}"],
        ["init", "a.csv", "--model", "{}"],
        ["predict", "{}", "good"],
        ["predict", "[a, {}]", "good"],
        ["card", "{}"],
        ["card", "a", "--output", "{}"],
        ["compare", "{}", "b"],
        ["compare", "a", "b", "--markdown", "{}"],
        ["trends", "a.yaml", "--sample", "9", "--output", "{}"],
        ["sample", "{}", "--rows", "1"],
        ["tracking", "import", "{}"],
        ["words", "vector", "good", "--vectors", "{}"],
        ["words", "map", "good", "bad", "--to", "{}"],
    ],
    ids=" ".join,
)
def test_an_argument_that_is_no_location_is_refused(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("text\nso good\n")
    for typed in ("S3:x", "~no-such-user/x", "file:x"):
        assert typed in one_line(invoke(*(part.format(typed) for part in command)))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["train.num_epoch=3"], "unknown setting train.num_epoch: did you mean train.num_epochs?"),
        (["prepare.csv=no-such.csv"], "no such file"),
        (["tracking.uri=https://me:secret@host"], "holds a user name or password"),
    ],
)
def test_a_wrong_setting_gives_one_clear_line(overrides, expected, monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert expected in one_line(invoke("run", QUICKSTART, *overrides))


def test_show_prints_settings_that_load_again_to_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(PROJECT)
    first = invoke("config", "show", QUICKSTART, "train.seed=7").stdout
    (tmp_path / "again.yaml").write_text(first)
    assert invoke("config", "show", str(tmp_path / "again.yaml")).stdout == first
    assert "seed: 7" in first


@pytest.mark.parametrize("config", sorted(path.name for path in PROJECT.glob("configs/*.yaml")))
def test_shipped_settings_are_valid(config):
    assert invoke("config", "validate", str(PROJECT / "configs" / config)).exit_code == 0


def test_sample_writes_the_same_bytes_for_the_same_seed(tmp_path):
    for name in ("a", "b"):
        assert (
            invoke("sample", f"{tmp_path}/{name}.csv", "--rows", "500", "--seed", "3").exit_code
            == 0
        )
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.csv").read_bytes().count(b"\n") == 500
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "b.csv"}


def test_a_sample_replaces_no_file_unless_told(tmp_path):
    path = tmp_path / "tweets.csv"
    path.write_text("precious")
    assert "exists: name another file" in one_line(invoke("sample", str(path), "--rows", "5"))
    assert path.read_text() == "precious"
    assert invoke("sample", str(path), "--rows", "5", "--overwrite").exit_code == 0
    assert path.read_bytes().count(b"\n") == 5


def test_quick_commands_import_nothing_heavy(tmp_path):
    (tmp_path / "messages.csv").write_text("text,label\n" + "so good,yes\nso bad,no\n" * 50)
    script = """
import sys
from sentiflow.cli.app import app

def find(*names):
    print([name for name in names if name in sys.modules])

find("ray", "torch", "mlflow", "pandas", "pyarrow")
app(["words", "nearest", "cat"], standalone_mode=False)
find("ray", "torch", "mlflow", "pandas", "matplotlib", "sklearn", "scipy")
app(["init", "messages.csv"], standalone_mode=False)
find("ray", "torch", "mlflow", "sklearn")
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == ["[]"] * 3


def test_each_job_is_a_script_of_its_own():
    script = """
import contextlib, runpy, sys
for name in sys.argv[1:]:
    sys.argv[1:] = ["--help"]
    with contextlib.suppress(SystemExit):
        runpy.run_path(f"jobs/{name}.py", run_name="__main__")
"""
    names = sorted(path.stem for path in PROJECT.glob("jobs/*.py"))
    command = [sys.executable, "-c", script, *names]
    result = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=True)
    assert result.stdout.count("CONFIG") >= len(names) >= 8
    assert all(f"  {meaning}" in result.stdout for meaning in jobs.JOBS.values())


@pytest.mark.ray
@pytest.mark.slow
class TestPredict:
    """With a model that was really trained."""

    TEXTS = ("I love this so much", "this is not good at all", "", "\N{PARTY POPPER}")

    @pytest.fixture
    def model(self, finished_run) -> str:
        return str(finished_run / "run/trained/model")

    def test_each_text_gets_a_prediction(self, model):
        result = invoke("predict", model, *self.TEXTS, "caf\udce9", "--json")
        *answers, broken = [json.loads(line) for line in result.stdout.splitlines()]
        assert broken["text"] == "caf\ufffd"
        assert [answer["text"] for answer in answers] == list(self.TEXTS)
        assert [answer["num_tokens"] > 0 for answer in answers] == [True, True, False, False]
        assert answers[0]["label"] == "positive"
        assert answers[1]["label"] == "negative"
        assert (
            answers[2]["probability"] == answers[3]["probability"] == pytest.approx(0.5, abs=0.05)
        )

    def test_why_names_the_words_that_decide(self, model):
        lines = invoke("predict", model, *self.TEXTS[:2], "--why").stdout.splitlines()
        assert lines[0].endswith("\tI love this so much")
        assert lines[1].startswith("  for positive: ")
        assert " love +" in lines[1]
        assert lines[-1].startswith("  the rest: ")
        assert "\x1b" not in "".join(lines)
        result = invoke("predict", model, *self.TEXTS, "--why", "--json")
        answers = [json.loads(line) for line in result.stdout.splitlines()]
        assert [word["word"] for word in answers[0]["words"]] == self.TEXTS[0].lower().split()
        for answer in answers:
            total = sum(word["part"] for word in answer["words"]) + answer["rest"]
            assert total == pytest.approx(answer["logit"])

    def test_lines_of_standard_input_are_texts(self, model):
        result = invoke("predict", model, input="so happy\n\nso sad")
        labels = [line.split("\t")[0] for line in result.stdout.splitlines()]
        assert labels[0] == "positive"
        assert labels[2] == "negative"
        assert [line.count("\t") for line in result.stdout.splitlines()] == [2, 2, 2]


def test_the_page_of_settings_lists_every_setting_as_it_is():
    described = invoke("config", "describe").stdout
    assert described in (PROJECT / "docs/settings.md").read_text()
    assert all(not line.endswith("|  |") for line in described.splitlines()), "a meaning is missing"


def test_a_dry_run_downloads_no_word_vectors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torchtext.vocab.Vectors.cache", lambda *_: pytest.fail("a download"))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: pytest.fail("a request"))
    invoke("sample", "tweets.csv", "--rows", "300", "--seed", "1")
    settings = ["output_uri=run", "prepare.csv=tweets.csv"]
    vectors = "prepare.vocabulary.vectors=torchtext:6B.50d"
    result = invoke("prepare", QUICKSTART, *settings, vectors, "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "# prepare   would run: " in result.stdout
    assert invoke("config", "validate", QUICKSTART, *settings, vectors).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["tweets.csv"]
