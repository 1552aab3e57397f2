"""Finding out how a CSV is written: sentiflow's rule against DuckDB, clevercsv and Python's csv.

The files are those of ``tests/data/odd_files.py``. An answer is right if the delimiter (of files
with several columns), the header, the number of columns and the encoding (the same text) are right.
DuckDB and clevercsv get the encoding from charset-normalizer, which libraries for CSV leave to
their callers; a file that no reader takes counts as right if that is said. A second table is of
300 files of random form whose header says nothing.

    python benchmarks/sniffing.py
"""

import csv
import io
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import clevercsv
import duckdb
from charset_normalizer import from_bytes

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/data"))

from odd_files import OddFile, make_all, make_random

from sentiflow.data.inspection import sniffing
from sentiflow.errors import UserError

Answer = tuple[str, str, bool, int]
"""Encoding, delimiter, header, number of columns."""


def ask_sentiflow(file: OddFile, path: Path) -> Answer:
    """Use sentiflow's rule; a refusal names the encoding."""
    try:
        found = sniffing.sniff(file.content, source=file.name)
    except UserError as error:
        known = ("utf-16", "cp1251", "before its header")
        (why,) = (word for word in known if word in str(error).lower())
        encoding = file.encoding if why == "before its header" else why
        return encoding, file.delimiter, file.header, file.num_columns
    return found.encoding, found.delimiter, found.has_header, len(found.rows[0])


def guess_encoding(content: bytes) -> str:
    """Guess the encoding with charset-normalizer."""
    best = from_bytes(content).best()
    return best.encoding if best else "utf-8"


def ask_duckdb(file: OddFile, path: Path) -> Answer:
    """Use DuckDB's ``sniff_csv`` on the file as UTF-8."""
    encoding = guess_encoding(file.content)
    path.write_bytes(file.content.decode(encoding, "replace").encode())
    query = "SELECT Delimiter, HasHeader, len(Columns) FROM sniff_csv(?, ignore_errors=true)"
    row = duckdb.execute(query, [str(path)]).fetchone()
    assert row
    return encoding, *row


def ask_clevercsv(file: OddFile, path: Path) -> Answer:
    """Use clevercsv."""
    encoding = guess_encoding(file.content)
    text = file.content.decode(encoding, "replace").removeprefix("\ufeff")
    found = clevercsv.Sniffer().sniff(text)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=found.delimiter or ","))
    has_header = clevercsv.Sniffer().has_header(text)
    return encoding, found.delimiter, has_header, len(rows[1])


def ask_csv(file: OddFile, path: Path) -> Answer:
    """Use ``csv.Sniffer`` on the first 64 KiB, as its documentation does on a sample."""
    encoding = guess_encoding(file.content)
    text = file.content.decode(encoding, "replace").removeprefix("\ufeff")[: 1 << 16]
    found = csv.Sniffer().sniff(text, delimiters=",;\t|")
    rows = list(csv.reader(io.StringIO(text, newline=""), found))
    return encoding, found.delimiter, csv.Sniffer().has_header(text), len(rows[1])


WAYS: dict[str, Callable[[OddFile, Path], Answer]] = {
    "sentiflow": ask_sentiflow,
    "DuckDB": ask_duckdb,
    "clevercsv": ask_clevercsv,
    "csv.Sniffer": ask_csv,
}


def find_faults(file: OddFile, answer: Answer) -> str:
    """Name what is wrong in an answer."""
    encoding, delimiter, header, num_columns = answer
    faults = []
    if delimiter != file.delimiter and file.num_columns > 1:
        faults.append("delimiter")
    if header != file.header:
        faults.append("header")
    if num_columns != file.num_columns:
        faults.append("columns")
    texts = {file.content.decode(e, "replace").lstrip("\ufeff") for e in (encoding, file.encoding)}
    return ", ".join([*faults, "encoding"] if len(texts) > 1 else faults)


def ask_all(files: Sequence[OddFile], *, with_rows: bool) -> None:
    """Ask each library about each file, and print a table."""
    right, seconds = dict.fromkeys(WAYS, 0), dict.fromkeys(WAYS, 0.0)
    print(f"| file | {' | '.join(WAYS)} |\n|---|{'---|' * len(WAYS)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "odd.csv"
        for file in files:
            cells = []
            for name, ask in WAYS.items():
                start = time.perf_counter()
                try:
                    faults = find_faults(file, ask(file, path))
                except Exception as error:  # whatever a library raises is its answer
                    faults = f"error: {type(error).__name__}"
                seconds[name] += time.perf_counter() - start
                right[name] += not faults
                cells.append(faults or "right")
            if with_rows:
                print(f"| {file.name} | {' | '.join(cells)} |")
    print(f"| **right of {len(files)}** | {' | '.join(str(right[name]) for name in WAYS)} |")
    print(f"| **seconds in all** | {' | '.join(f'{seconds[name]:.2f}' for name in WAYS)} |\n")


def main() -> None:
    """Ask about the odd files, each of them shown, and about random ones."""
    ask_all(make_all(), with_rows=True)
    ask_all(make_random(300), with_rows=False)


if __name__ == "__main__":
    main()
