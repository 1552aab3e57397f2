"""What a stage will take is told before it begins, by the speed of the last run here."""

import dataclasses
import json
import re

import pytest
from conftest import PROJECT

from sentiflow.cluster.resources import Resources
from sentiflow.config import settings, vector_names
from sentiflow.data import manifest, manifest_content, prepared_data
from sentiflow.pipeline import estimates, machine_load, measured_speeds, stage_data

HEAD = b"text,label\n" + b"".join(
    b"%s,%s\n" % (b" ".join([b"word"] * 24), label) for label in [b"a", b"b", b""] * 3000
)
"""The beginning of a CSV: 24 tokens a row, two of three rows with a label."""
ROW_BYTES = len(HEAD) / 9000


@pytest.fixture
def write(tmp_path):
    """Write a config for a file of some size, of which only the beginning is read."""

    def write(num_bytes, *overrides, name="tweets.csv", run="run"):
        with (tmp_path / name).open("wb") as file:
            file.write(HEAD)
            file.truncate(num_bytes)
        config = tmp_path / "config.yaml"
        config.write_text(
            f"name: t\noutput_uri: {tmp_path}/runs/{run}\n"
            "format: {kind: csv, columns: {text: text, label: label}, labels: auto}\n"
            f"prepare: {{csv: {tmp_path}/{name}}}\n"
        )
        return settings.load(config, overrides)

    return write


def cores(number, **options):
    return Resources(num_cpus=number, num_gpus=0, num_nodes=1, min_node_cpus=number, **options)


def estimate(verb, config, number=2):
    return estimates.estimate(verb, config, cores(number))


def seconds(verb, config, number=2):
    return estimate(verb, config, number).seconds


def test_a_short_stage_and_a_stage_of_unknown_rate_are_not_told(write):
    config = write(len(HEAD))
    found = [estimate(verb, config) for verb in ("prepare", "train", "score")]
    assert [each.is_long for each in found] == [False] * 3
    gpus = dataclasses.replace(cores(8), num_gpus=1)
    assert estimates.estimate("train", config, gpus) is None, "nobody knows the GPU"
    assert estimates.estimate("prepare", config, gpus)
    assert estimate("evaluate", write(10**12)) is None
    assert estimate("evaluate", write(0, "prepare.csv=gone.csv")) is None


@pytest.mark.parametrize("verb", ["prepare", "score"])
def test_rows_and_time_follow_from_the_files_and_the_cores(write, verb):
    config = write(10**11)
    found = estimate(verb, config)
    assert found.num_rows == pytest.approx(10**11 / ROW_BYTES, rel=0.01)
    assert re.fullmatch(
        r"some [\d,]+ rows: about [\d.]+ (min|h) on 2 cores, 1\.4 GB of memory, [\d.]+ GB on disk",
        found.to_text(),
    )
    assert "core hours" in found.to_text(with_core_hours=True)
    assert seconds(verb, config, 8) == pytest.approx(found.seconds / 4, rel=0.2)
    assert found.core_hours == pytest.approx(found.seconds * 2 / 3600)
    packed = estimate(verb, write(10**11, name="tweets.csv.gz"))
    assert packed.num_rows > 2 * found.num_rows


def test_cores_without_a_part_do_not_help(write):
    config = write(10**8, "prepare.rows_per_file=10_000_000")
    assert seconds("prepare", config, 64) == seconds("prepare", config, 1)


@pytest.mark.parametrize(
    ("override", "times"),
    [
        ("train.num_epochs=10", 2),
        ("train.folds=4", 5),
        ("train.model.hidden_size=16", 0.1),
        ("train.preset=fast", 0.03),
        ("prepare.max_length=6", 0.25),
    ],
)
def test_the_time_of_a_training_follows_from_epochs_folds_network_and_texts(write, override, times):
    config = write(13 * 10**8)
    assert seconds("train", write(13 * 10**8, override)) / seconds("train", config) == (
        pytest.approx(times, rel=0.5)
    )
    assert "on disk" not in estimate("train", config).to_text()


