"""A dataset of checked texts can be used as any other of Ray Data."""

import gzip
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from conftest import PROJECT

import sentiflow
from sentiflow.errors import UserError

pytestmark = pytest.mark.ray

FORMAT = {
    "kind": "csv",
    "columns": {"text": "text", "label": "feeling"},
    "labels": {"negative": "sad", "positive": "glad"},
}
LINES = [
    "number,feeling,text",
    '1,glad,"so good,',
    'so nice"',
    "2,sad,so bad",
    "3,glad, ",
    "4,,hm",
    "5,glad",
]


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("\n".join(LINES))
    return path


def test_every_record_is_a_row_and_a_rejected_one_has_its_reason(csv, resources):
    texts = sentiflow.read_texts(str(csv), format=FORMAT, keep_columns=["number"])
    rows = {row["row_id"]: row for row in texts.iter_rows()}
    assert [rows[i]["text"] for i in range(2)] == ["so good,\nso nice", "so bad"]
    assert [rows[i]["label"] for i in range(4)] == [1, 0, 1, None]
    assert [rows[i]["label_name"] for i in range(4)] == ["positive", "negative", "positive", None]
    assert [rows[i]["number"] for i in range(4)] == ["1", "2", "3", "4"]
    assert [rows[i]["reason"] for i in range(5)] == [
        None, None, "empty text", None, "wrong number of columns",
    ]  # fmt: skip
    assert rows[4]["raw"] == b"5,glad"
    content = csv.read_bytes()
    for row in rows.values():
        assert row["source"] == str(csv)
        assert content[row["offset"] :].startswith(b"%d," % (row["row_id"] + 1))


@pytest.mark.parametrize(
    ("labels", "label", "names"),
    [
        ("auto", [None] * 5, ["glad", "sad", "glad", None, None]),
        ({"happy": "glad", "hungry": "hm"}, [0, None, 0, None, None], ["happy", None] * 2 + [None]),
    ],
)
def test_classes_have_any_names(csv, resources, labels, label, names):
    rows = sentiflow.read_texts(str(csv), format=FORMAT | {"labels": labels}).take_all()
    rows.sort(key=lambda row: row["row_id"])
    assert [row["label"] for row in rows] == label
    assert [row["label_name"] for row in rows] == names


def test_a_part_is_a_block(sample_csv, resources):
    texts = sentiflow.read_texts(str(sample_csv), rows_per_part=1000).materialize()
    assert texts.num_blocks() > 3
    assert texts.count() == 6000
    assert sorted(texts.to_pandas()["row_id"]) == list(range(6000))


def test_a_compressed_file_is_read_too(csv, resources):
    packed = csv.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(csv.read_bytes()))
    texts = sentiflow.read_texts([str(packed)], format=FORMAT)
    assert texts.count() == 5


@pytest.mark.parametrize(
    ("uri", "format", "told"),
    [
        ("none.csv", FORMAT, "no such file: .*none.csv"),
        ("texts.csv", FORMAT | {"kinds": 1}, "read_texts: unknown setting format.kinds: did you"),
        (
            "texts.csv",
            FORMAT | {"columns": {"text": "tweet"}, "labels": None},
            "has no column 'tweet': did you",
        ),
    ],
)
def test_what_is_wrong_is_told_in_a_line(csv, uri, format, told):
    with pytest.raises(UserError, match=told):
        sentiflow.read_texts(str(csv.with_name(uri)), format=format)


def test_a_column_that_is_not_there_is_told_with_those_that_are(csv):
    with pytest.raises(
        UserError, match=r"these columns are not in the files: airline: the files have: .*number"
    ):
        sentiflow.read_texts(str(csv), format=FORMAT, keep_columns=["airline"])


@pytest.mark.parametrize("number", [0, 1])
def test_the_examples_of_the_page_run(number, resources, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "messages.csv").write_text(
        "message,sentiment,airline\nso late,negative,A\nso nice,positive,B\n,neutral,B\n"
    )
    page = (PROJECT / "docs/reading.md").read_text()
    example = page.split("```python\n")[number + 1].split("```")[0]
    example = example.replace('"accepted"', f'"{tmp_path}/accepted"')  # workers are elsewhere
    exec(compile(example, "docs/reading.md", "exec"), {})
    printed = capsys.readouterr().out
    if number == 0:
        assert "empty text" in printed
        found = pq.read_table(tmp_path / "accepted").sort_by("row_id").to_pydict()
        assert found["text"] == ["so late", "so nice"]
        assert found["airline"] == ["A", "B"]
    for line in example.splitlines():
        if number == 1 and "  # " in line:
            assert line.partition("  # ")[2] in printed


SCRIPT = """
import sys, sentiflow
assert "ray" not in sys.modules
texts = sentiflow.read_texts(sys.argv[1])
import ray
print(texts.count(), [node["NodeManagerAddress"] for node in ray.nodes()])
"""


@pytest.mark.slow
@pytest.mark.soak
def test_it_starts_a_ray_of_its_own_on_loopback_until_the_process_ends(sample_csv):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(sample_csv)],
        capture_output=True, text=True, timeout=200, cwd=PROJECT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["6000", "['127.0.0.1']"]
