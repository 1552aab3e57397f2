"""Input files in an object store are looked at together, in few requests each."""

import os
import re
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tcp_proxy import Proxy

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import arrival, corpus, input_files, row_ids, table_plans
from sentiflow.data.row_checks import RowRules
from sentiflow.pipeline.preflight import previews
from sentiflow.storage import filesystem

NUM_FILES = 16
FORM = FormatSettings(kind="csv", columns={"text": "text"})


class Requests:
    """Counts the requests to a slow object store, and how many wait at a time.

    A request waits for company: until `wanted` wait together, a second at the most. So a
    busy machine, which sends them late, has as many together as a quiet one.
    """

    def __init__(self):
        self.lines, self.waiting, self.most, self.wanted = [], 0, 0, 0
        self.changed = threading.Condition()

    def add(self, data):
        """Count a request, and let it wait."""
        method = data.partition(b" ")[0]
        if method not in (b"GET", b"HEAD", b"POST", b"PUT"):
            return
        with self.changed:
            self.lines.append(data.partition(b"\r\n")[0].decode())
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.most >= self.wanted, timeout=1)
            self.waiting -= 1

    def count(self, method):
        """Count the requests that concern one of the files."""
        return sum(bool(re.match(rf"{method} \S*/\d\d\.", line)) for line in self.lines)


@pytest.fixture
def requests(bucket, monkeypatch):
    """What is requested from a slow store."""
    found = Requests()
    proxy = Proxy(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]), on_data=found.add)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
    yield found
    proxy.close()


def write(bucket, requests, suffix, contents, *, wanted=0):
    """Write files; returns their URIs. Requests after that wait until `wanted` are together."""
    uris = [f"{bucket}/{suffix}/{number:02d}.{suffix}" for number in range(NUM_FILES)]
    pairs = zip(uris, contents, strict=True)
    filesystem.map_files(lambda pair: filesystem.write_bytes(*pair), pairs)
    requests.lines, requests.most, requests.wanted = [], 0, wanted
    return uris


def test_csv_files_are_opened_twice_and_many_at_a_time(bucket, requests, tmp_path):
    uris = write(bucket, requests, "csv", [b"text\n" + b"so good\n" * 500] * NUM_FILES, wanted=8)
    found = input_files.expand(uris)
    source = corpus.open_csv(found, settings=FORM, rows_per_part=100, unpack_to=str(tmp_path))
    assert [len(source.parts), source.num_rows] == [NUM_FILES, 500 * NUM_FILES]
    assert requests.most >= 8
    assert requests.count("GET") == 2 * NUM_FILES  # its beginning; all of it
    assert requests.count("HEAD") == 4 * NUM_FILES  # it exists; its size; it is opened twice


def test_known_files_of_a_corpus_are_listed_and_not_asked_for(bucket, requests):
    uris = write(bucket, requests, "csv", [b"text\n" + b"so good\n" * 500] * NUM_FILES)
    known = input_files.describe(uris)["files"]
    requests.lines.clear()
    filesystem.write_bytes(f"{bucket}/csv/before/0.csv", b"text\nbad\n")
    found = input_files.find([f"{bucket}/csv/**/*.csv"])
    ordered = arrival.order(found, known)
    assert ordered[:NUM_FILES] == known
    assert [item["uri"] for item in ordered[NUM_FILES:]] == [f"{bucket}/csv/before/0.csv"]
    assert requests.count("GET") == requests.count("HEAD") == 0


def test_the_first_rows_of_a_few_files_take_a_request_each(bucket, requests):
    content = b"text\n" + b"so good\n" * 200_000
    uris = write(bucket, requests, "csv", [content] * NUM_FILES, wanted=3)
    rules = RowRules.of_texts(FORM)
    assert not list(previews.check("score.corpus", uris, FORM, rules=rules, text_column="text"))
    assert requests.count("GET") == previews.MAX_FILES
    assert requests.most >= 3


def test_parquet_files_are_opened_twice_and_many_at_a_time(bucket, requests):
    contents = []
    for number in range(NUM_FILES):
        sink = pa.BufferOutputStream()
        ids = range(500 * number, 500 * number + 500)
        pq.write_table(pa.table({"text": ["so good"] * 500, "row_id": ids}), sink)
        contents.append(sink.getvalue().to_pybytes())
    write(bucket, requests, "parquet", contents, wanted=8)
    files = input_files.describe_unread(input_files.expand([f"{bucket}/parquet/*.parquet"]))
    plan = table_plans.plan_scoring(files, text_column="text", keep_columns=())
    assert plan.table_format.has_row_ids
    assert requests.count("GET") == NUM_FILES
    assert row_ids.find_fault(plan.tables, [], map_tasks=lambda *task: pytest.fail("few")) is None
    assert requests.most >= 8
    assert requests.count("GET") == 2 * NUM_FILES  # the footer; the ids
    assert requests.count("HEAD") == 3 * NUM_FILES  # its size; it is opened twice
