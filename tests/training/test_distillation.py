"""A distilled network learns the answers of its teachers, and nothing of held-out rows."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import without_token
from mlflow import MlflowClient
from stages import mark_unfinished
from test_train import configure

from sentiflow.cluster.parts_on_ray import PartId
from sentiflow.config import settings
from sentiflow.data import manifest
from sentiflow.data.answers import read_answers
from sentiflow.errors import UserError
from sentiflow.models.package import ModelPackage
from sentiflow.pipeline import stages
from sentiflow.training import task, teaching_tasks
from sentiflow.training import train as training
from sentiflow.training.prepared_files import PreparedFiles
from sentiflow.training.train_job import TrainJob

CLASSES = ("negative", "positive")
TEXTS = ["good day", "bad morning", "zzz", "morning"]
"""The packages of the tests know no word of the third."""
TRAIN = {
    "model": {"cell": "gru", "hidden_size": 8, "bidirectional": False, "pooling": "last"},
    "batching": {"global_batch_size": 128},
    "pretrain": {"num_epochs": 0},
    "num_epochs": 2,
    "learning_rate": 0.01,
}


class TestSteps:
    """The steps of a part, without Ray."""

    @pytest.fixture
    def parts(self, tmp_path):
        """Write the same texts as train rows, unlabelled texts and test rows."""
        row_id = pa.array([7, 3, 5, 9])
        label = pa.array([1, 0, 1, 2], pa.int8())
        ids = pa.array([[2, 5], [3, 4], [], [4]], pa.list_(pa.int32()))
        encoded = {"row_id": row_id, "token_ids": ids, "length": pa.array([2, 2, 0, 1], pa.int32())}
        back = np.array([3, 2, 1, 0])
        tweets = pa.table({"row_id": row_id, "text": TEXTS, "label": label})
        tables = {
            "encoded/split=train": pa.table(encoded | {"label": label}),
            "tweets/split=train": tweets.take(back),
            "unlabelled": pa.table(encoded | {"text": TEXTS}),
            "tweets/split=test": tweets,
        }
        files = []
        for folder, table in tables.items():
            (tmp_path / folder).mkdir(parents=True)
            files.append({"path": f"{folder}/{PartId(0, 'ab').name_file()}", "rows": 4})
            pq.write_table(table, tmp_path / files[-1]["path"])
        prepared = PreparedFiles.of({"files": files}, str(tmp_path))
        return teaching_tasks.list_parts(prepared, {})

    def write(self, parts, *models, tables=()):
        """Do all steps; return the rows by split, and the counts."""
        models = [(uri, manifest.read(uri)["fingerprint"]) for uri in models]
        root = str(Path(parts[0].uri).parents[2] / "taught")
        found = {}
        counts = {}
        for number, part in enumerate(parts):
            table = teaching_tasks.read_rows(part, positions=np.array([0, 1, -1]))
            result = teaching_tasks.teach_rows(
                table, PartId(number, "cd"), parts=parts, root=root, classes=CLASSES,
                models=models, answer_files=tables, on_gpu=False,
            )  # fmt: skip
            counts[part.split] = result["counts"]
            for item in result["files"]:
                own = f"split={part.split}/part-{number:05d}.parquet"
                assert without_token(item["path"]) == own
                rows = pd.read_parquet(f"{root}/{item['path']}").set_index("row_id")
                found[part.split] = rows
        return found, counts

    def test_rows_learn_the_mean_of_the_teachers_that_answer(self, parts, make_package):
        uris = make_package(), make_package(seed=1)
        found, counts = self.write(parts, *uris)
        texts = pa.array(TEXTS)
        expected = np.mean([ModelPackage.load(u).score(texts).probabilities for u in uris], axis=0)
        taught = found["train"]
        assert taught.index.tolist() == [7, 3, 5], "row 9 has another class"
        assert taught["label"].tolist() == [1, 0, 1]
        np.testing.assert_allclose(np.stack(taught["teacher"][:2]), expected[:2], rtol=1e-5)
        assert taught["teacher"][5].tolist() == [0, 1], "a row without an answer learns its label"
        assert [list(ids) for ids in taught["token_ids"]] == [[2, 5], [3, 4], []]
        further = found["unlabelled"]
        assert further.index.tolist() == [-8, -4, -10], "a text without an answer is left out"
        assert set(further["label"]) == {-1}
        np.testing.assert_allclose(np.stack(further["teacher"]), expected[[0, 1, 3]], rtol=1e-5)
        assert (counts["train"]["answered"], counts["train"]["left_out"]) == (2, 0)
        assert (counts["unlabelled"]["rows"], counts["unlabelled"]["left_out"]) == (3, 1)

    def test_held_out_rows_are_answered_and_hold_nothing_to_learn(self, parts, make_package):
        found, _ = self.write(parts, make_package())
        assert found["test"].columns.tolist() == ["teacher"]
        assert found["test"].index.tolist() == [7, 3]

    def test_classes_are_matched_by_name(self, parts, make_package):
        teacher = make_package(classes=("neutral", "positive", "negative"))
        found, _ = self.write(parts, teacher)
        scores = ModelPackage.load(teacher).score(pa.array(TEXTS[:2])).probabilities
        chosen = scores[:, [2, 1]] / scores[:, [2, 1]].sum(axis=1, keepdims=True)
        np.testing.assert_allclose(np.stack(found["train"]["teacher"][:2]), chosen, rtol=1e-5)

    def test_files_answer_by_text_beside_a_model(self, parts, make_package, tmp_path):
        columns = {"probability_negative": [0.1, 0.8], "probability_positive": [0.9, 0.2]}
        tables = []
        for name, texts in (("a", ["ZZZ", "good day"]), ("b", ["zzz", "Good  day"])):
            uri = str(tmp_path / f"{name}.parquet")
            pq.write_table(pa.table({"text": texts, **columns}), uri)
            tables.append(str(tmp_path / f"{name}.arrow"))
            read_answers([uri], CLASSES).save(tables[-1])
        teacher = make_package()
        found, _ = self.write(parts, teacher, tables=tables)
        positive = ModelPackage.load(teacher).score(pa.array(TEXTS)).probabilities[:, 1]
        taught = {split: found[split]["teacher"].str[1] for split in ("train", "unlabelled")}
        np.testing.assert_allclose(taught["train"][7], (positive[0] + 0.2 + 0.2) / 3, rtol=1e-5)
        np.testing.assert_allclose(taught["train"][[3, 5]], [positive[1], 0.9], rtol=1e-5)
        np.testing.assert_allclose(taught["unlabelled"][-8], (positive[0] + 0.4) / 3, rtol=1e-5)
        np.testing.assert_allclose(taught["unlabelled"][-4], positive[1], rtol=1e-5)
        np.testing.assert_allclose(taught["unlabelled"][-6], 0.9, rtol=1e-5)


@pytest.fixture(scope="module")
def data(finished_run):
    return finished_run / "run/prepared"


@pytest.fixture(scope="module")
def teacher(finished_run):
    return str(finished_run / "run")


def write_student(folder, data, *teachers, **changes):
    distill = {"teachers": [str(teacher) for teacher in teachers]}
    return configure(folder, data, **TRAIN | {"distill": distill} | changes)


@pytest.fixture(scope="module")
def student(tmp_path_factory, data, teacher, resources):
    """Train a student once."""
    folder = tmp_path_factory.mktemp("student")
    config = settings.load(write_student(folder, data, teacher))
    (outcome,) = stages.run(config, ["train"])
    return folder, config, outcome.record


def list_times(folder):
    taught = Path(folder, "run/trained/taught")
    return {path: path.stat().st_mtime_ns for path in taught.rglob("*.parquet")}


@pytest.mark.ray
@pytest.mark.slow
class TestStudent:
    """Trainings on the synthetic corpus, with the model of the finished run as teacher."""

    def test_every_train_row_is_taught_once(self, student, data):
        folder, _, record = student
        assert record["taught"]["uri"].startswith(f"{folder}/run/trained/taught/")
        taught = pd.read_parquet(f"{record['taught']['uri']}/split=train")
        train = pd.read_parquet(data / "encoded/split=train")
        assert taught["row_id"].tolist() == train["row_id"].tolist()
        counts = record["taught"]["counts"]["train"]
        assert record["counts"]["rows"] == counts["rows"] == len(train)
        assert record["inputs"]["teacher_1"].keys() == {"uri", "fingerprint", "training"}
        package = manifest.read(str(folder / "run/trained/model"))
        assert package["inputs"]["teacher_1"] == record["inputs"]["teacher_1"]
        assert record["settings"]["distill"] == {"hard_weight": 0.0}

    def test_a_student_agrees_more_with_its_teacher_than_one_on_labels(
        self, student, tmp_path, data, teacher
    ):
        _, config, record = student
        taught = record["taught"]["uri"]
        files = manifest.rows_by_file(manifest.read(taught), taught, ["split=train"])
        train = config.train.model_copy(update={"num_epochs": 6})
        for name, rows in (("soft", files), ("hard", None)):
            places = [str(tmp_path / name / folder) for folder in ("checkpoints", "model")]
            job = TrainJob(
                train, *places, "", manifest.read(str(data)), lineage={}, num_threads=1, taught=rows
            )
            task.run(job, lambda event: None)
        texts = pa.array(pd.read_parquet(data / "tweets/split=test")["text"].tolist())
        of_teacher, soft, hard = (
            ModelPackage.load(f"{uri}/model").score(texts).probabilities[:, 1]
            for uri in (f"{teacher}/trained", tmp_path / "soft", tmp_path / "hard")
        )
        distances = [float(np.abs(of_teacher - own).mean()) for own in (soft, hard)]
        assert distances[0] < 0.95 * distances[1]

    def test_the_evaluation_knows_what_teacher_and_student_predict(
        self, student, data, finished_run
    ):
        folder, config, _ = student
        score = config.score.model_copy(update={"prepared_uri": str(data)})
        config = config.model_copy(update={"score": score})
        *_, evaluated = stages.run(config, ["score", "evaluate"])
        found = json.loads((folder / "run/report/metrics.json").read_text())["teacher"]
        ours, theirs = (
            pd.read_parquet(run / "run/scored/predictions").set_index("row_id").sort_index()
            for run in (folder, finished_run)
        )
        of_test = (ours["split"] == "test") & ours["label"].isin([0, 1])
        ours = ours[of_test]
        theirs = theirs[of_test]
        assert found["num_rows"] == len(ours)
        assert found["agreement"] == (ours["prediction"] == theirs["prediction"]).mean()
        assert found["accuracy"] == (theirs["prediction"] == theirs["label"]).mean()
        assert found["accuracy_of_model"] == (ours["prediction"] == ours["label"]).mean()
        run = MlflowClient(config.tracking.uri).get_run(evaluated.record["run"]["mlflow_run_id"])
        assert run.data.metrics["teacher/agreement"] == found["agreement"]
        card = (folder / "run/report/model_card.md").read_text()
        assert re.search(r"Distilled: .* mean probabilities of run on [\d,]+ train texts", card)

    def test_another_teacher_is_another_training(self, student, data, make_package):
        _, config, _ = student
        distill = config.train.distill
        more = distill.model_copy(update={"teachers": (*distill.teachers, make_package())})
        train = config.train.model_copy(update={"distill": more})
        with pytest.raises(UserError, match="another teacher_2"):
            stages.run(config.model_copy(update={"train": train}), ["train"])
        (outcome,) = stages.run(config, ["train"])
        assert not outcome.ran

    def test_a_resumed_training_does_not_ask_its_teachers_again(
        self, tmp_path, student, data, teacher, said
    ):
        folder, _, record = student
        config = settings.load(write_student(tmp_path, data, teacher))
        shutil.copytree(folder / "run/trained", tmp_path / "run/trained")
        mark_unfinished(training.resolve(config).spec)
        *_, last = sorted((tmp_path / "run/trained/checkpoints").glob("*/step-*"))
        shutil.rmtree(last)
        times = list_times(tmp_path)
        (outcome,) = stages.run(config, ["train"])
        assert "the teachers have answered" not in said.text
        assert "resuming at step" in said.text
        assert list_times(tmp_path) == times
        for epoch, wanted in zip(outcome.record["history"], record["history"], strict=True):
            assert epoch["validation_loss"] == pytest.approx(wanted["validation_loss"], abs=1e-6)


def find_faults(tmp_path, data, *teachers, **changes):
    config = settings.load(write_student(tmp_path, data, *teachers, **changes))
    with pytest.raises(UserError) as raised:
        stages.run(config, ["train"])
    assert not (tmp_path / "run").exists(), "nothing was started"
    return str(raised.value)


def test_what_cannot_teach_is_refused_before_anything_starts(
    tmp_path,
    data,
    make_package,
):
    other = make_package(classes=("negative", "neutral"))
    line = find_faults(tmp_path, data, other)
    assert "does not know the class positive: it has negative, neutral" in line
    assert "no such" in find_faults(tmp_path, data, tmp_path / "a.parquet")
    assert "neither a finished model nor a Parquet file" in find_faults(tmp_path, data, "a.csv")
    (tmp_path / "empty").mkdir()
    assert "no file matches" in find_faults(tmp_path, data, tmp_path / "empty")
    pq.write_table(
        pa.table({"text": ["a"], "probability_negative": [0.2], "probability_positive": [0.2]}),
        tmp_path / "b.parquet",
    )
    line = find_faults(tmp_path, data, tmp_path / "b.parquet")
    assert "b.parquet has probabilities that do not sum to 1 in row 0" in line
    assert line.startswith("train.distill.teachers: ")
    assert "\n" not in line
    shutil.copy(tmp_path / "b.parquet", tmp_path / "part-0")
    assert "part-0 has probabilities" in find_faults(tmp_path, data, tmp_path / "part-*")


@pytest.mark.ray
@pytest.mark.slow
def test_answers_to_other_texts_are_refused(tmp_path, data, resources):
    pq.write_table(
        pa.table({"text": ["a"], "probability_negative": [0.2], "probability_positive": [0.8]}),
        tmp_path / "b.parquet",
    )
    config = settings.load(write_student(tmp_path, data, tmp_path / "b.parquet"))
    with pytest.raises(UserError, match="no teacher has answered a row to learn"):
        stages.run(config, ["train"])
    assert not (tmp_path / "run/trained").exists()


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_asks_the_teachers_once(tmp_path, data, teacher, resources, said):
    config = settings.load(
        write_student(tmp_path, data, teacher),
        ["sweep.space={train.distill.hard_weight: [0, 1]}", "sweep.grace_epochs=2"],
    )
    (outcome,) = stages.run(config, ["sweep"])
    assert said.text.count("the teachers have answered") == 1
    assert [trial["status"] for trial in outcome.record["trials"]] == ["finished"] * 2
    losses = {trial["validation_loss"] for trial in outcome.record["trials"]}
    assert len(losses) == 2, "the labels have another weight"
    for trial in outcome.record["trials"]:
        record = manifest.read(f"{tmp_path}/run/sweep/trials/{trial['name']}")
        assert Path(record["taught"]["uri"]).parent == tmp_path / "run/sweep/taught"
        assert (
            manifest.read(record["taught"]["uri"])["fingerprint"]
            == (record["taught"]["fingerprint"])
        )