def test_a_training_has_the_workers_for_which_the_cluster_will_grow(write):
    config = write(10**9, "train.num_workers=4", "train.cpus_per_worker=2")
    one = write(10**9, "train.num_workers=1", "train.cpus_per_worker=2")
    growing = cores(2, may_grow=True)
    assert estimates.estimate("train", config, growing).seconds < seconds("train", one)
    assert seconds("train", config) == seconds("train", one), "they cannot start"


def test_only_rows_with_a_label_are_trained_on(write):
    config = write(13 * 10**8)
    num_train = stage_data.find("train", config).num_train
    num_rows = stage_data.find("prepare", config).num_rows
    assert num_train == pytest.approx(num_rows * 0.8 * 2 / 3, rel=0.001)  # the sample is cut


def test_every_nth_counts_for_unlabelled_texts_too(write):
    files = f"prepare.unlabelled.files=[{write(10**8).prepare.csv[0]}]"
    all_texts = stage_data.find("train", write(10**8, files)).num_unlabelled
    tenth = stage_data.find("train", write(10**8, files, "prepare.every_nth=10")).num_unlabelled
    assert 0 < tenth == pytest.approx(all_texts / 10)


@pytest.mark.parametrize("rows", [199_000, 201_000])
def test_the_linear_model_counts_up_to_a_number_of_train_rows(write, rows):
    """Eight of ten rows are train rows, two of three have a label; a linear model takes memory."""
    num_bytes = int(ROW_BYTES * rows / 0.8 * 3 / 2)
    config = write(num_bytes, "train.linear=auto", "train.num_epochs=100")
    assert ("1.5 GB of memory" in estimate("train", config).to_text()) == (rows < 200_000)


def test_the_linear_model_of_ordered_classes_is_fitted_twice(write):
    linear = ("train.linear=true", "format.ordered=true")
    without = seconds("train", write(10**7, "train.linear=false"))
    plain = seconds("train", write(10**7, "train.linear=true"))
    ordered = seconds("train", write(10**7, *linear))
    hard = seconds("train", write(10**7, *linear, "train.neighbor_weight=0"))
    assert plain > without
    assert ordered - plain == pytest.approx(plain - without)
    assert hard == plain


def test_teachers_that_encode_texts_are_counted(write):
    config = write(10**8)
    taught = write(10**8, "train.distill.teachers=[encoder:use-multilingual]")
    num_rows = estimate("train", taught).num_rows
    assert seconds("train", taught) - seconds("train", config) >= 0.99 * num_rows / 190 / 2


def test_a_job_is_summed_up_in_core_hours(write):
    line = estimates.sum_up(("prepare", "train", "score", "evaluate"), write(10**11), cores(64))
    assert re.fullmatch(
        r"about [\d,.]+ (min|h) on 64 cores, [\d,.]+ core hours \(prepare, train, score\)", line
    )


# The last run here


@pytest.fixture
def publish(tmp_path, write):
    """Write the manifest of an earlier run beside the config's own: ten times as slow as built in.

    Nothing else of its output is read.
    """

    def publish(verb, *, run="earlier", times=10.0, number=2, size=2 * 10**9, **changes):
        config = write(size, run=run)
        found = estimate(verb, config, number)
        source = json.loads(
            (PROJECT / f"tests/format_3/run/{FOLDERS[verb]}/manifest.json").read_text()
        )
        folder = tmp_path / "runs" / run / FOLDERS[verb]
        folder.mkdir(parents=True)
        record = source | {
            "seconds": found.seconds * times,
            "resources": {
                "num_cpus": number, "num_gpus": 0, "num_nodes": 1, "min_node_cpus": number,
            },
        }  # fmt: skip
        if verb == "prepare":
            data = stage_data.find(verb, config)
            record["counts"]["accepted"] = int(data.num_rows)
            record["inputs"]["csv"]["files"][0]["bytes"] = int(data.num_bytes)
            record["settings"]["format"]["labels"] = "auto"
        folder.joinpath("manifest.json").write_text(json.dumps(record | changes))
        return folder

    return publish


