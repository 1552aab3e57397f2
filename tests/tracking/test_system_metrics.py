"""System metrics are logged from the first sample on."""

import time

from sentiflow.tracking import system_metrics


def test_the_first_sample_already_knows_how_busy_the_cores_are(monkeypatch, tmp_path):
    monkeypatch.setattr(system_metrics, "_EVERY_SECONDS", 0.4)
    seen = []
    with system_metrics.watching(
        lambda metrics, step: seen.append((step, metrics)),
        tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
    ):
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            sum(range(1000))
    assert [step for step, _ in seen] == list(range(len(seen)))
    assert seen[0][1]["system/cpu_utilization_percentage"] > 5
    assert seen[0][1]["system/system_memory_usage_megabytes"] > 0


def test_the_end_of_the_block_ends_the_watch(tmp_path):
    began = time.monotonic()
    with system_metrics.watching(lambda *_: None, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db"):
        pass
    assert time.monotonic() - began < 4
