"""A Ray that starts at once, and does nothing."""

import threading

import pytest

from sentiflow.cluster import connection, local_ray


class FakeRay:
    """Stands for Ray, and records each call with its thread."""

    def __init__(self, monkeypatch):
        self.calls = []
        self.init = lambda: None
        self.came = threading.Event()
        monkeypatch.setattr(local_ray, "_processes", {})  # not that of the whole session
        monkeypatch.setattr(connection.ray, "is_initialized", lambda: False)
        monkeypatch.setattr(connection.ray, "init", self._init)
        monkeypatch.setattr(connection.ray, "shutdown", lambda: self._note("shutdown"))
        monkeypatch.setattr(connection, "count_resources", lambda: "what there is")

    def _note(self, what):
        self.calls.append((what, threading.current_thread()))

    def _init(self, **options):
        self._note("init")
        self.came.set()
        self.init()

    @property
    def done(self):
        return [what for what, _ in self.calls]


@pytest.fixture
def ray(monkeypatch):
    return FakeRay(monkeypatch)
