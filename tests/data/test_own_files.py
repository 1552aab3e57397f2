"""A job deletes only files that it or an earlier run has written; a user's files stay."""

import errno
from dataclasses import replace

import pytest
from stages import add_part, begin, fill, finish, look

from sentiflow.data import manifest, own_files
from sentiflow.data.output_status import find_status
from sentiflow.data.outputs import open_output
from sentiflow.errors import UserError
from sentiflow.preparation import prepare_plan
from sentiflow.scoring import score_plan
from sentiflow.storage import filesystem
from sentiflow.training import own_paths

KEY = "0123456789abcdef"
PART = f"part-00012-{KEY}-89abcdef.parquet"
CHECKPOINT = "step-000000123-0a1b2c3d/tensors.safetensors"
PATTERNS = {
    "prepare": prepare_plan.OWNS,
    "train": own_paths.OF_TRAINING,
    "sweep": own_paths.OF_SWEEP,
    "score": score_plan.OWNS,
    "teach": own_paths.OF_TEACHERS,
}
OURS = {
    "prepare": [
        f"tweets/split=train/{PART}", f"encoded/split=test/{PART}", f"unlabelled/{PART}",
        f"rejected/{PART}", f"rejected/unlabelled-{PART}", f"rejected/{PART}.0a1b2c3d.tmp",
    ],
    "train": [
        f"checkpoints/{KEY}/{CHECKPOINT}",
        f"checkpoints/{KEY}/step-000000123-0a1b2c3d/state.json.0a1b2c3d.tmp",
        f"folds/{KEY}/fold-5.parquet",
        f"folds/{KEY}/5/encoded/split=train/rows.parquet",
        f"folds/{KEY}/5/tweets/split=validation/rows.parquet",
        f"folds/{KEY}/5/unlabelled/rows.parquet",
        f"folds/{KEY}/5/vocabulary.parquet",
        f"folds/{KEY}/5/taught.parquet",
        f"folds/{KEY}/5/excerpts.parquet",
        f"folds/{KEY}/5/logits-2.parquet",
        f"folds/{KEY}/5/linear/1e-05",
        f"folds/{KEY}/5/model/weights.safetensors",
        f"folds/{KEY}/5/checkpoints/{CHECKPOINT}",
        f"taught/{KEY}/split=train/{PART}",
        f"taught/{KEY}/answers/fold-01.parquet",
        f"taught/{KEY}/vectors/teacher_1/{PART}",
        f"taught/{KEY}/manifest.json",
        f"taught/{KEY}/_work/0a1b2c3d/receipts/teach-000001.json",
    ],
    "sweep": [
        f"trials/0001-0a1b2c3d/checkpoints/{KEY}/{CHECKPOINT}",
        "trials/0001-0a1b2c3d/model/manifest.json",
        "trials/0001-0a1b2c3d/manifest.json",
        "trials/0001-0a1b2c3d/plots/training_curve.png",
        f"taught/{KEY}/split=excerpts/{PART}",
    ],
    "score": [f"predictions/{PART}", f"rejected/{PART}"],
    "teach": [f"split=train/{PART}", f"vectors/teacher_1/{PART}"],
}  # fmt: skip
THEIRS = {
    "prepare": ["tweets/mine.parquet", "tweets/split=train/part-1.parquet", "vocabulary.parquet"],
    "train": [
        "folds/notes.txt", f"folds/{KEY}/notes.txt", f"folds/{KEY}/5/notes.txt", "plots/mine.png",
        "checkpoints/best/tensors.safetensors", f"checkpoints/{KEY}/step-1.txt", "model/LICENSE",
        f"taught/{KEY}/notes.txt", f"taught/{KEY}/vectors/mine.parquet",
    ],
    "sweep": ["trials/mine.csv", "trials/0001-0a1b2c3d/notes.txt", "trials.csv"],
    "score": ["predictions/export.csv", "predictions/part-0.parquet", f"old/{PART}"],
    "teach": ["split=train/mine.parquet"],
}  # fmt: skip


@pytest.mark.parametrize("stage", list(PATTERNS))
def test_names_with_a_token_are_ours_and_others_are_not(stage):
    patterns = PATTERNS[stage]
    assert [path for path in OURS[stage] if not own_files.matches(path, patterns)] == []
    assert [path for path in THEIRS[stage] if own_files.matches(path, patterns)] == []
    assert not own_files.matches("report.html", ())


