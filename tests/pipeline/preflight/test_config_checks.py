"""What can be known to be wrong is found before anything starts; a right config is left alone."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import PROJECT, messages

from sentiflow.config import settings
from sentiflow.errors import UserError
from sentiflow.pipeline.preflight import config_checks

FORMAT = {
    "kind": "csv",
    "columns": {"text": "message", "label": "mood"},
    "labels": {"negative": "bad", "positive": "good"},
}
ROWS = [("good", "hello there", "acme"), ("bad", "oh no", "acme")] * 60
STAGES = config_checks.STAGES


def to_csv(rows=ROWS, header="mood,message,brand", delimiter=","):
    return "\n".join([header, *(delimiter.join(row) for row in rows), ""])


@pytest.fixture
def find(tmp_path, make_package):
    """Find what is wrong with a config; its CSV has the columns mood, message and brand."""
    config = {
        "name": "test",
        "output_uri": str(tmp_path / "run"),
        "format": FORMAT,
        "prepare": {"csv": str(tmp_path / "tickets.csv")},
        "tracking": {"uri": f"sqlite:///{tmp_path}/mlflow.db"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "tickets.csv").write_text(to_csv())
    make_package(str(tmp_path / "package"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")

    def find(*overrides, verbs=STAGES, content=None):
        if content is not None:
            encoded = content if isinstance(content, bytes) else content.encode()
            (tmp_path / "tickets.csv").write_bytes(encoded)
        changes = [override.replace("{folder}", str(tmp_path)) for override in overrides]
        before = sorted(tmp_path.rglob("*"))
        found = config_checks.find(settings.load(tmp_path / "config.yaml", changes), verbs)
        assert sorted(tmp_path.rglob("*")) == before, "nothing is written"
        return [(f.check, f.level, f.what) for f in found]

    return find


def test_a_right_config_is_left_alone(find):
    assert find() == []


WRONG = {
    "a column that is not there": (
        ["format.columns.text=mesage"],
        ("columns", "did you mean 'message'? its columns are 'mood', 'message', 'brand'"),
    ),
    "the only column": (["format.delimiter=;"], ("columns", "is the delimiter right?")),
    "a kept column": (
        ["prepare.keep_columns=[brnd]"],
        ("columns", "tickets.csv has no column brnd: did you mean 'brand'? its columns are"),
    ),
    "a kept column of the prepared corpus": (
        ["score.keep_columns=[brand]"],
        ("columns", "no column brand: name it in prepare.keep_columns, too; its columns are"),
    ),
    "a kept column of a corpus": (
        ["score.corpus={folder}/tickets.csv", "score.keep_columns=[brnd]"],
        ("columns", "tickets.csv has no column brnd: did you mean 'brand'?"),
    ),
    "a split": (["prepare.split.kind=time"], ("columns", "add format.columns.time")),
    "values of a split": (
        ["prepare.split.kind=column", "prepare.split.column=brand"],
        ("rows", "in the column of splits, correct the file"),
    ),
    "input": (["prepare.csv={folder}/none.csv"], ("input", "prepare.csv: no such file: ")),
    "a directory": (["prepare.csv={folder}"], ("input", "is a directory: name a file")),
    "a corpus": (["score.corpus=/no/*.csv"], ("input", "score.corpus: no file matches /no")),
    "vectors": (
        ["prepare.vocabulary.vectors=/no/vectors.txt"],
        ("input", "prepare.vocabulary.vectors: there is no file, directory or word vectors"),
    ),
    "a model to start from": (
        ["train.init_from=/no/model"],
        ("model", "train.init_from: /no/model has no manifest.json"),
    ),
    "a model of another network": (
        ["train.init_from={folder}/package"],
        ("model", "/package is of another network"),
    ),
    "a model to score with": (
        ["score.model_uri=/no/model"],
        ("model", "score.model_uri: /no/model has no manifest.json"),
    ),
    "corrections": (
        ["prepare.corrections={folder}/none.csv"],
        ("input", "prepare.corrections: no such file: "),
    ),
    "no column of corrections": (
        ["prepare.corrections={folder}/tickets.csv"],
        (
            "labels",
            "tickets.csv has no column label and no column row_id or text; its columns are mood, ",
        ),
    ),
    "unlabelled texts": (
        ["prepare.unlabelled.files={folder}/none.csv"],
        ("input", "prepare.unlabelled.files: no such file: "),
    ),
    "rows of unlabelled texts": (
        ["prepare.unlabelled={files: {folder}/tickets.csv, format: {kind: sentiment140}}"],
        ("rows", "prepare.unlabelled.files: 121 of the first 121 rows would be rejected, in "),
    ),
    "prepared data": (
        ["train.prepared_uri=/no/data"],
        ("input", "train.prepared_uri: /no/data has no manifest.json"),
    ),
    "a directory of other files": (
        ["train.output_uri={folder}/other"],
        ("output", "holds files that are not from train"),
    ),
}


@pytest.mark.parametrize(("overrides", "expected"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_found_in_one_line(find, overrides, expected):
    ((check, level, line),) = find(*overrides)
    assert (check, level) == (expected[0], "error")
    assert expected[1] in line
    assert "\n" not in line


def test_only_what_the_stages_use_is_looked_at(find):
    wrong = ["prepare.csv=/no.csv", "train.init_from=/no/model", "score.corpus=/no/corpus.csv"]
    assert [check for check, _, _ in find(*wrong)] == ["input", "model", "input"]
    assert [check for check, _, _ in find(*wrong, verbs=("score", "evaluate"))] == [
        "model",
        "input",
    ]
    assert find(*wrong, verbs=("evaluate",)) == []


@pytest.mark.parametrize(
    ("rows", "overrides", "level", "expected"),
    [
        (
            [*ROWS, ("meh", "well", "acme")] * 3,
            [],
            "warning",
            "3 of the first 363 rows have a label that format.labels does not name, in ",
        ),
        (
            [("good", "a", ""), ("bad", "b", ""), ("Good", "c", ""), ("meh", "d", "")],
            [],
            "error",
            "'Good' (1), 'meh' (1): name each value in format.labels, at a class or under unl",
        ),
        (
            ROWS,
            ["format.columns.label=brand"],
            "error",
            "'acme' (120): is format.columns.label=brand the right column?",
        ),
        (
            [(str(i), "text", "acme") for i in range(40)],
            [],
            "error",
            "... (40 values): is format.columns.label=mood the right column?",
        ),
        ([("", "text", "acme")] * 40, [], "error", "prepare.csv: no row of "),
        ([("", "text", "")] * 40, ["format.labels=auto"], "error", "tickets.csv has a label"),
        ([("good", "a", "")] * 9, ["format.labels=auto"], "error", "there is only one: 'good'"),
        (
            [(str(i), "text", "acme") for i in range(101)],
            ["format.labels=auto"],
            "error",
            "there are 101 classes, and at most 100 are possible",
        ),
    ],
)
def test_labels_that_do_not_fit_are_listed_with_the_setting_to_write(
    find, rows, overrides, level, expected
):
    ((check, found, line),) = find(*overrides, content=to_csv(rows))
    assert (check, found) == ("labels", level)
    assert expected in line


def test_labels_may_be_corrected_and_do_not_stop_a_job(find, tmp_path):
    content = to_csv([*ROWS, *[("meh", "so so", "acme")] * 60])
    assert [level for _, level, _ in find(content=content, verbs=["prepare"])] == ["error"]
    (tmp_path / "fixed.csv").write_text("text,label\nSo so,good\n")
    mended = ["prepare.corrections={folder}/fixed.csv"]
    found = find(*mended, content=content, verbs=["prepare"])
    assert [level for _, level, _ in found] == ["warning"]
    (tmp_path / "fixed.csv").write_text("text,label\nSo so,great\n")
    found = find(*mended, content=content, verbs=["prepare"])
    line = "fixed.csv: line 2: label 'great' is none of negative, positive"
    assert any(level == "error" and line in text for _, level, text in found)


def test_a_file_of_one_class_may_have_others_further_down(find):
    rows = [("good", "so good " * 20, "acme")] * 9_000
    assert find(content=to_csv(rows)) == []
    assert find("format.labels=auto", content=to_csv(rows)) == []


def test_rows_that_would_be_rejected_are_counted_by_reason(find):
    rows = [*ROWS, ("good", " ", "acme"), ("good", "a", "b", "c")]
    ((check, level, line),) = find(content=to_csv(rows))
    assert (check, level) == ("rows", "error")
    assert "2 of the first 122 rows would be rejected" in line
    assert "1 empty text, 1 wrong number of columns; the first is row 120)" in line
    assert find("prepare.max_rejected_fraction=0.1") == []
    ((_, _, line),) = find("format={kind: sentiment140}")
    assert "without kind: csv in the section format the six columns of Sentiment140" in line
    ((_, _, line),) = find(content="mood,message,brand\n")
    assert "tickets.csv holds no record" in line


def test_an_encoding_that_does_not_fit_is_named(find):
    content = to_csv([*ROWS, ("good", "caf\u00e9 \u20ac5", "acme")])
    assert find(content=content) == []
    ((check, level, line),) = find(content=content.encode("cp1252"))
    assert (check, level) == ("encoding", "warning")
    assert "is not utf-8: invalid bytes become U+FFFD in 1 of the first 121 texts; " in line
    assert line.endswith("; cp1252 fits: write format.encoding: cp1252")
    assert find("format.encoding=windows-1252") == []
    ((_, _, line),) = find("format.encoding=latin1", content=content)
    assert line.endswith("write format.encoding: utf-8")
    rows = [("good", f"caf\u00e9 {i}", "acme") for i in range(60)] + [("bad", "x", "acme")] * 60
    damaged = to_csv(rows).encode() + b"good,\xff,acme\n"
    assert find(content=damaged) == [], "UTF-8 with some damage is usual"


DATED = "format.columns={text: message, label: mood, time: brand}"


@pytest.mark.parametrize(
    ("overrides", "setting"),
    [
        (["prepare.keep_columns=[time]"], "prepare.csv"),
        (["prepare.split.kind=time"], "prepare.csv"),
        (["score.corpus={folder}/tickets.csv", "score.keep_columns=[time]"], "score.corpus"),
        ([], ""),
    ],
)
def test_a_format_that_reads_few_of_the_times_stops_a_job(find, overrides, setting):
    rows = [(*row[:2], f"{1 + n % 28}.{1 + n % 9}.2024") for n, row in enumerate(ROWS)]
    verbs = ("score",) if setting == "score.corpus" else ("prepare",)

    def look(time_format):
        options = {"verbs": verbs, "content": to_csv(rows)}
        found = find(DATED, f"format.time_format={time_format}", *overrides, **options)
        return [(level, line) for check, level, line in found if check == "times"]

    assert look("%d.%m.%Y") == []
    wrong = look("%m.%d.%Y")
    assert len(wrong) == bool(setting)
    for level, line in wrong:
        assert level == "error"
        assert line.startswith(f"{setting}: times of ")
        assert line.endswith(
            "(format.time_format): %m.%d.%Y reads 56 of 120 different times, but not '13.4.2024': "
            "write time_format: '%d.%m.%Y'"
        )


def test_unreadable_times_are_an_error_even_after_a_file_with_some_odd_ones(find, tmp_path):
    days = [f"{1 + n % 28}.{1 + n % 9}.2024" for n in range(100)]
    contents = {"a": [*days, *[f"week {n}" for n in range(50)]], "b": [f"week {n}" for n in days]}
    for name, written in contents.items():
        rows = [("good", "so good", time) for time in written]
        (tmp_path / f"other/{name}.csv").write_text(to_csv(rows))
    use = [DATED, "format.time_format=%d.%m.%Y", "prepare.keep_columns=[time]"]

    def look(pattern):
        found = find(*use, f"prepare.csv={{folder}}/other/{pattern}", verbs=["prepare"])
        ((level, line),) = [(level, line) for check, level, line in found if check == "times"]
        return level, "a.csv" in line, "b.csv" in line

    assert look("a.csv") == ("warning", True, False)
    assert look("*.csv") == ("error", False, True)


def test_times_in_the_future_and_old_ones_are_a_warning(find):
    rows = [(*row[:2], f"15.08.{1 + n % 31:02}") for n, row in enumerate(ROWS)]
    use = [DATED, "prepare.keep_columns=[time]", "format.time_format=%d.%m.%y"]
    ((check, level, line),) = find(*use, content=to_csv(rows))
    assert (check, level) == ("times", "warning")
    assert "in the future: '15.08.27' is read as 15 August 2027; none is in the future by" in line
    rows[5] = (*rows[5][:2], "75.08.01")
    ((check, level, line),) = find(*use[:2], "format.time_format=%y.%m.%d", content=to_csv(rows))
    assert (check, level) == ("times", "warning")
    assert line.endswith("1 are before 1990: '75.08.01' is read as 1 August 1975")


def test_parquet_is_checked_alike(find, tmp_path):
    table = pa.table({"mood": ["good", "bad", "meh"], "message": ["a", "b", "c"], "n": [1, 2, 3]})
    pq.write_table(table, tmp_path / "a.parquet")
    use = ["prepare.csv={folder}/a.parquet"]
    ((check, _, line),) = find(*use)
    assert (check, "'meh' (1)" in line) == ("labels", True)
    ((check, _, line),) = find(*use, "format.columns.text=mesage")
    assert (check, "did you mean 'message'?" in line) == ("columns", True)
    use = ["score.corpus={folder}/a.parquet"]
    ((check, _, line),) = find(*use)
    assert (check, "set score.text_column" in line) == ("columns", True)
    assert find(*use, "score.text_column=message", "score.keep_columns=[n]") == []


def test_a_few_of_many_files_are_looked_at(find, tmp_path):
    for number in range(20):
        (tmp_path / f"other/{number:02d}.csv").write_text(to_csv())
    (tmp_path / "other/19.csv").write_text(to_csv(header="mood,text,brand"))
    ((check, _, line),) = find("prepare.csv={folder}/other/*.csv", "prepare.keep_columns=[brand]")
    assert (check, "19.csv has no column 'message'" in line) == ("columns", True)
    for number in range(5):  # of twenty files five are read: 0, 5, 10, 14 and 19
        (tmp_path / f"other/{number:02d}.csv").write_text(to_csv(header="mood,text,brand"))
    lines = [line for _, _, line in find("prepare.csv={folder}/other/*.csv")]
    assert [
        name for name in ("00", "01", "04", "19") if any(f"{name}.csv" in x for x in lines)
    ] == ["00", "19"]


def test_everything_wrong_is_said_at_once_and_warnings_stop_nothing(find, tmp_path, said):
    find(content=to_csv([*ROWS, ("meh", "well", "acme")]))
    path = tmp_path / "config.yaml"
    config_checks.require(settings.load(path), STAGES)
    assert "'meh' (1)" in said.text
    wrong = ["train.init_from=/no", "score.keep_columns=[brand]"]
    with pytest.raises(UserError) as error:
        config_checks.require(settings.load(path, wrong), STAGES)
    assert [line.partition(":")[0] for line in str(error.value).splitlines()] == [
        "train.init_from",
        "score.keep_columns",
    ]
    missing = settings.load(path, ["prepare.csv=/no/tickets.csv"])
    config_checks.require(missing, STAGES, needs_input=False)
    assert "no such file: /no/tickets.csv" in said.text
    with pytest.raises(UserError, match="no such file"):
        config_checks.require(missing, STAGES)


def test_a_refused_run_has_imported_neither_ray_nor_mlflow_nor_torch(find, tmp_path):
    script = (
        "import sys\n"
        "from sentiflow.cli.app import app\n"
        f"sys.argv = ['sentiflow', 'run', '{tmp_path}/config.yaml', 'format.columns.text=txt']\n"
        "try: app()\n"
        "finally: print([name for name in ('ray', 'mlflow', 'torch') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout) == (2, "[]\n")
    assert "has no column 'txt'" in done.stderr
    assert len(messages(done.stderr)) == 1


@pytest.mark.parametrize(
    ("section", "overrides"),
    [
        ("prepare", ["prepare.csv={folder}/brand=B/tickets.csv"]),
        (
            "score",
            ["score.corpus={folder}/brand=B/tickets.csv", "score.model_uri={folder}/package"],
        ),
    ],
)
def test_a_column_of_a_file_and_of_its_folder_is_refused(find, tmp_path, section, overrides):
    (tmp_path / "brand=B").mkdir()
    (tmp_path / "brand=B/tickets.csv").write_text(to_csv())
    assert find(*overrides, verbs=[section]) == []
    (found,) = find(*overrides, f"{section}.keep_columns=[brand]", verbs=[section])
    assert found == (
        "columns",
        "error",
        f"{section}.keep_columns: {tmp_path}/brand=B/tickets.csv has a column brand, and its "
        "folder is brand=B: rename the folder or the column, or leave it out",
    )