FOLDERS = {"prepare": "prepared", "train": "trained", "score": "scored"}


def test_the_last_run_beside_this_one_gives_the_speed(write, publish):
    built_in = estimate("prepare", write(4 * 10**9))
    assert not built_in.uri
    folder = publish("prepare")
    found = estimate("prepare", write(4 * 10**9))
    assert found.uri == str(folder)
    assert found.to_text().endswith("; as fast as " + str(folder))
    assert found.seconds / built_in.seconds == pytest.approx(10, rel=0.1)


def test_a_run_on_more_cores_counts_by_its_core_seconds(write, publish):
    built_in = seconds("prepare", write(4 * 10**9))
    publish("prepare", number=8, times=1.0)
    assert seconds("prepare", write(4 * 10**9)) == pytest.approx(built_in, rel=0.1)


def test_a_run_that_resumed_another_or_used_gpus_or_is_damaged_says_nothing(write, publish):
    publish("prepare", run="resumed", resumed=True)
    gpus = {"num_cpus": 2, "num_gpus": 1, "num_nodes": 1, "min_node_cpus": 2}
    publish("prepare", run="gpus", resources=gpus)
    publish("prepare", run="damaged", vocabulary={"words": 1, "words_with_vector": 1})
    folder = publish("prepare", run="other_format")
    (folder / "manifest.json").write_text('{"format_version": 9}')
    assert not estimate("prepare", write(4 * 10**9)).uri


def test_a_short_run_changes_little(write, publish):
    built_in = seconds("prepare", write(4 * 10**9))
    publish("prepare", size=len(HEAD), seconds=9.0)
    assert built_in < seconds("prepare", write(4 * 10**9)) < 3 * built_in


def test_a_manifest_of_format_3_without_resources_is_read(tmp_path):
    uri = str(PROJECT / "tests/format_3/run/trained")
    found = measured_speeds.find_speed("train", uri, cores(2))
    assert found.uri == uri
    assert 0.1 < found.network < 10
    uri = str(PROJECT / "tests/format_3/run/scored")
    assert measured_speeds.find_speed("score", uri, cores(2)).uri == uri


def test_the_folders_of_a_bucket_are_not_listed(monkeypatch):
    monkeypatch.setattr(measured_speeds.filesystem, "locate", lambda uri: pytest.fail(uri))
    assert measured_speeds._list_folders("s3://bucket") == []
    assert measured_speeds._list_folders("/") == []


def test_other_processes_make_a_stage_longer_and_an_earlier_one_shorter(write, publish):
    config = write(4 * 10**9)
    busy = estimates.estimate("prepare", config, cores(2), load_percent=100)
    assert busy.seconds == 2 * seconds("prepare", config)
    assert "other processes use this machine, too (load 100%)" in busy.to_text()
    resources = {"num_cpus": 2, "num_gpus": 0, "num_nodes": 1, "min_node_cpus": 2}
    size = 4 * 10**9
    publish("prepare", times=2.0, size=size, resources=resources | {"load_percent": 100})
    idle = estimates.estimate("prepare", config, cores(2))
    assert idle.uri
    assert idle.seconds == pytest.approx(busy.seconds / 2, rel=0.1)


