"""Files arrive in any order, under any name, in any folder: every row has the same prediction."""
# ruff: noqa: F811 -- fixtures are imported

import gzip
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stages import mark_unfinished
from test_score import configure as configure_csv
from test_score import model, record, score, table, times  # noqa: F401

import sentiflow
from sentiflow.config import settings
from sentiflow.data import input_files
from sentiflow.errors import UserError
from sentiflow.pipeline import stages as pipeline
from sentiflow.scoring import score as scoring
from sentiflow.storage import filesystem

pytestmark = [pytest.mark.ray, pytest.mark.slow]

FORM = {"kind": "csv", "columns": {"text": "text", "label": "label"}, "labels": "auto"}
KEEP = ["brand", "day", "text"]
WORDS = ("good", "bad", "day", "love", "hate", "how", "not", "much")
PLACES = [
    "brand=A/day=2026-12-01/x",
    "brand=A/day=2026-12-02/x",
    "brand=A/day=__HIVE_DEFAULT_PARTITION__/x",
    "brand=B%26C/day=2026-12-01/y",
    "brand=B%26C/day=2026-12-09/a",
    "brand=Z/day=2026-11-30/deeper/b",
]


def make_rows(seed, num_rows):
    """Make texts of which some are empty, so that they are rejected."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, 5)) for _ in range(num_rows)]
    for number in rng.choice(num_rows, 2, replace=False):
        texts[number] = ""
    return pd.DataFrame({"text": texts, "label": rng.choice(["negative", "positive"], num_rows)})


def write(folder, place, kind, *, num_rows=30, first_id=None):
    """Write a file; the place decides its rows."""
    rows = make_rows(PLACES.index(place), num_rows)
    if first_id is not None:
        rows["row_id"] = first_id + 7 * np.arange(num_rows)
    path = folder / f"{place}.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "parquet":
        rows.to_parquet(path, row_group_size=11)
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(rows.to_csv(index=False).encode(), mtime=0))
    else:
        rows.to_csv(path, index=False)


def configure(folder, model, kind="csv", **options):
    corpus = f"{folder}/in/**/*.{kind}"
    folder.mkdir(exist_ok=True)
    options = {"format": FORM, "keep_columns": KEEP, "rows_per_file": 70} | options
    return configure_csv(folder, model, corpus, **options)


def read(folder, *columns):
    """Read predictions by file and place in the file, without their numbers."""
    rows = sentiflow.read_predictions(folder / "run/scored", with_source=True)
    assert rows["source"].notna().all()
    rows["source"] = [uri.partition("/in/")[2] for uri in rows["source"]]
    rows = rows.sort_values(["source", "source_row"]).reset_index(drop=True)
    return rows.drop(columns=["row_id"]) if not columns else rows[list(columns)]


def assert_same(rows, expected):
    near = [name for name in expected if name.startswith(("probability", "confidence"))]
    pd.testing.assert_frame_equal(rows.drop(columns=near), expected.drop(columns=near))
    np.testing.assert_allclose(rows[near], expected[near], atol=1e-6)


def draw_orders(num_orders):
    """Draw orders of arrival, each cut into jobs: some files arrive together."""
    rng = np.random.default_rng(5)
    orders = []
    for _ in range(num_orders):
        places = list(rng.permutation(PLACES))
        cuts = sorted(rng.choice(np.arange(1, len(places)), 2, replace=False))
        orders.append([places[: cuts[0]], places[cuts[0] : cuts[1]], places[cuts[1] :]])
    return orders


ORDERS = [
    pytest.param(order, marks=pytest.mark.soak if number > 0 else ())
    for number, order in enumerate(draw_orders(12))
]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("order", ORDERS)
def test_the_predictions_of_any_order_of_arrival_are_those_of_one_scoring(
    tmp_path, model, resources, order, kind
):
    together = tmp_path / "together"
    for place in PLACES:
        write(together / "in", place, kind)
    score(configure(together, model, kind))
    expected = read(together)
    assert len(expected) == 28 * len(PLACES)
    assert sorted(map(str, expected["brand"].unique())) == ["A", "B&C", "Z"]
    assert expected["day"].isna().sum() == 28
    grown = tmp_path / "grown"
    config = configure(grown, model, kind)
    before: dict[str, int] = {}
    for places in order:
        for place in places:
            write(grown / "in", place, kind)
        score(config)
        assert before.items() <= times(grown).items(), "what is scored stays"
        before = times(grown)
    assert_same(read(grown), expected)
    uris = [item["uri"] for item in record(grown)["inputs"]["corpus"]["files"]]
    arrived = [sorted(places) for places in order]
    assert [uri.partition("/in/")[2] for uri in uris] == [
        f"{place}.{kind}" for places in arrived for place in places
    ]
    numbers = sentiflow.read_predictions(grown / "run/scored")["row_id"]
    score(config, "score.precision=fp32", overwrite=True)
    assert not before.keys() & times(grown).keys(), "all rows are scored again"
    again = sentiflow.read_predictions(grown / "run/scored")["row_id"]
    assert sorted(again) == sorted(numbers)
    assert [item["uri"] for item in record(grown)["inputs"]["corpus"]["files"]] == uris
    assert_same(read(grown), expected)


def test_a_scoring_that_was_killed_keeps_the_order_of_its_files(tmp_path, model, resources):
    write(tmp_path / "in", PLACES[3], "csv")
    config = configure(tmp_path, model)
    score(config)
    expected = table(tmp_path)
    mark_unfinished(scoring.resolve(settings.load(config)).spec)
    write(tmp_path / "in", PLACES[0], "csv")
    score(config)
    found = table(tmp_path)
    assert found["text"].tolist()[: len(expected)] == expected["text"].tolist()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_that_were_scored_are_listed_once_and_not_opened(
    tmp_path, model, resources, monkeypatch, kind
):
    write(tmp_path / "in", PLACES[0], kind)
    config = configure(tmp_path, model, kind)
    score(config)
    assert record(tmp_path)["has_row_ids"] is False
    write(tmp_path / "in", PLACES[1], kind)
    listings = []
    opened = []
    find = input_files.find
    locate = filesystem.locate

    def watch_find(patterns, **options):
        listings.append(patterns)
        return find(patterns, **options)

    def watch_locate(uri):
        opened.append(uri)
        return locate(uri)

    monkeypatch.setattr(input_files, "find", watch_find)
    monkeypatch.setattr(filesystem, "locate", watch_locate)
    score(config)
    assert len(listings) == 1
    inputs = {uri.partition("/in/")[2] for uri in opened if "/in/" in uri}
    assert inputs == {f"{PLACES[1]}.{kind}", f"**/*.{kind}"}  # the glob is looked at
    assert record(tmp_path)["counts"]["rows_read"] == 60


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_small_files_share_a_part_which_names_its_rows(tmp_path, model, resources, kind):
    for place in PLACES:
        write(tmp_path / "in", place, kind)
    score(configure(tmp_path, model, kind))
    parts = record(tmp_path)["parts"]
    found = [(part["part"], part["file"], part["first_row"], part["rows"]) for part in parts]
    if kind == "parquet":  # row groups of 11, 11 and 8 rows
        assert [part["rows"] for part in parts] == [71, 71, 38]
        assert [(part["file"], part["start"]) for part in parts] == [(0, 0), (2, 11), (4, 22)]
    else:
        assert found == [(0, 0, 0, 60), (1, 2, 60, 60), (2, 4, 120, 60)]
        assert {part["start"] for part in parts} == {len("text,label\n")}
    assert sum(part["rows"] for part in parts) == 30 * len(PLACES)
    assert len(list((tmp_path / "run/scored/predictions").iterdir())) == 3
    assert [item["rows"] for item in record(tmp_path)["inputs"]["corpus"]["files"]] == [30] * 6


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_row_id_leads_to_the_row_of_its_file(tmp_path, model, resources, kind):
    """Ids of the files do not say where the rows are: the parts and the rejected rows do."""
    for number, place in enumerate(PLACES):
        first_id = 10_000 * (9 - number) if kind == "parquet" else None
        write(tmp_path / "in", place, kind, first_id=first_id)
    score(configure(tmp_path, model, kind))
    if kind == "parquet":
        assert record(tmp_path)["has_row_ids"]
    found = read(tmp_path, "source", "source_row", "text")
    for place in PLACES:
        texts = make_rows(PLACES.index(place), 30)["text"]
        of_file = found[found["source"] == f"{place}.{kind}"]
        assert of_file["text"].tolist() == texts[of_file["source_row"].astype(int)].tolist()
    scored = sentiflow.load_run(tmp_path / "run").scored
    rejected = scored.rejected.to_pandas()
    sources = scored.find_sources(rejected["row_id"])
    assert sources["source"].astype(str).tolist() == rejected["source"].astype(str).tolist()
    if kind == "parquet":
        assert sources["source_row"].tolist() == rejected["offset"].tolist()
    assert scored.find_sources([-5, 10**12]).isna().all(axis=None)


def check_sources(folder, names):
    """Check that each row, rejected ones too, is found in its file, which the manifest names."""
    found = read(folder, "source", "source_row", "text")
    assert set(found["source"]) == set(names)
    texts = {}
    for name in names:
        path = folder / "in" / name
        is_table = name.endswith(".parquet")
        rows = pd.read_parquet(path) if is_table else pd.read_csv(path, keep_default_na=False)
        texts[name] = rows["text"].tolist()
        of_file = found[found["source"] == name]
        expected = [texts[name][number] for number in of_file["source_row"]]
        assert of_file["text"].tolist() == expected
        assert len(of_file) == len(rows) - 2
    scored = sentiflow.load_run(folder / "run").scored
    rejected = scored.rejected.to_pandas()
    assert len(rejected) == len(scored.rejected) == 2 * len(names)
    sources = scored.find_sources(rejected["row_id"])
    assert sources["source"].tolist() == rejected["source"].tolist()
    for uri, number in zip(sources["source"], sources["source_row"], strict=True):
        assert texts[uri.partition("/in/")[2]][number] == ""
    of_first = scored.rejected.to_pandas(filters=[("source", "==", rejected["source"][0])])
    assert len(of_first) == 2


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_of_a_file_that_has_moved_are_found_where_it_is_now(tmp_path, model, resources, kind):
    folder = tmp_path / "in"
    names = [f"{place}.{kind}" for place in PLACES]

    def add(number):
        first_id = 10_000 * (9 - number) if kind == "parquet" else None
        write(folder, PLACES[number], kind, first_id=first_id)

    def move(name, to):
        (folder / name).rename((folder / name).with_name(f"{to}.{kind}"))
        return f"{name.rpartition('/')[0]}/{to}.{kind}"

    add(0)
    add(1)  # the two files share a part
    config = configure(tmp_path, model, kind)
    score(config)
    first = move(names[0], "moved")
    assert not score(config).ran
    assert set(read(tmp_path, "source")["source"]) == set(names[:2]), "no row was added"
    add(2)
    score(config)
    check_sources(tmp_path, [first, names[1], names[2]])
    first = move(first, "again")
    second = move(names[1], "x2")
    add(3)
    add(4)
    (folder / names[4]).rename(folder / names[0])  # another file has the first name now
    score(config)
    check_sources(tmp_path, [first, second, names[2], names[3], names[0]])
    files = record(tmp_path)["inputs"]["corpus"]["files"]
    assert [item.get("read_as", "").partition("/in/")[2] for item in files] == [
        *names[:2],
        *[""] * 3,
    ]
    score(config, "score.precision=fp32", overwrite=True)
    check_sources(tmp_path, [first, second, names[2], names[3], names[0]])
    files = record(tmp_path)["inputs"]["corpus"]["files"]
    assert not any("read_as" in item for item in files)


def test_a_file_that_has_the_column_of_its_folder_is_refused(tmp_path, model, resources):
    path = tmp_path / "in/brand=A/x.csv"
    path.parent.mkdir(parents=True)
    path.write_text("text,brand\ngood,A\n")
    config = configure(tmp_path, model, keep_columns=["brand"])
    with pytest.raises(UserError, match=r"x\.csv has a column brand, and its folder is brand=A"):
        score(config)
    assert not (tmp_path / "run/scored").exists()
    score(config, "score.keep_columns=[]")
    assert len(table(tmp_path)) == 1
    pq.write_table(pa.table({"text": ["bad"], "brand": ["B"]}), path.with_suffix(".parquet"))
    with pytest.raises(UserError, match=r"x\.parquet has a column brand, and its folder is"):
        score(configure(tmp_path, model, "parquet", keep_columns=["brand"]), overwrite=True)


def test_a_folder_that_one_file_lacks_is_no_column(tmp_path, model, resources):
    write(tmp_path / "in", PLACES[0], "csv")
    shutil.copy(tmp_path / f"in/{PLACES[0]}.csv", tmp_path / "in/x.csv")
    with pytest.raises(UserError, match=r"x\.csv has no column brand, day"):
        score(configure(tmp_path, model))


def test_a_copy_in_another_partition_is_another_file(tmp_path, model, resources, said):
    write(tmp_path / "in", PLACES[0], "csv")
    config = configure(tmp_path, model)
    score(config)
    other = tmp_path / "in/brand=B/day=2026-12-01/x.csv"
    other.parent.mkdir(parents=True)
    shutil.copy(tmp_path / f"in/{PLACES[0]}.csv", other)
    shutil.copy(other, other.with_name("y.csv"))
    score(config)
    assert "brand=B/day=2026-12-01/y.csv is a copy of" in said.text
    assert table(tmp_path)["brand"].value_counts().to_dict() == {"A": 28, "B": 28}
    files = record(tmp_path)["inputs"]["corpus"]["files"]
    assert [item["rows"] for item in files] == [30, 30, 0]
    other.with_name("y.csv").unlink()
    moved = tmp_path / "in/brand=C/day=2026-12-01/x.csv"
    moved.parent.mkdir(parents=True)
    other.rename(moved)
    with pytest.raises(UserError, match=r"another corpus: .*brand=B/day=2026-12-01/x\.csv"):
        score(config)


def test_old_files_may_expire_if_the_setting_says_so(tmp_path, model, resources, said):
    for place in PLACES[:2]:
        write(tmp_path / "in", place, "csv")
    config = configure(tmp_path, model)
    score(config)
    expected = table(tmp_path)
    (tmp_path / f"in/{PLACES[0]}.csv").unlink()
    write(tmp_path / "in", PLACES[2], "csv")
    with pytest.raises(UserError) as error:
        score(config)
    assert f"it lacks {tmp_path}/in/{PLACES[0]}.csv (are old files deleted in time? score." in str(
        error.value
    )
    keep = "score.keep_expired=true"
    score(config, keep)
    line = (
        f"1 scored file is gone, the first is {tmp_path}/in/{PLACES[0]}.csv: the predictions stay"
    )
    assert line in said.text
    found = table(tmp_path)
    assert_same(found[: len(expected)], expected)
    assert len(found) == len(expected) + 28
    files = [
        item["uri"].partition("/in/")[2] for item in record(tmp_path)["inputs"]["corpus"]["files"]
    ]
    assert files == [f"{place}.csv" for place in PLACES[:3]]
    assert set(read(tmp_path, "source")["source"]) == set(files)
    assert not score(config, keep).ran
    for place in PLACES[1:3]:
        (tmp_path / f"in/{place}.csv").unlink()
    assert not score(config, keep).ran, "all are gone"
    write(tmp_path / "in", PLACES[3], "csv")
    score(config, keep)
    assert len(table(tmp_path)) == len(found) + 28
    score(config, keep, overwrite=True)
    assert len(table(tmp_path)) == 28, "the predictions of files that are gone are dropped"


def test_a_file_that_has_moved_to_another_partition_has_not_expired(tmp_path, model, resources):
    write(tmp_path / "in", PLACES[0], "csv")
    write(tmp_path / "in", PLACES[3], "csv")
    config = configure(tmp_path, model)
    score(config)
    moved = tmp_path / "in/brand=C/day=2026-12-01/x.csv"
    moved.parent.mkdir(parents=True)
    (tmp_path / f"in/{PLACES[0]}.csv").rename(moved)
    with pytest.raises(
        UserError, match=r"another corpus: it lacks .*brand=A/day=2026-12-01/x\.csv"
    ):
        score(config, "score.keep_expired=true")


def test_shares_are_grouped_by_folders(tmp_path, model, resources):
    for place in PLACES:
        write(tmp_path / "in", place, "parquet", num_rows=60)
    config = configure(tmp_path, model, "parquet")
    loaded = settings.load(config, ["trends.by=[brand,'day:week']"])
    pipeline.run(loaded, ["score", "trends"])
    shares = sentiflow.load_run(tmp_path / "run").trends.shares
    assert set(shares.loc[shares["by"] == "brand", "group"]) == {"A", "B&C", "Z"}
    weeks = shares.loc[shares["by"] == "day:week", "period"].dropna()
    assert {str(week.date()) for week in weeks} == {"2026-11-30", "2026-12-07"}


def test_a_folder_without_a_value_has_no_time(tmp_path, model, resources):
    """Also if the rows of the folder are a part of their own, which came later."""
    write(tmp_path / "in", PLACES[0], "parquet", num_rows=60)
    config = configure(tmp_path, model, "parquet")
    by = ["trends.by=[brand,'day:week']"]
    pipeline.run(settings.load(config, by), ["score", "trends"])
    write(tmp_path / "in", PLACES[2], "parquet", num_rows=60)
    pipeline.run(settings.load(config, by), ["score"])
    pipeline.run(settings.load(config, by), ["trends"], overwrite=True)
    trends = sentiflow.load_run(tmp_path / "run").trends
    assert "58 rows have no time in day and are in no period" in trends.manifest["notes"]
    shares = trends.shares[trends.shares["class"] == "positive"]
    assert shares.loc[shares["by"] == "day:week", "rows"].tolist() == [58]
    assert shares.loc[shares["by"] == "all", "rows"].tolist() == [116]


def test_prepared_rows_have_the_columns_of_their_folders(tmp_path, resources):
    for place in PLACES:
        write(tmp_path / "in", place, "csv", num_rows=60)
    config = configure_csv(tmp_path, None, f"{tmp_path}/in/**/*.csv")
    changes = {
        "prepare.keep_columns": ["brand", "day"],
        "format": FORM,
        "prepare.rows_per_file": 200,
        "prepare.max_rejected_fraction": 0.1,
    }
    prepared = sentiflow.prepare(str(config), changes)
    tweets = prepared.tweets.to_pandas()
    assert set(tweets["brand"]) == {"A", "B&C", "Z"}
    assert {part["rows"] for part in prepared.manifest["parts"]} == {180}
    sources = prepared.find_sources(tweets["row_id"])
    for place in PLACES:
        texts = make_rows(PLACES.index(place), 60)["text"]
        is_here = sources["source"].astype(str).str.endswith(f"{place}.csv")
        rows = sources.loc[is_here, "source_row"].astype(int)
        assert tweets.loc[is_here, "text"].tolist() == texts[rows].tolist()
