import pytest
from conftest import PROJECT, make_store
from test_cli import invoke

from sentiflow.cli import demo
from sentiflow.config import settings
from sentiflow.data import sample


@pytest.mark.parametrize("folder", ["runs/quickstart", "a b", "a: b", "#x", 'a"b', "7", "~"])
def test_the_config_of_the_demo_is_the_quickstart_for_any_directory(folder, tmp_path):
    path = tmp_path / "quickstart.yaml"
    path.write_text(demo.write_config(demo.Path(folder)))
    found = settings.read(path, [])
    assert found["output_uri"] == folder
    assert found["prepare"]["csv"] == f"{folder}/tweets.csv"
    quickstart = PROJECT / "configs/quickstart.yaml"
    assert found["train"] == settings.read(quickstart, [])["train"]
    if folder == "runs/quickstart":
        assert path.read_text() == quickstart.read_text()


@pytest.mark.ray
@pytest.mark.slow
def test_the_demo_runs_and_then_is_complete(tmp_path, monkeypatch, resources):
    make_store(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(demo, "_NUM_ROWS", 2000)  # a tenth of what users get
    first = invoke("demo")
    assert first.exit_code == 0, first.output
    assert "sentiflow ui runs/quickstart/quickstart.yaml" in first.stdout
    folder = tmp_path / "runs/quickstart"
    assert (folder / "report/report.html").exists()
    corpus = b"".join(sample.generate(num_rows=2000, seed=0))
    assert (folder / "tweets.csv").read_bytes() == corpus
    again = invoke("demo", "runs/quickstart")
    assert "nothing was repeated" in again.stdout
