"""Servers on real sockets, shut down after the test."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from faulty_server import Server, serve


@pytest.fixture
def server(monkeypatch):
    """Give a function that starts a server; proxies of this machine are left out."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    started = []

    def start(**how):
        one = Server(**how)
        serve(one)
        started.append(one)
        return one

    yield start
    for one in started:
        one.shutdown()
        one.server_close()
