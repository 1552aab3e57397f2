"""``sentiflow init`` looks at a file and writes a config that runs as it is."""

import json

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import make_store
from odd_files import make_rows, write
from test_cli import invoke, one_line

from sentiflow.config import settings
from sentiflow.data.inspection import new_config
from sentiflow.storage import filesystem

ROWS = make_rows(400)
BRANDED = [(*row, "north" if i % 2 else "south") for i, row in enumerate(ROWS)]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Stand in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*arguments):
    result = invoke("init", *map(str, arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def read_config(path="messages.yaml"):
    with open(path) as file:
        return yaml.safe_load(file)


def test_what_was_found_is_printed(place):
    rows = [(str(1000 + i), *row) for i, row in enumerate(BRANDED)]
    content = write(rows, header=("id", "message", "mood", "brand"), delimiter=";")
    (place / "messages.csv").write_bytes(content)
    printed = init("messages.csv").splitlines()
    assert printed[0] == (
        f'messages.csv: 400 rows ({len(content):,} bytes); CSV, utf-8, delimiter ";", with a header'
    )
    assert [line.split()[:2] for line in printed[2:7]] == [
        ["column", "is"], ["id", "id"], ["message", "text"], ["mood", "label"], ["brand", "kept"],
    ]  # fmt: skip
    assert "negative 1" in printed[5]
    shown = printed[8:11]
    assert {line.split()[0] for line in shown} == {"negative", "neutral", "positive"}
    assert printed[-2:] == ["written: messages.yaml", "next:    sentiflow run messages.yaml"]
    assert max(map(len, printed)) <= 100


def test_the_config_has_what_the_file_needs_and_nothing_else(place):
    content = write(BRANDED, header=("text", "sentiment", "brand"))
    (place / "messages.csv").write_bytes(content)
    init("messages.csv")
    found = read_config()
    assert found["format"] == {
        "kind": "csv",
        "columns": {"text": "text", "label": "sentiment"},
        "labels": {"negative": "negative", "positive": "positive", "neutral": "neutral"},
    }
    assert list(found["format"]["columns"]) == ["text", "label"]
    assert found["prepare"] == {
        "csv": "messages.csv", "split": {"validation_fraction": 0}, "keep_columns": ["brand"],
        "vocabulary": {"min_count": 2},
    }  # fmt: skip
    assert found["evaluate"] == {"slices": {"columns": ["brand"]}}
    assert found["score"] == {"keep_columns": ["text", "brand"]}
    assert (found["name"], found["output_uri"]) == ("messages", "runs/messages")


@pytest.mark.parametrize(
    ("num_words", "num_long", "max_length", "cut"),
    [
        (65, 4, 64, "end"),
        (65, 8, 80, "end"),
        (80, 8, 80, "end"),
        (81, 400, 96, "end"),
        (256, 8, 256, "end"),
        (257, 8, 256, "middle"),
    ],
)
def test_long_texts_get_a_larger_maximum_and_longer_ones_are_cut_in_the_middle(
    place, num_words, num_long, max_length, cut
):
    long = [(" ".join(["word"] * num_words), label) for _, label in ROWS[:num_long]]
    (place / "messages.csv").write_bytes(write([*long, *ROWS[num_long:]], header=("text", "label")))
    printed = init("messages.csv")
    prepare = settings.load("messages.yaml").prepare
    assert (prepare.max_length, prepare.cut) == (max_length, cut)
    is_told = f"Long texts: prepare.max_length is {max_length} tokens" in printed
    assert ("cut: middle keeps the beginning and the end" in printed) == (cut == "middle")
    assert is_told == ("max_length" in read_config()["prepare"]) == (max_length > 64)


UNSPACED = "Texts of a script without spaces: each letter is a token."
FAMILY = "👨\u200d👩\u200d👧 क्\u200cष so good"
COPIED = "Near-copies: 98.0% of the texts; prepare.duplicate_key=template keeps them in one split."
PRINTED = {
    "near-copies": (
        [(f"@ann{i} this is text {i % 8} of mine", label) for i, (_, label) in enumerate(ROWS)],
        COPIED,
    ),
    "a script without spaces": (
        [(f"今天天气很好 {i}", b) for i, (_, b) in enumerate(ROWS)],
        UNSPACED,
    ),
    "unknown labels": (
        [*ROWS * 60, *[("oh dear", f"odd {number}") for number in range(300)]],
        "24,300 rows would be rejected: 300 unknown label.",
    ),
    "many values": (
        [(text, f"a value {i % 9}") for i, (text, _) in enumerate(ROWS)],
        "“a value 0” 45, “a value 1” 45, “a value 2” 45, … (9 values)",
    ),
    "joined letters and emoji": (
        [(f"{FAMILY}\u202e {i}", label) for i, (_, label) in enumerate(ROWS)],
        f"{FAMILY}\\u202e 0",
    ),
}


@pytest.mark.parametrize(("rows", "said"), PRINTED.values(), ids=PRINTED)
def test_what_deserves_attention_is_printed(place, rows, said):
    (place / "messages.csv").write_bytes(write(rows, header=("text", "label")))
    printed = init("messages.csv")
    assert said in printed
    assert (UNSPACED in printed) == (said == UNSPACED)
    if said in (COPIED, UNSPACED):
        assert ("Near-copies" in printed) == (said == COPIED)
    assert "max_rejected_fraction" not in read_config()["prepare"]


WAY_OUT = (
    "choose other columns with --text and --label, or raise format.max_text_length if texts are "
    "too long"
)
REFUSED = {
    "empty texts": (
        [*ROWS[:100], *[("", "negative")] * 200],
        ["--text", "text"],
        f"200 of 300 rows would be rejected: 200 empty text: {WAY_OUT}",
    ),
    "long texts": (
        [*[(text * 1000, label) for text, label in ROWS[:200]], ("", "negative")],
        [],
        f"201 of 201 rows would be rejected: 200 text too long, 1 empty text: {WAY_OUT}",
    ),
    "test rows of a model": (
        ROWS,
        ["--model", "runs/a", "--test", "messages.csv"],
        "--model trains nothing that --test could measure: leave one out",
    ),
}


@pytest.mark.parametrize(("rows", "options", "line"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_gets_no_config(place, rows, options, line):
    (place / "messages.csv").write_bytes(write(rows, header=("text", "label")))
    assert one_line(invoke("init", "messages.csv", *options)).endswith(line)
    assert not (place / "messages.yaml").exists()


def test_a_large_corpus_gets_other_settings(place, monkeypatch):
    (place / "messages.csv").write_bytes(write(ROWS, header=("text", "label")))
    init("messages.csv", "--output", "small.yaml")
    monkeypatch.setattr(new_config, "_LARGE_ROWS", 300)
    init("messages.csv", "--output", "large.yaml")
    small, large = (settings.load(f"{name}.yaml").train for name in ("small", "large"))
    assert (small.pretrain.num_epochs, small.batching.global_batch_size) == (0, 32)
    assert (large.pretrain.num_epochs, large.batching.global_batch_size) == (8, 256)
    assert (small.linear, large.linear) == (True, "auto")
    assert (small.folds, large.folds) == (5, 5)
    assert settings.load("small.yaml").prepare.split.validation_fraction == 0
    monkeypatch.setattr(new_config, "_MIN_ROWS_WITHOUT_FOLDS", len(ROWS))
    init("messages.csv", "--output", "enough.yaml")
    assert settings.load("enough.yaml").train.folds == 0
    assert settings.load("enough.yaml").prepare.split.validation_fraction == 0.1
    monkeypatch.setattr(new_config, "_MIN_ROWS_WITHOUT_FOLDS", 3000)
    (place / "test.csv").write_bytes(write(ROWS[:30], header=("text", "label")))
    init("messages.csv", "--test", "test.csv", "--output", "tested.yaml")
    assert settings.load("tested.yaml").train.folds == 5
    assert settings.load("tested.yaml").prepare.split.validation_fraction == 0
    assert read_config("small.yaml")["name"] == "small"


GLUED = [(f"단어{n}가 낱말{n}도 아주{n}네", label) for n, (_, label) in enumerate(ROWS)]


def test_a_large_corpus_of_characters_gets_more_epochs_than_the_preset(place, monkeypatch):
    (place / "messages.csv").write_bytes(write(GLUED, header=("text", "label")))
    monkeypatch.setattr(new_config, "_LARGE_ROWS", 300)
    monkeypatch.setattr(new_config, "_STEPS", 1)
    init("messages.csv")
    assert read_config()["train"]["num_epochs"] == new_config._MIN_CHARACTER_EPOCHS
    train = settings.load("messages.yaml").train
    assert (train.preset, train.batching.global_batch_size) == ("best", 256)


@pytest.mark.parametrize("header", [("text", "label"), ("text", "note")])
def test_nothing_is_said_of_a_network_that_is_not_trained(place, header):
    rows = [(f"{text} " * 20, f"a note {n}") for n, (text, _) in enumerate(GLUED)]
    (place / "messages.csv").write_bytes(write(rows, header=header))
    options = ["--model", "models:/a/1"] if "label" in header else []
    printed = init("messages.csv", *options)
    assert "The network" not in printed
    assert "Long texts" not in printed


@pytest.mark.parametrize(
    ("num_rows", "num_classes", "expected"),
    [
        (100, 2, (32, 20)),  # the most epochs
        (900, 2, (32, 10)),  # 28 steps in each
        (2000, 3, (64, 10)),
        (2000, 77, (64, 20)),
        (5000, 20, (64, 8)),
        (9000, 2, (64, 4)),  # the fewest
    ],
)
def test_epochs_make_enough_steps_for_the_rows_and_classes(place, num_rows, num_classes, expected):
    rows = [[f"word{n} of a text", f"class{n % num_classes:02}"] for n in range(num_rows)]
    (place / "messages.csv").write_bytes(write(rows, header=("text", "label")))
    init("messages.csv")
    train = settings.load("messages.yaml").train
    assert (train.batching.global_batch_size, train.num_epochs) == expected


def test_classes_are_kept_from_ten_rows_on_and_rarer_ones_are_counted(place):
    rows = [*ROWS, *[("oh dear", "mixed")] * 9, *[("oh dear", "odd")] * 10]
    (place / "messages.csv").write_bytes(write(rows, header=("text", "label")))
    line = "Classes with too few rows to learn, whose rows count as mistakes: mixed (9)."
    assert line in init("messages.csv")
    found = read_config()
    assert "classes" not in found["train"]  # prepare leaves mixed out, and says so
    assert {"mixed", "odd"} <= found["format"]["labels"].keys()


def test_a_class_much_smaller_than_the_others_is_named(place):
    rows = [
        *[("a fine day", "good")] * 150,
        *[("so sad", "bad")] * 200,
        *[("well", "unclear")] * 12,
    ]
    (place / "messages.csv").write_bytes(write(rows, header=("text", "label")))
    line = "Classes with few rows: unclear (12); a value that means no label belongs to unlabelled"
    assert line in " ".join(init("messages.csv").split())
    (place / "messages.csv").write_bytes(write(rows[50:], header=("text", "label")))
    assert "few rows: unclear" in init("messages.csv", "--overwrite")
    (place / "messages.csv").write_bytes(
        write(rows[100:170] + rows[-12:], header=("text", "label"))
    )
    assert "few rows" not in init("messages.csv", "--overwrite"), "not much smaller"


def test_rows_without_a_label_are_counted(place):
    """Of many classes the values in the table leave no room for the empty ones."""
    texts = [f"{text} {number}" for number, (text, _) in enumerate(ROWS * 2)]
    ratings = [str(1 + n % 10) if n % 3 else " " for n in range(len(texts))]
    content = write(zip(texts, ratings, strict=True), header=("text", "rating"))
    (place / "messages.csv").write_bytes(content)
    line = f"Without a label: {ratings.count(' '):,} of {len(texts):,} rows."
    assert line in init("messages.csv").splitlines()
    (place / "named.csv").write_bytes(write([*ROWS, ("oh", "none")] * 2, header=("text", "label")))
    assert "Without a label" not in init("named.csv", "--model", "models:/a/1")


def test_a_column_of_many_values_is_a_label_if_it_is_named(place):
    rows = [(f"message number {i}, so good", f"intent{i % 77}") for i in range(770)]
    (place / "messages.csv").write_bytes(write(rows, header=("message", "topic")))
    assert "(if one is: --label COLUMN), so the config scores only" in init("messages.csv")
    (place / "messages.yaml").unlink()
    assert "sentiflow run messages.yaml" in init("messages.csv", "--label", "topic")


def test_a_file_without_labels_gives_a_config_that_scores(place, make_package):
    rows = [(f"the {i}th message, so good", "north" if i % 2 else "south", i) for i in range(90)]
    rows = [(text, brand, str(number)) for text, brand, number in rows]
    (place / "messages.csv").write_bytes(write(rows, header=("message", "brand", "id")))
    printed = init("messages.csv")
    assert "No column looks like a label (is it brand? --label brand), so" in printed
    command = "next:    sentiflow score messages.yaml score.model_uri=MODEL"
    assert printed.endswith(f"{command}  # it only scores: without labels nothing is trained\n")
    assert "score.model_uri" in one_line(invoke("score", "messages.yaml"))
    model = make_package()
    printed = init("messages.csv", "--overwrite", "--model", model)
    assert printed.endswith("next:    sentiflow score messages.yaml\n")
    assert "looks like a label" not in printed
    config = settings.load("messages.yaml", command="score")
    assert (config.score.model_uri, config.score.keep_columns) == (model, ("text", "brand"))


def test_with_a_model_the_label_is_as_typed(place, make_package):
    (place / "neu.csv").write_bytes(write(BRANDED, header=("text", "sentiment", "brand")))
    for model in make_package(), "models:/tickets@champion":
        for option, label in ((), None), (("--label", "brand"), "brand"):
            init("neu.csv", "--model", model, "--overwrite", *option)
            assert settings.load("neu.yaml", command="score").format.columns.label == label


@pytest.mark.parametrize(
    ("days", "header", "by"),
    [
        (1, ("text", "mood", "Sprache", "wann"), ["Sprache", "time:month"]),
        (0.2, ("text", "mood", "brand", "wann"), ["time:week"]),
        (0.01, ("text", "mood", "brand", "wann"), ["time:day"]),
    ],
)
@pytest.mark.parametrize("of_a_model", [False, True])
def test_times_are_kept_so_that_trends_need_no_second_scoring(
    place, make_package, days, header, by, of_a_model
):
    first = pd.Timestamp("2024-01-31")
    dates = [(first + pd.Timedelta(days * i, "D")).strftime("%d.%m.%Y %H:%M") for i in range(400)]
    rows = [(*row, date) for row, date in zip(BRANDED, dates, strict=True)]
    (place / "neu.csv").write_bytes(write(rows, header=header))
    printed = init(
        "neu.csv", *(["--model", make_package(), "--label", "mood"] if of_a_model else [])
    )
    config = settings.load("neu.yaml", command="score" if of_a_model else "run")
    assert (config.format.columns.time, config.format.time_format) == ("wann", "%d.%m.%Y %H:%M")
    assert config.score.keep_columns == ("text", header[2], "time")
    assert config.prepare.keep_columns == (() if of_a_model else (header[2], "time"))
    assert list(config.trends.by) == by
    assert "Times: 31.01.2024 00:00 is 31 January 2024; they run from 2024-01-31 to" in printed
    told = "There are times: prepare.split.kind=time tests on the latest texts; a random split may"
    assert (told in printed) == (not of_a_model)


def test_times_of_parquet_that_is_scored_are_kept_by_their_name(place, make_package):
    table = pd.DataFrame(ROWS, columns=["text", "mood"])
    table["wann"] = pd.date_range("2024-01-01", periods=len(table), freq="D", tz="UTC")
    table.to_parquet("neu.parquet")
    init("neu.parquet", "--model", make_package(), "--label", "mood")
    config = settings.load("neu.yaml", command="score")
    assert (config.score.keep_columns, list(config.trends.by)) == (("text", "wann"), ["wann:month"])


def test_a_file_named_in_another_script_gives_its_name_to_the_config(place):
    (place / "ข้อความ (1).csv").write_bytes(write(ROWS, header=("text", "label")))
    init("ข้อความ (1).csv")
    config = settings.load("ข้อความ_1.yaml")
    assert (config.name, config.output_uri) == ("ข้อความ_1", f"{place}/runs/ข้อความ_1")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.csv", "prepare.test: empty.csv holds no record"),
        ("folder.csv", "is a directory"),
        ("gone.csv", "prepare.test: no such file"),
        ("other.csv", "other.csv has no column"),
    ],
)
def test_test_rows_are_looked_at_before_a_config_is_written(place, name, reason):
    (place / "a.csv").write_bytes(write(ROWS, header=("text", "label")))
    (place / "empty.csv").write_bytes(b"text,label\n")
    (place / "folder.csv").mkdir()
    (place / "other.csv").write_bytes(write(ROWS, header=("body", "stars")))
    line = one_line(invoke("init", "a.csv", "--test", name))
    assert reason in line
    assert not (place / "a.yaml").exists()


def test_nothing_is_replaced_without_being_asked(place):
    (place / "messages.csv").write_bytes(write(ROWS, header=("text", "label")))
    (place / "messages.yaml").write_text("mine")
    assert "messages.yaml exists: name another" in one_line(invoke("init", "messages.csv"))
    assert (place / "messages.yaml").read_text() == "mine"
    init("messages.csv", "--overwrite")
    assert read_config()["name"] == "messages"


def test_a_table_in_place_of_a_config_is_said_to_be_one(place):
    for name in ("my.csv", "my.csv.gz", "my.parquet"):
        (place / name).write_bytes(b"text\nhello\n")
        for command in (("run",), ("config", "validate"), ("doctor",)):
            line = one_line(invoke(*command, name))
            expected = f"{name} is a table, not a config: sentiflow init {name} writes one"
            assert line == f"sentiflow: {expected}"


def test_a_name_of_a_file_is_quoted_in_the_command_to_type(place):
    name = "my $(id).csv"
    (place / name).write_bytes(write(ROWS, header=("text", "label")))
    assert "sentiflow init 'my $(id).csv' writes one" in one_line(invoke("run", name))


def test_files_in_object_storage_are_looked_at(place, bucket):
    for name in ("a", "b"):
        content = write(ROWS, header=("text", "label"), delimiter="\t")
        filesystem.write_bytes(f"{bucket}/in/{name}.tsv", content)
    printed = init(f"{bucket}/in/*.tsv", "--output", "messages.yaml")
    assert printed.startswith("2 files: 800 rows")
    assert read_config()["prepare"]["csv"] == f"{bucket}/in/*.tsv"
    assert read_config()["output_uri"] == f"{bucket}/runs/messages"
    text = (place / "messages.yaml").read_text()
    assert "; runs/messages is a folder of this machine, which a cluster does not see\n" in text
    assert read_config()["format"]["delimiter"] == "\t"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.soak
def test_a_config_that_was_written_runs_as_it_is(place, sentiflow):
    """From a semicolon CSV in cp1252 to a report, and to predictions with the texts as they are."""
    rows = [(f"{text} “wirklich” für 5 €", label) for text, label in make_rows(1200)]
    branded = [(*row, "nord" if i % 2 else "süd") for i, row in enumerate(rows)]
    content = write(branded, header=("message", "mood", "brand"), delimiter=";", encoding="cp1252")
    (place / "messages.csv").write_bytes(content)
    make_store(place)
    looked = sentiflow("init", "messages.csv", cwd=place)
    assert looked.returncode == 0, looked.stderr
    ran = sentiflow("run", "messages.yaml", "train.num_epochs=2", "--json", cwd=place)
    assert ran.returncode == 0, ran.stderr
    record = json.loads(ran.stdout)
    assert record["prepare"]["classes"] == ["negative", "positive", "neutral"]
    assert record["prepare"]["counts"]["rejected"] == 0
    predictions = pq.read_table(place / "runs/messages/scored/predictions").to_pandas()
    assert sorted(predictions["text"]) == sorted(text for text, _ in rows)
    assert set(predictions["brand"]) == {"nord", "süd"}
    assert isinstance(predictions, pd.DataFrame)
    assert (place / "runs/messages/report/report.html").exists()


def test_columns_of_folders_are_kept_and_one_that_files_have_too_is_left_out(place):
    content = write(BRANDED, header=("text", "sentiment", "brand"))
    (place / "day=2026-12-01/brand=A").mkdir(parents=True)
    (place / "day=2026-12-01/brand=A/messages.csv").write_bytes(content)
    init("day=2026-12-01/brand=A/messages.csv")
    found = read_config()
    assert found["prepare"]["keep_columns"] == ["day"]
    assert found["score"]["keep_columns"] == ["text", "day"]
    assert "evaluate" not in found


AZURE = "abfss://data@me.dfs.core.windows.net"


@pytest.mark.parametrize(
    ("file", "output"),
    [
        ("in/a.csv", "runs/x"),
        ("s3://bucket/in/*.csv", "s3://bucket/runs/x"),
        ("S3://bucket/in/a.csv", "s3://bucket/runs/x"),
        ("gs://bucket/a.parquet", "gs://bucket/runs/x"),
        (f"{AZURE}/a.csv", f"{AZURE}/runs/x"),
        ("s3://bucket/**/*.parquet", "runs/x"),
        ("s3://bucket/*/*/*.csv", "runs/x"),
    ],
)
def test_results_of_stored_files_go_to_their_store_unless_the_glob_would_read_them(file, output):
    assert new_config._choose_output([file], "x") == output
