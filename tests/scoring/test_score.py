"""Every row is scored exactly once, whether a process is killed, files are added or rows fail."""

import json
import os
import shutil
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch
from conftest import make_store, new_package, with_weights, write_config
from stages import mark_unfinished
from test_cli import invoke
from test_model_registry import register

from sentiflow.config import settings
from sentiflow.data import input_files, manifest, sample
from sentiflow.data.outputs import open_output
from sentiflow.errors import JobError, UserError
from sentiflow.models.package import ModelPackage
from sentiflow.pipeline import stages
from sentiflow.scoring import corpus_files, score_inputs, summary
from sentiflow.scoring import score as scoring
from sentiflow.scoring.score_inputs import LearnedFiles

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_ROWS, DAY = 9000, 3000
ROWS_PER_FILE = 750
WORDS = (
    "the my i is was it this but now and not about until that am always me you really know even no "
    "looks never so turned out to make be new waited will our how though why everything knew were "
    "both just saw used hate at right absolutely for love good bad happy day"
)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Make a corpus of seventeen parts, and the same in three files."""
    folder = tmp_path_factory.mktemp("corpus")
    records = b"".join(sample.generate(num_rows=NUM_ROWS, seed=3)).splitlines(keepends=True)
    (folder / "all.csv").write_bytes(b"".join(records))
    for number in range(3):
        part = records[number * DAY : (number + 1) * DAY]
        (folder / f"day-{number}.csv").write_bytes(b"".join(part))
    return folder


@pytest.fixture(scope="session")
def model(make_package):
    """Make a model that was not trained, and knows the words of the corpus."""
    return make_package(words=tuple(WORDS.split()))


def configure(folder, model, corpus, **score):
    """Write settings that score a corpus with a model."""
    section = {"corpus": str(corpus), "model_uri": model, "rows_per_file": ROWS_PER_FILE} | score
    return write_config(folder, corpus, score=section)


def score(config, *overrides, **options):
    """Score in this process, on the session's Ray."""
    (outcome,) = stages.run(settings.load(config, overrides), ["score"], **options)
    return outcome


def table(folder, name="predictions"):
    """Read what was scored, by its row ids."""
    files = ds.dataset(folder / "run/scored" / name, format="parquet")
    return files.to_table().to_pandas().sort_values("row_id").reset_index(drop=True)


def record(folder):
    """Read the manifest of what was scored."""
    return json.loads((folder / "run/scored/manifest.json").read_text())


def times(folder):
    """List the files of predictions with the time of each, also those of an unfinished run."""
    files = (folder / "run/scored").rglob("predictions/*.parquet")
    return {path.name: path.stat().st_mtime_ns for path in files}


def assert_same(predictions, expected):
    """Compare tables of predictions, of which probabilities may differ by rounding."""
    assert predictions["row_id"].tolist() == expected["row_id"].tolist()
    near = [name for name in expected.columns if name.startswith("probability")]
    pd.testing.assert_frame_equal(predictions.drop(columns=near), expected.drop(columns=near))
    np.testing.assert_allclose(predictions[near], expected[near], atol=1e-6)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, corpora, model, resources):
    """Score the corpus once without a kill."""
    folder = tmp_path_factory.mktemp("undisturbed")
    score(configure(folder, model, corpora / "all.csv"))
    return table(folder)


@pytest.fixture(scope="module")
def first_day(tmp_path_factory, corpora, model, resources):
    """Score the first file once."""
    folder = tmp_path_factory.mktemp("first_day")
    score(configure(folder, model, corpora / "day-0.csv"))
    return folder


@pytest.fixture
def scored(tmp_path, corpora, model, first_day):
    """Copy what was scored of the first file; returns the settings of that scoring."""
    shutil.copytree(first_day / "run", tmp_path / "run")
    return configure(tmp_path, model, corpora / "day-0.csv")


def test_every_row_is_scored_once(undisturbed):
    assert undisturbed["row_id"].tolist() == list(range(NUM_ROWS))


def markers(folder):
    """Find the completion markers of the scored parts."""
    return sorted((folder / "run/scored/_work").glob("*/receipts/score-*.json"))


def wait_for(folder, number, is_over):
    """Wait until so many parts are scored."""
    while len(markers(folder)) < number:
        assert not is_over(), f"it was over before {number} parts were scored"
        time.sleep(0.002)


def test_prepared_data_that_are_replaced_after_the_plan_are_not_published(finished_run, tmp_path):
    copy = tmp_path / "prepared"
    shutil.copytree(finished_run / "run/prepared", copy)
    overrides = [f"score.prepared_uri={copy}", f"score.output_uri={tmp_path}/scored"]
    plan = scoring.resolve(settings.load(finished_run / "config.yaml", overrides))
    record = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(record | {"fingerprint": "ab"}))
    files = corpus_files.find(plan.corpus, num_old=0)
    rows, _ = score_inputs.inspect(plan, files, unpack_to="")
    corpus = files.describe(rows.files)
    assert corpus == plan.corpus
    with open_output(plan.spec) as output:
        output.begin()
        with pytest.raises(JobError, match="was replaced while it was read"):
            output.publish(
                inputs=plan.spec.inputs | {"corpus": corpus}, counts={}, files=[], seconds=1
            )


