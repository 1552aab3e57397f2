"""``RAY_ADDRESS`` is read in one place, without Ray."""

import re
import subprocess
import sys

import pytest

from sentiflow.cluster.address import find_address, joins_cluster
from sentiflow.errors import UserError


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("http://127.0.0.1:8265", "from outside of the cluster use `sentiflow submit`"),
        ("ray://head:10001", "from outside of the cluster use `sentiflow submit`"),
        ("10.0.0.1", "write HOST:6379"),
        ("a b:c", "write HOST:6379"),
    ],
)
def test_an_address_that_is_not_rays_is_refused(monkeypatch, address, hint):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=rf"^RAY_ADDRESS={re.escape(address)} is not .*: {hint}"):
        find_address()


@pytest.mark.parametrize(
    ("address", "found"),
    [(None, "local"), ("", "local"), ("local", "local"), ("auto", "auto"), ("[::1]:6379",) * 2],
)
def test_jobs_join_a_cluster_unless_the_address_is_local(monkeypatch, address, found):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert find_address() == found
    assert joins_cluster() == (found != "local")


def test_ray_is_not_imported_to_read_its_address():
    script = "import sys, sentiflow.cluster.address; sys.exit('ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