GUESTS = ["notes.txt", "plots/mine.png", "tables/deep/er/mine.parquet", "tables/mine.parquet"]


def content_of(folder):
    return {name: (folder / name).read_text() for name in GUESTS}


def test_a_users_files_stay_whatever_a_job_does(spec, folder):
    finish(spec())
    fill(folder, *GUESTS)
    (folder / "tables/empty").mkdir()
    expected = content_of(folder)
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    with open_output(spec()) as output:
        assert output.is_complete
        assert not output.claim, "there is nothing to do"
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before
    finish(spec(seed=1))
    add_part(begin(spec(seed=2), overwrite=True))
    look(spec(seed=2), overwrite=True).roll_back()
    assert content_of(folder) == expected
    assert (folder / "tables/empty").is_dir()
    assert find_status(spec(seed=1)).state == "complete"


def test_what_a_killed_job_left_is_removed_beside_a_users_files(spec, folder):
    finish(spec())
    fill(folder, *GUESTS)
    expected = content_of(folder)
    for number in range(3):
        fill(folder, f"tables/part-00000-0a1b-{number:08x}.parquet")
    record = manifest.read(str(folder))
    fill(folder, "_work/0a1b2c3d/rest.json")
    assert not find_status(spec()).is_tidy
    with open_output(spec()) as output:
        assert output.is_complete
    listed = [item["path"] for item in record["files"]]
    assert filesystem.listing(str(folder)) == sorted(["manifest.json", *listed, *GUESTS])
    assert content_of(folder) == expected


def test_a_users_file_in_the_place_of_a_file_is_told_and_not_replaced(spec, folder):
    finish(spec())
    before = manifest.read(str(folder))
    output = begin(spec(seed=1), overwrite=True)
    part = add_part(output)
    fill(folder, "plots/curve.png")
    files = [part, output.write("plots/curve.png", b"drawn")]
    with pytest.raises(UserError) as error:
        output.publish(counts={}, files=files, seconds=0)
    assert str(error.value) == (
        f"{folder}/plots/curve.png is not from prepare, and the result has a file of this name: "
        "move it away, and run the same command again"
    )
    assert (folder / "plots/curve.png").read_text() == "plots/curve.png"
    assert manifest.read(str(folder)) == before
    (folder / "plots/curve.png").unlink()
    again = begin(spec(seed=1), overwrite=True)
    assert again.resumes
    again.publish(counts={}, files=files, seconds=0)
    assert (folder / "plots/curve.png").read_text() == "drawn"
    finish(spec(seed=2))
    assert not (folder / "plots").exists(), "the earlier result has listed it"


def test_a_directory_with_a_users_files_alone_is_refused_also_beside_a_work_folder(spec, folder):
    fill(folder, "tables/mine.parquet", "_work/0a1b2c3d/rest.json")
    with pytest.raises(UserError, match="holds files that are not from prepare"):
        look(spec(), overwrite=True)
    filesystem.delete(f"{folder}/tables/mine.parquet")
    assert not look(spec()).resumes


def test_in_object_storage_a_users_files_stay_too(spec, bucket):
    there = replace(spec(), uri=f"{bucket}/users")
    finish(there)
    fill(there.uri, *GUESTS)
    finish(replace(spec(seed=1), uri=there.uri))
    begin(replace(spec(seed=2), uri=there.uri), overwrite=True).roll_back()
    found = filesystem.listing(there.uri)
    assert [name for name in found if name in GUESTS] == GUESTS
    assert len(found) == len(GUESTS) + 3


def test_a_run_to_which_a_late_task_still_writes_stays_and_the_job_succeeds(
    spec, folder, monkeypatch, said
):
    finish(spec())
    really_delete = filesystem.delete

    def delete(uri):
        if "_work/" in uri:
            raise OSError(errno.ENOTEMPTY, "Directory not empty", uri)
        really_delete(uri)

    with monkeypatch.context() as patch:
        patch.setattr(filesystem, "delete", delete)
        finish(spec(seed=1))
    assert "stays: a task of another job still writes to it" in said.text
    assert find_status(spec(seed=1)).state == "complete"
    with open_output(spec(seed=1)) as output:
        assert output.is_complete
    assert not (folder / "_work").exists()
