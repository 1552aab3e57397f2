"""Several models have scored a corpus: each is measured, and the report is about one."""

import pyarrow as pa
import pytest
from test_evaluated_rows import TEXTS, Runs, by_tens, csv_input, replace_column, tens

from sentiflow.data import lineage, manifest
from sentiflow.evaluation import evaluated_rows
from sentiflow.evaluation.chosen_model import choose_model


def test_each_version_is_measured_on_rows_of_its_own_that_it_has_not_learned(tmp_path):
    """Version 1 has learned rows of the first file, version 2 a copy of the texts."""
    runs = Runs(tmp_path)
    first = runs.train("a", runs.prepare("a"))
    copied = runs.prepare("b", by_tens(test=(9,)), csv=csv_input("b0b"))
    second = runs.train("b", copied)
    files = [csv_input()["files"][0], csv_input("f00d", "/data/new.csv")["files"][0]]
    corpus = {"fingerprint": "two", "files": files}
    version = pa.array(["1"] * 150 + ["2"] * 150)
    wrong = [*range(3), *tens(8)[:5], *tens(9)[:3], *tens(9)[-1:]]
    more = {"text": pa.array(TEXTS), "model_version": version, "wrong": wrong}
    uri = runs.score("c", corpus, second, counts={"accepted": 300}, **more) + "/scored"
    record = manifest.read(uri)
    models = {"1": manifest.read(f"{runs.score('d', corpus, first)}/scored")["inputs"]["model"]}
    record["models"] = models | {"2": record["inputs"]["model"]}
    record["scorings"] = [
        {"model_version": n, "first_part": 0, "first_file": f, "num_files": 1, "rows": 150}
        for f, n in enumerate("12")
    ]
    chosen, found, notes = choose_model(uri, record, lineage.corpus_of(record))
    assert {name: (each["rows"], each["num_rows"]) for name, each in found.items()} == {
        "2": (150, 15), "1": (150, 30),
    }  # fmt: skip
    assert found["1"]["accuracy"] == pytest.approx(22 / 30)
    assert found["2"]["accuracy"] == pytest.approx(14 / 15)
    assert notes[0].startswith("model version 2: 150 rows scored, right on 93.3% of 15 labelled")
    assert notes[2] == "the report is about model version 2"
    assert chosen["inputs"]["model"] == record["models"]["2"]
    rows = evaluated_rows.read(uri, chosen)
    assert sorted(rows["row_id"].to_pylist()) == [*range(150, 300)]
    unlabelled = pa.array([1] * 150 + [None] * 150, pa.int8())
    replace_column(tmp_path / "c/scored", "label", lambda table: unlabelled.take(table["row_id"]))
    record["files"] = manifest.read(uri)["files"]
    chosen, found, notes = choose_model(uri, record, lineage.corpus_of(record))
    assert notes[0] == (
        "model version 2: 150 rows scored, none with a label that it was not trained on"
    )
    assert notes[2] == "the report is about model version 1"
    assert "num_rows" not in found["2"]
