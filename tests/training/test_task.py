from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import new_package
from safetensors.torch import load_file
from test_virtual_shards import MAX_LENGTH, write, write_unlabelled

from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import schema
from sentiflow.errors import UserError
from sentiflow.models import vocabulary
from sentiflow.models.package import ModelPackage
from sentiflow.storage import filesystem, parquet
from sentiflow.training import checkpoints, linear_solver, task
from sentiflow.training.initial_network import build
from sentiflow.training.learned_classes import LearnedClasses, choose
from sentiflow.training.train_job import TrainJob

NUM_ROWS = 90
NINETY = LearnedClasses(
    ("negative", "positive"), np.array([45, 45]), np.arange(2, dtype=np.int8), None
)


def test_known_words_start_from_their_vectors_and_padding_from_zero():
    matrix = np.full((4, 3), np.nan, np.float32)
    matrix[2] = [1, 2, 3]
    words = vocabulary.Vocabulary(
        pa.array(["<pad>", "<unk>", "good", "zzzz"]), pa.nulls(4, pa.int64()), matrix
    )
    weight = build(TrainSettings(), words).embedding.weight
    assert weight[2].tolist() == [1, 2, 3]
    assert weight[0].tolist() == [0, 0, 0]
    assert torch.isfinite(weight).all()
    assert weight[3].abs().sum() > 0


class StoppedError(Exception):
    """A process that ends in the middle."""


@pytest.fixture
def make_job(tmp_path):
    """Prepare rows by hand, and describe a training."""

    def make(name, **model):
        root = tmp_path / "prepared"
        lengths = np.random.default_rng(0).integers(0, 9, NUM_ROWS)
        files = [
            (uri.removeprefix(f"{root}/"), parquet.read(uri).num_rows)
            for split in ("train", "validation")
            for uri in write(root / f"encoded/split={split}", lengths)
        ]
        words = pa.array(["<pad>", *(f"word{i}" for i in range(NUM_ROWS))])
        matrix = np.random.default_rng(1).normal(size=(len(words), 4)).astype(np.float32)
        matrix[0] = np.nan
        counts = pa.nulls(len(words), pa.int64())
        known = vocabulary.Vocabulary(words, counts, matrix).to_table()
        known = filesystem.write_file(
            str(root), "vocabulary.parquet", parquet.to_bytes(known), rows=len(words)
        )
        settings = TrainSettings(
            prepared_uri=str(root),
            output_uri=str(tmp_path / name),
            model={"kind": "bag_of_embeddings", "vectors": "frozen"} | model,
            batching={"global_batch_size": 16},
            num_epochs=3,
            selection={"keep": "last"},
        )
        prepared = {
            "files": [known, *({"path": path, "rows": rows} for path, rows in files)],
            "settings": {
                "max_length": MAX_LENGTH,
                "tokenizer": "tweet",
                "split": {"kind": "hash"},
                "format": {"kind": "csv"},
            },
            "classes": list(NINETY.names),
            "counts": {"labels": {"train": {"positive": 45, "negative": 45}}},
        }
        places = [f"{settings.output_uri}/{folder}" for folder in ("checkpoints", "model")]
        return TrainJob(settings, *places, "", prepared, lineage={}, num_threads=1)

    return make


def weights_of(job):
    return load_file(f"{job.model_uri}/weights.safetensors")


def assert_resumes(whole, stopped, *, num_epochs=2, phase="history"):
    """Stop and resume a training, which ends with the weights of a whole one; return its report."""

    def stop(event):
        if len(getattr(event, phase)) == num_epochs:
            raise StoppedError

    report = task.run(whole, lambda event: None)
    events = []
    with pytest.raises(StoppedError):
        task.run(stopped, stop)
    found = checkpoints.load_last(stopped.checkpoints_uri)
    task.run(stopped, events.append)
    assert events[0].is_start
    assert events[0].step == found.step > 0
    expected = weights_of(whole)
    for name, tensor in weights_of(stopped).items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0, msg=name)
    return report


@pytest.mark.parametrize("vectors", ["frozen", "tuned"])
def test_a_resumed_training_ends_with_the_same_weights(make_job, vectors):
    assert_resumes(*(make_job(name, vectors=vectors) for name in ("whole", "stopped")))


