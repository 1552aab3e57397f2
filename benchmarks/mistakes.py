"""How long a mistake in a config takes to be told, and in which words.

    python benchmarks/mistakes.py [--csv FILE.csv]

Makes each mistake once with the real command, on a CSV with a header and the columns ``text``,
``sentiment`` (negative, neutral, positive) and ``airline``, by default 5,000 rows of a synthetic
one, and prints seconds, CPU seconds, exit code and the line. Nothing may be left behind: neither a
run nor a directory.
"""

import argparse
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

CONFIG = {
    "name": "mine",
    "output_uri": "runs/mine",
    "format": {
        "kind": "csv",
        "columns": {"text": "text", "label": "sentiment"},
        "labels": {"negative": "negative", "neutral": "neutral", "positive": "positive"},
    },
    "prepare": {"csv": "messages.csv"},
}


@dataclass(frozen=True)
class Mistake:
    """A mistake, and the command that makes it."""

    what: str
    arguments: tuple[str, ...]
    code: int = 2


RUN = ("run", "mine.yaml")
MISTAKES = (
    Mistake("score keeps a column that prepare drops", (*RUN, "score.keep_columns=[airline]")),
    Mistake(
        "the same, config validate",
        ("config", "validate", "mine.yaml", "score.keep_columns=[airline]"),
    ),
    Mistake("the same, --dry-run", (*RUN, "score.keep_columns=[airline]", "--dry-run")),
    Mistake(
        "the same, doctor", ("doctor", "mine.yaml", "score.keep_columns=[airline]", "--json"), 1
    ),
    Mistake("a mistyped column of the text", (*RUN, "format.columns.text=txt")),
    Mistake("a mistyped column to keep", (*RUN, "prepare.keep_columns=[airlin]")),
    Mistake("the wrong column as label", (*RUN, "format.columns.label=airline")),
    Mistake("a class without a name", (*RUN, "format.labels={negative: negative, positive: pos}")),
    Mistake("another delimiter", (*RUN, "format.delimiter=;")),
    Mistake("no section format", (*RUN, "format={}")),
    Mistake("the encoding of another file", (*RUN, "prepare.csv=latin.csv", "--dry-run"), 0),
    Mistake("latin1 as its name", (*RUN, "format.encoding=latin1", "--dry-run"), 0),
    Mistake("a file that is not there", (*RUN, "prepare.csv=mesages.csv")),
    Mistake("Parquet named .csv", (*RUN, "prepare.csv=table.csv")),
    Mistake("Parquet without such a column", (*RUN, "prepare.csv=table.parquet")),
    Mistake("next week's file, a mistyped column", ("score", "mine.yaml", "score.corpus=new.csv")),
    Mistake("a setting by another name", (*RUN, "train.lr=0.1")),
    Mistake("a setting by another name, in the file", ("run", "wrong.yaml")),
    Mistake("a CSV in place of the config", ("run", "messages.csv")),
    Mistake("a model that is not there", (*RUN, "train.init_from=runs/none")),
    Mistake("a directory of other files", (*RUN, "train.output_uri=mine")),
)


def main() -> None:
    """Make all mistakes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, arguments.csv)
        before = sorted(folder.rglob("*"))
        print("| mistake | seconds | CPU | exit code | the line |\n|---|---|---|---|---|")
        for mistake in MISTAKES:
            print(make(mistake, folder), flush=True)
            left = [path for path in folder.rglob("*") if path not in before]
            assert not left, f"{mistake.what} leaves {len(left)} paths, such as {left[0]}"


def write_files(folder: Path, source: Path | None) -> None:
    """Write the config, and the files that it names."""
    import pyarrow.csv
    import pyarrow.parquet

    messages = folder / "messages.csv"
    if source:
        messages.write_bytes(source.read_bytes())
    else:
        chance = random.Random(0)
        with messages.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "airline", "text", "sentiment"])
            for number in range(5000):
                label = chance.choice(["negative", "neutral", "positive"])
                writer.writerow([number, "Acme", f"so {label} a caf\u00e9, {number}", label])
    (folder / "latin.csv").write_bytes(
        messages.read_text(encoding="utf-8").encode("cp1252", "replace")
    )
    (folder / "new.csv").write_text("txt,airline\nhello,Acme\n")
    (folder / "mine").mkdir()
    (folder / "mine/notes.txt").write_text("mine")
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    table = pyarrow.csv.read_csv(messages, parse_options=options)
    pyarrow.parquet.write_table(table.rename_columns({"text": "body"}), folder / "table.parquet")
    (folder / "table.csv").write_bytes((folder / "table.parquet").read_bytes())
    (folder / "mine.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    wrong = yaml.safe_dump(CONFIG | {"train": {"lr": 0.1}}, sort_keys=False)
    (folder / "wrong.yaml").write_text(wrong)


def used() -> float:
    """Return the CPU seconds of all commands so far."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def make(mistake: Mistake, folder: Path) -> str:
    """Make a mistake; returns its row of the table."""
    began, before = time.monotonic(), used()
    done = subprocess.run(
        [sys.executable, "-m", "sentiflow", *mistake.arguments],
        cwd=folder, capture_output=True, text=True,
        env=os.environ | {"MLFLOW_TRACKING_URI": ""},
    )  # fmt: skip
    seconds, cpu = time.monotonic() - began, used() - before
    assert done.returncode == mistake.code, done.stdout + done.stderr
    said = done.stderr
    if "--json" in mistake.arguments:
        said = " ".join(found["what"] for found in json.loads(done.stdout) if found["why"])
    line = said.strip().replace(str(folder) + "/", "").replace("|", r"\|").replace("\n", "<br>")
    times = f"{seconds:.1f} | {cpu:.1f}"
    return f"| {mistake.what} | {times} | {done.returncode} | `{line or 'nothing'}` |"


if __name__ == "__main__":
    main()