@pytest.mark.parametrize("other", ["model", "corpus"])
def test_an_unfinished_scoring_of_something_else_is_replaced_with_overwrite_only(
    tmp_path, corpora, scored, other
):
    spec = scoring.resolve(settings.load(scored)).spec
    changed = spec.inputs | {other: spec.inputs[other] | {"fingerprint": "other"}}
    if other == "corpus":
        changed["corpus"] = input_files.combine(
            input_files.describe_unread([f"{corpora}/day-1.csv"])
        )
    mark_unfinished(replace(spec, inputs=changed))
    with pytest.raises(UserError, match=f"unfinished run of other settings .another {other}"):
        score(scored)
    assert len(times(tmp_path)) == 6
    score(scored, overwrite=True)
    assert len(table(tmp_path)) == DAY


def test_an_invalid_request_deletes_nothing_even_with_overwrite(tmp_path, corpora, scored):
    before = record(tmp_path), times(tmp_path)
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    (tmp_path / "empty.csv").write_text("\n")
    for override, problem in (
        ("score.keep_columns=[typo]", "has no column typo"),
        (f"score.corpus={tmp_path}/no.parquet", "is not Parquet"),
        (f"score.corpus={tmp_path}/empty.csv", "holds no record"),
        (f"score.corpus=[{corpora}/day-0.csv,{tmp_path}/no.parquet]", "mixes CSV and Parquet"),
    ):
        with pytest.raises(UserError, match=problem):
            score(scored, override, overwrite=True)
    assert (record(tmp_path), times(tmp_path)) == before


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("score.corpus={}/day-1.csv", "another corpus"),
        ("score.keep_columns=[text]", "keep_columns"),
        ("score.model_uri={}/model", "another model"),
    ],
)
def test_another_model_corpus_or_setting_is_refused(
    tmp_path, corpora, model, scored, override, difference
):
    place = corpora
    if "model_uri" in override:
        place = tmp_path
        package = ModelPackage.load(model)
        package = with_weights(package, output__bias=package.arrays["output.bias"] + 1)
        package.save(str(tmp_path / "model"), lineage={})
    before = times(tmp_path)
    with pytest.raises(UserError, match=f"belongs to other settings.*{difference}"):
        score(scored, override.format(place))
    assert times(tmp_path) == before


def test_a_model_of_the_registry_is_downloaded_to_where_all_nodes_find_it(
    tmp_path, corpora, model, resources, monkeypatch
):
    store = make_store(tmp_path)
    register(model, store, name="test")
    config = configure(tmp_path, "models:/test@wrong", corpora / "day-0.csv")
    with pytest.raises(UserError, match="alias wrong not found"):
        score(config)
    named = "score.model_uri=models:/test@candidate"
    assert score(config, named).ran
    assert record(tmp_path)["inputs"]["model"]["uri"] == "models:/test/1"
    assert not score(config, named).ran
    assert not (tmp_path / "run/scored/_work").exists()
    direct = f"score.output_uri={tmp_path}/direct"
    score(config, f"score.model_uri={model}", direct)
    expected = ds.dataset(tmp_path / "direct/predictions").to_table().to_pandas()
    assert set(expected["model_version"]) == {manifest.read(model)["fingerprint"]}
    expected = expected.assign(model_version="1").sort_values("row_id").reset_index(drop=True)
    assert_same(table(tmp_path), expected)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    named, direct = (
        invoke("predict", uri, "good day", "bad day") for uri in ("models:/test@candidate", model)
    )
    assert named.stdout == direct.stdout != ""


def test_a_task_without_a_share_of_a_gpu_uses_none(model, monkeypatch):
    from sentiflow.cluster import loaded_models

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    fingerprint = manifest.read(model)["fingerprint"]
    (package,) = loaded_models.load_models((model, fingerprint), on_gpu=False)
    assert not package.on_gpu


