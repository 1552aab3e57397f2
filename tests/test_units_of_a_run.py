"""A corpus with many forms of each word: `init` writes characters, and all stages read them."""

import json
import random

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import make_store
from test_cli import invoke

import sentiflow
from sentiflow.data import manifest
from sentiflow.evaluation import slices, text_traits

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STEMS = {"positive": ["좋았", "훌륭했", "멋졌"], "negative": ["나빴", "지루했", "아쉬웠"]}
NOUNS = ["영화", "배우", "음악", "장면", "결말", "연기"]
ENDINGS = list("가는도만을에와로다요죠네서면니고며지든")


def write_corpus(path, *, num_rows=400):
    """Write rows of words with a stem and two or three random endings, so most words occur once."""
    rng = random.Random(5)

    def inflect(stem):
        return stem + "".join(rng.choices(ENDINGS, k=rng.choice([2, 3])))

    rows = []
    for number in range(num_rows):
        label = ("positive", "negative")[number % 2]
        words = [inflect(rng.choice(NOUNS)) for _ in range(3)]
        words.append(inflect(rng.choice(STEMS[label])))
        rows.append((" ".join(words) + rng.choice(["", "!", " ㅋㅋ", " @ann"]), label))
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Run `init` and `run` in a folder of its own."""
    folder = tmp_path_factory.mktemp("characters")
    write_corpus(folder / "films.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        looked = invoke("init", "films.csv")
        assert looked.exit_code == 0, looked.output
        (folder / "looked.txt").write_text(looked.stdout)
        ran = invoke(
            "run", "films.yaml", "train.model.hidden_size=16", "train.num_epochs=4",
            f"tracking.uri={make_store(folder)}",
        )  # fmt: skip
        assert ran.exit_code == 0, ran.output
        (folder / "ran.txt").write_text(ran.stdout + ran.stderr)
    return folder


def test_init_writes_characters_and_says_why(place):
    config = (place / "films.yaml").read_text()
    written = yaml.safe_load(config)
    assert written["prepare"]["unit"] == "characters"
    assert written["train"]["model"]["hidden_size"] == 64
    (line,) = [line for line in config.splitlines() if "unit:" in line]
    assert "of the words occur once, and 0% have a vector" in line
    assert "The network reads characters: " in (place / "looked.txt").read_text()


def test_the_vocabulary_has_characters(place):
    words = pq.read_table(place / "runs/films/prepared/vocabulary.parquet")["word"].to_pylist()
    assert {"영", "화", "!", "<user>"} <= set(words)
    assert max(len(word) for word in words if word.isalpha()) == 1
    assert "characters" in (place / "ran.txt").read_text()


def test_a_loaded_model_answers_as_the_run_did(place):
    run = place / "runs/films"
    settings = json.loads((run / "trained/model/settings.json").read_bytes())
    assert settings["unit"] == "characters"
    scored = manifest.require(str(run / "scored"), stage="score", setting="the run")
    files = [
        run / "scored" / file["path"] for file in scored["files"] if "predictions" in file["path"]
    ]
    table = pd.concat([pd.read_parquet(file) for file in files])
    answers = sentiflow.load_model(str(run)).predict(table["text"].tolist())
    assert answers["predicted_label"].tolist() == table["predicted_label"].tolist()
    assert answers["num_tokens"].tolist() == table["num_tokens"].tolist()
    num_characters = table["text"].str.replace("@ann", "@").str.replace(" ", "").str.len()
    assert (table["num_tokens"] <= num_characters).all()
    assert (table["num_tokens"] > num_characters / 2).all(), "most characters are known"


def test_the_length_of_a_text_is_counted_in_what_the_network_reads():
    settings = {"tokenizer": "tweet", "max_length": 6, "unit": "characters"}
    rows = pa.table({"text": ["영화가 좋다", "영화가 아주 좋았다", "!"]})
    lengths = text_traits.add_traits(rows, settings, {})[slices.LENGTH]
    assert lengths.to_pylist() == [5, 6, 1]


def test_card_and_report_name_the_unit(place):
    card = place / "card.md"
    assert invoke("card", str(place / "runs/films"), "--output", str(card)).exit_code == 0
    assert " characters" in card.read_text()
    assert " characters" in (place / "runs/films/report/report.html").read_text()