def test_a_checkpoint_is_saved_when_a_node_is_about_to_go(make_job):
    job = make_job("drained")
    asked = []

    def is_leaving():
        asked.append(checkpoints.list_steps(job.checkpoints_uri))
        return len(asked) == 2  # after the second step

    def stop(event):
        if event.history:
            raise StoppedError

    with pytest.raises(StoppedError):
        task.run(job, stop, is_leaving)
    assert asked[:3] == [[], [], [2]]
    assert len(asked) > 3, "one checkpoint for each notice"
    assert checkpoints.list_steps(job.checkpoints_uri) == [2, len(asked)]


def test_the_linear_part_learns_the_answers_of_teachers_too(make_job, tmp_path, monkeypatch):
    job = make_job("taught")
    settings = job.settings.model_dump() | {"linear": True, "distill": {"hard_weight": 0.25}}
    rows = pa.table(
        [
            [3, 4, -1],
            [1, 0, -1],
            [[2], [3], [4]],
            [1, 1, 1],
            ["so good", "so bad", "hm"],
            [[0.6, 0.4], [0.2, 0.8], [0.5, 0.5]],
        ],
        schema=schema.TAUGHT,
    )
    uri = str(tmp_path / "taught.parquet")
    parquet.write(uri, rows)
    given = []

    def fit(ngrams, targets):
        given.extend(zip(ngrams.tokens.to_lists().to_pylist(), targets.tolist(), strict=True))
        return iter(())

    monkeypatch.setattr(linear_solver, "fit", fit)
    job = replace(job, settings=TrainSettings.model_validate(settings), taught={uri: 3})
    task.run(job, lambda event: None)
    words, targets = zip(*given, strict=True)
    assert words == (["so", "good"], ["so", "bad"], ["hm"])
    np.testing.assert_allclose(targets, [[0.45, 0.55], [0.4, 0.6], [0.5, 0.5]], rtol=1e-6)


NUM_UNLABELLED = 200


@pytest.fixture
def make_pretraining(make_job):
    """Describe a training that begins with a pretraining, on unlabelled texts or without them."""

    def make(name, *, unlabelled=True):
        job = make_job(name, kind="rnn", cell="rnn", hidden_size=4, bidirectional=False)
        root = Path(job.settings.prepared_uri)
        lengths = np.random.default_rng(3).integers(0, 9, NUM_UNLABELLED)
        path = write_unlabelled(root / "unlabelled", lengths, num_words=NUM_ROWS)
        path = str(Path(path).relative_to(root))
        pretrain = {"num_epochs": 2}
        settings = job.settings.model_dump() | {"pretrain": pretrain}
        prepared = job.prepared
        if unlabelled:
            files = [*prepared["files"], {"path": path, "rows": NUM_UNLABELLED}]
            known = {"accepted": NUM_UNLABELLED, "without_token": int((lengths == 0).sum())}
            counts = prepared["counts"] | {"unlabelled": known}
            prepared = prepared | {"files": files, "counts": counts}
        settings = TrainSettings.model_validate(settings)
        return replace(job, settings=settings, prepared=prepared)

    return make


