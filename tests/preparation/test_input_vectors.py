"""Word vectors are an input: from a file or a model package, and a changed one is noticed."""

import pyarrow.parquet as pq
import pytest
from conftest import new_package
from stages import look
from test_prepare import PLAIN, THIRDS, prepare

from sentiflow.config import settings
from sentiflow.config.locations import resolve_locations
from sentiflow.data.output_status import find_status
from sentiflow.errors import UserError
from sentiflow.preparation import prepare as preparation

pytestmark = pytest.mark.ray


@pytest.fixture
def vectors_txt(tmp_path):
    """A file with the vectors of three words."""
    path = tmp_path / "vectors.txt"
    path.write_text("good 1 2\nbad -1 2\nday 0 3\n")
    return path


def few_tweets(folder):
    texts = ["good day", "a bad day", "good good", "bad bad", "day", "good bad"]
    lines = [f"{'np'[i % 2]},{text} {i}" for i, text in enumerate(texts * 10)]
    (folder / "few.csv").write_text("\n".join(lines) + "\n")
    return folder / "few.csv"


def test_vectors_come_from_a_file_and_a_changed_file_is_refused(tmp_path, vectors_txt, resources):
    csv = few_tweets(tmp_path)
    words = {"kind": "pretrained", "vectors": str(vectors_txt)}
    made = prepare(tmp_path, csv, PLAIN, vocabulary=words, split=THIRDS)
    assert [item["uri"] for item in made["inputs"]["vectors"]["files"]] == [str(vectors_txt)]
    table = pq.read_table(tmp_path / "run/prepared/vocabulary.parquet").to_pydict()
    assert table["word"] == ["<pad>", "good", "bad", "day"]
    assert table["vector"][1:] == [[1, 2], [-1, 2], [0, 3]]

    moved = vectors_txt.rename(tmp_path / "moved.txt")  # only what is in it decides
    raw = {"csv": str(csv), "split": THIRDS, "vocabulary": words | {"min_count": 1}}
    raw["vocabulary"]["vectors"] = str(moved)
    whole = {"name": "test", "output_uri": str(tmp_path / "run"), "format": PLAIN, "prepare": raw}
    config = resolve_locations(settings.validate(whole, source="test"))
    assert find_status(preparation.resolve(config).spec).state == "other"
    raw["vocabulary"].pop("min_count")
    config = resolve_locations(settings.validate(whole, source="test"))
    assert find_status(preparation.resolve(config).spec).state == "complete"
    moved.write_text("good 1 2\nbad -1 2\nday 0 4\n")
    with pytest.raises(UserError, match=r"another vectors: .*/moved\.txt"):
        look(preparation.resolve(config).spec)


def test_vectors_come_from_a_model_package(tmp_path, resources):
    package = new_package()
    made = package.save(str(tmp_path / "model"), lineage={})
    words = {"kind": "pretrained", "vectors": str(tmp_path / "model")}
    record = prepare(tmp_path, few_tweets(tmp_path), PLAIN, vocabulary=words, split=THIRDS)
    assert record["inputs"]["vectors"]["fingerprint"] == made["fingerprint"]
    found = pq.read_table(tmp_path / "run/prepared/vocabulary.parquet")["word"].to_pylist()
    assert found == [
        "<pad>",
        *package.vocabulary.words[package.vocabulary.num_special :].to_pylist(),
    ]