def test_a_file_that_is_changed_while_it_is_scored_is_refused(
    tmp_path, model, resources, monkeypatch
):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["good", "bad"]}), path)
    config = configure(tmp_path, model, path)

    def change(*arguments, **options):
        pq.write_table(pa.table({"text": ["bad", "good"]}), path)

    monkeypatch.setattr(summary, "tell", change)  # after all parts are scored
    with pytest.raises(UserError, match=r"a\.parquet was changed while it was read: run the same"):
        score(config)
    assert not (tmp_path / "run/scored").exists()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_that_vanishes_after_the_listing_is_named(
    tmp_path, model, resources, monkeypatch, kind
):
    for name in "ab":
        rows = pd.DataFrame({"text": ["good", f"bad {name}"]})
        path = tmp_path / f"{name}.{kind}"
        rows.to_csv(path, index=False) if kind == "csv" else rows.to_parquet(path)
    form = {"kind": "csv", "columns": {"text": "text"}}
    config = configure(tmp_path, model, tmp_path / f"?.{kind}", format=form)
    find = corpus_files.find

    def find_and_delete(*arguments, **options):
        found = find(*arguments, **options)
        path.unlink()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(corpus_files, "find", find_and_delete)
        with pytest.raises(UserError, match=rf"b\.{kind} was deleted while it was read: run the"):
            score(config)
    assert not (tmp_path / "run/scored").exists()
    score(config)
    assert len(table(tmp_path)) == 2


def test_bf16_changes_no_prediction_of_a_cpu(tmp_path, corpora, model, undisturbed, resources):
    score(configure(tmp_path, model, corpora / "all.csv", precision="bf16"))
    difference = np.abs(table(tmp_path)["probability"] - undisturbed["probability"])
    assert difference.max() == 0


def test_drift_from_the_validation_texts_is_reported(tmp_path, model, resources, said):
    words = ["guten", "Tag", "allerseits", "heute", "scheint", "die", "Sonne"] * 8
    rows = [" ".join(np.random.default_rng(n).permutation(words)) for n in range(3000)]
    pq.write_table(pa.table({"text": rows}), tmp_path / "german.parquet")
    known = tuple(WORDS.split())
    package = new_package(words=known)
    texts = pa.array([" ".join(known[n % 50 :][:6]) for n in range(3000)])
    package.save(str(tmp_path / "model"), lineage={}, reference=package.score(texts).profile())
    score(configure(tmp_path, str(tmp_path / "model"), tmp_path / "german.parquet"))
    assert "drift from the validation texts: unknown words: 100.0% here" in said.text
    assert "drift from the validation texts: length of the texts" in said.text
    assert len(record(tmp_path)["drift"]["warnings"]) >= 2


def test_rows_that_the_model_has_learned_tell_no_drift(tmp_path, model, resources, said):
    words = pa.array([" ".join(WORDS.split()[number % 40 :][:4]) for number in range(3000)])
    package = new_package(words=tuple(WORDS.split()))
    package.save(str(tmp_path / "model"), lineage={}, reference=package.score(words).profile())
    pq.write_table(pa.table({"text": words}), tmp_path / "a.parquet")
    config = configure(tmp_path, str(tmp_path / "model"), tmp_path / "a.parquet")
    learned = "sentiflow.scoring.score_inputs.find_learned_files"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(learned, lambda corpus, model: LearnedFiles(["a.parquet"]))
        score(config)
    assert "drift is not measured: the model was trained on rows of a.parquet" in said.text
    assert record(tmp_path)["profile"]["rows"] == 0
    assert record(tmp_path)["drift"] == {}


def test_a_training_in_another_store_does_not_stop_a_scoring(
    tmp_path, resources, said, monkeypatch
):
    """Nothing answers at the address of the store: it is not asked."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    words = pa.array([" ".join(WORDS.split()[number % 40 :][:4]) for number in range(3000)])
    package = new_package(words=tuple(WORDS.split()))
    package.save(
        str(tmp_path / "model"),
        lineage={"training": {"uri": "s3://theirs/run/trained", "fingerprint": "aa"}},
        reference=package.score(words).profile(),
    )
    pq.write_table(pa.table({"text": words}), tmp_path / "a.parquet")
    began = time.monotonic()
    score(configure(tmp_path, str(tmp_path / "model"), tmp_path / "a.parquet"))
    assert time.monotonic() - began < 30
    assert (
        "drift is not measured: the files that the model was trained on are not known: cannot open "
        "s3://theirs/run/trained/manifest.json: the manifest that names it is in another store"
    ) in said.text
    assert record(tmp_path)["counts"]["accepted"] == 3000
    assert record(tmp_path)["drift"] == {}
    training = record(tmp_path)["inputs"]["model"]["training"]
    assert training == {"uri": "s3://theirs/run/trained", "fingerprint": "aa"}


@pytest.mark.soak
def test_on_gpus_actors_score_and_the_predictions_are_the_same(
    tmp_path, corpora, model, undisturbed, sentiflow
):
    """Ray is told of a GPU that torch does not see; the steps run where they would with one."""
    config = configure(tmp_path, model, corpora / "all.csv", precision="fp32")
    environment = {**os.environ, "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": 2, "GPU": 1})}
    done = sentiflow("score", config, "--verbose", env=environment)
    assert done.returncode == 0, done.stderr
    assert "ActorPoolMapOperator[MapBatches(score)]" in done.stderr
    assert_same(table(tmp_path), undisturbed)