@pytest.mark.parametrize(
    ("means", "schedule", "percent"),
    [
        ((16.0, 16.0, 3.0), "1000 9000 5\n", 150),  # a job that has just begun
        ((16.0, 16.0, 16.0), "1000 2500 5\n", 250),  # processes of one session share its time
        ((0.0, 0.0, 0.0), "1000 2500 5\n", 0),
        ((90.0, 90.0, 90.0), "1000 90000 5\n", 900),
        ((4.0, 4.0, 4.0), "", 200),  # no Linux, or not told
        ((4.0, 4.0, 4.0), None, 200),
    ],
)
def test_the_load_is_at_most_what_this_process_has_waited(
    tmp_path, monkeypatch, means, schedule, percent
):
    told = tmp_path / "schedstat"
    if schedule is not None:
        told.write_text(schedule)
    monkeypatch.setattr(machine_load, "_SCHEDULE", told)
    monkeypatch.setattr(machine_load.os, "getloadavg", lambda: means)
    monkeypatch.setattr(machine_load.os, "cpu_count", lambda: 2)
    assert machine_load.find() == percent


def test_a_network_that_gained_nothing_is_expected_to_gain_nothing_again(write, monkeypatch):
    assert estimates._guess_networks(4, has_linear=True) == pytest.approx(5**0.5)
    assert estimates._guess_networks(5, has_linear=False) == 6
    config = write(10**6, "train.folds=5", "train.linear=true", "train.num_epochs=50")
    guessed = seconds("train", config)
    speed = measured_speeds.Speed(num_networks=1, num_folds_trained=5)
    monkeypatch.setattr(measured_speeds, "find_speed", lambda *_: speed)
    assert seconds("train", config) < 0.6 * guessed
    of_two_folds = speed._replace(num_folds_trained=2)  # given test rows left the others out
    monkeypatch.setattr(measured_speeds, "find_speed", lambda *_: of_two_folds)
    assert seconds("train", config) == guessed


def test_given_test_rows_leave_two_folds_to_train(write):
    section = ("train.folds=5", "train.linear=true", "train.num_epochs=50")
    all_folds = seconds("train", write(10**6, *section))
    path = write(10**6).prepare.csv[0]
    given = (*section, f"prepare.test={path}")
    assert seconds("train", write(10**6, *given)) < 0.95 * all_folds
    unsure = seconds("train", write(10**6, *given, "train.unsure.max_error=0.1"))
    assert unsure > all_folds, "all rows of the file are train rows"


def test_a_repeated_training_without_a_network_says_nothing_about_networks():
    record = manifest.read(str(PROJECT / "tests/format_3/run/trained"))
    costs = {"num_networks": 0, "network_seconds": 0.0, "linear_seconds": 3.0}
    changed = {**record, "costs": costs, "history": [], "pretraining": []}
    assert measured_speeds._measure_training(changed, cores(2), record["seconds"]).network == 1


def test_the_manifest_says_how_many_folds_were_trained():
    record = manifest.read(str(PROJECT / "tests/format_3/run/trained"))
    record["settings"]["folds"] = 5
    costs = {"num_networks": 1, "network_seconds": 9.0, "linear_seconds": 3.0}
    for written, expected in ((costs, 5), ({**costs, "num_folds_trained": 2}, 2)):
        changed = {**record, "costs": written}
        speed = measured_speeds._measure_training(changed, cores(2), record["seconds"])
        assert (speed.num_networks, speed.num_folds_trained) == (1, expected)


def test_the_output_says_what_the_stage_had(tmp_path):
    """A manifest with these keys is one of this version: readers take it."""
    folder = PROJECT / "tests/format_3/run/prepared"
    record = manifest.read(str(folder))
    content = manifest.to_json({**record, "resources": {"num_cpus": 2}, "resumed": True})
    assert manifest_content.parse(content, "x", directories=())["resumed"]


def test_the_size_of_vectors_is_found_when_they_were_a_file():
    prepared = {
        "settings": {"vocabulary": {"kind": "corpus"}},
        "inputs": {"vectors": {"files": [{"uri": "/data/wiki.300d.txt"}]}},
    }
    uri = prepared_data.find_vectors(prepared)
    assert vector_names.find_size(uri, 50) == 300
    named = {"settings": {"vocabulary": {"vectors": "random:128d"}}, "inputs": {}}
    assert vector_names.find_size(prepared_data.find_vectors(named), 50) == 128