def test_pretraining_goes_over_unlabelled_texts_and_training_does_not(make_pretraining):
    with_them = make_pretraining("with")
    without = make_pretraining("without", unlabelled=False)
    events = []
    report = task.run(with_them, events.append)
    plain = task.run(without, lambda event: None)
    known = with_them.prepared["counts"]["unlabelled"]
    num_rows = NUM_UNLABELLED - known["without_token"]
    num_labelled = NUM_ROWS - report.rows_without_token
    assert report.pretraining[0].step == -(-(num_labelled + num_rows) // 16)
    assert plain.pretraining[0].step == -(-num_labelled // 16)
    assert report.rows_without_token == plain.rows_without_token
    steps, plain_steps = (
        [epoch.step - found.pretraining[-1].step for epoch in found.history]
        for found in (report, plain)
    )
    assert steps == plain_steps
    assert events[-1].rows_done == 2 * (num_labelled + num_rows) + 3 * num_labelled
    assert [e.rows_done for e in events] == sorted(e.rows_done for e in events)
    learned = choose(with_them.prepared, with_them.settings)
    assert learned.num_rows == NUM_ROWS
    assert learned.num_pretrained == NUM_ROWS + num_rows


def test_unlabelled_texts_leave_the_validation_loss_as_it_is(make_pretraining, monkeypatch):
    """The rows and the negative words are the same, so the losses can be compared."""
    monkeypatch.setattr(task, "PRETRAIN_LEARNING_RATE", 1e-12)
    jobs = [make_pretraining(str(n), unlabelled=n) for n in (True, False)]
    losses = [task.run(job, lambda event: None).pretraining[0].validation_loss for job in jobs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_pretraining_on_unlabelled_texts_resumes(make_pretraining):
    jobs = make_pretraining("whole"), make_pretraining("stopped")
    assert_resumes(*jobs, num_epochs=1, phase="pretraining")


@pytest.fixture
def make_classes(make_job):
    """Describe a training whose rows have three classes, a fourth that is left out, and texts."""

    def make(name, **train):
        job = make_job(name, vectors="tuned")
        root = job.settings.prepared_uri
        for item in job.prepared["files"][1:]:
            rows = parquet.read(f"{root}/{item['path']}")
            labels = pa.array(rows["row_id"].to_numpy() % 4, pa.int8())
            parquet.write(f"{root}/{item['path']}", rows.set_column(1, "label", labels))
        rows = np.arange(400)
        tweets = pa.table(
            [rows, pa.nulls(400, pa.string()), [f"word{row % 20}" for row in rows], rows % 4],
            schema=schema.TWEETS,
        )
        path = "tweets/split=validation/0.parquet"
        parquet.write(f"{root}/{path}", tweets)
        names = ["bad", "dull", "good", "odd"]
        prepared = job.prepared | {
            "classes": names,
            "files": [*job.prepared["files"], {"path": path, "rows": 400}],
            "counts": {"labels": {"train": dict(zip(names, (23, 23, 22, 22), strict=True))}},
        }
        settings = job.settings.model_dump() | {"classes": ["good", "bad", "dull"]} | train
        return replace(job, settings=TrainSettings.model_validate(settings), prepared=prepared)

    return make


def test_a_model_of_several_classes_is_trained_calibrated_and_resumed(make_classes):
    options = {"class_weights": "balanced", "selection": {"metric": "macro_f1"}}
    whole = make_classes("whole", **options)
    stopped = make_classes("stopped", **options)
    report = assert_resumes(whole, stopped)
    scores = [epoch.validation_f1_macro for epoch in report.history]
    assert report.chosen_epoch == 1 + np.argmax(scores)
    package = ModelPackage.load(whole.model_uri)
    assert package.settings.classes == ("bad", "dull", "good")
    assert package.settings.priors == pytest.approx((23 / 68, 23 / 68, 22 / 68))
    assert report.package["calibration"]["num_rows"] == 300
    assert "unsure" not in report.package["calibration"]
    calibration = report.package["calibration"]
    assert package.settings.temperature == calibration["temperature"] != 1
    assert sum(report.package["reference"]["predicted"].values()) == 400


def test_a_training_does_not_start_from_vectors_of_another_size(make_job):
    package = new_package()
    job = make_job("job")
    uri = f"{job.settings.output_uri}/five"
    package.save(uri, lineage={})
    job = replace(job, settings=job.settings.model_copy(update={"init_from": uri}))
    outcome = task.run(job, lambda event: None)
    assert "has word vectors of 5 numbers: the vectors of the prepared data have 4" in str(outcome)


@pytest.mark.parametrize(
    ("on_gpu", "is_usable", "num_workers", "device"),
    [
        (False, True, 2, "cpu"),  # it sees the GPUs of its node, but was given none
        (True, True, 2, "cuda"),
        (True, False, 1, "cpu"),
        (False, False, 1, "cpu"),
    ],
)
def test_a_worker_uses_the_device_that_it_was_given(
    make_job, monkeypatch, on_gpu, is_usable, num_workers, device
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_usable)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    job = replace(make_job("somewhere"), on_gpu=on_gpu)
    assert task._choose_device(job, num_workers).type == device


def test_workers_do_not_use_different_devices(make_job):
    job = replace(make_job("somewhere"), on_gpu=True)
    with pytest.raises(UserError, match="Ray counts a GPU that torch cannot use: install"):
        task._choose_device(job, 2)
