"""Fixtures: one voicebus for all tests that do not break it, vendors and a directory for each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Bus
from vendors import Vendors, free_port

#: Where the voicebus of all tests believes its voice server to be; each test listens there in turn.
SHARED_PORT = free_port()


def pytest_configure(config: pytest.Config) -> None:
    if not Path(os.environ.get("VOICEBUS", "")).is_file():
        raise pytest.UsageError("set VOICEBUS to a voicebus binary")


@pytest.fixture(scope="session")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    bus = Bus(tmp_path_factory.mktemp("bus"), f"http://127.0.0.1:{SHARED_PORT}")
    yield bus
    bus.stop()


@pytest.fixture
def vendors() -> Iterator[Vendors]:
    vendors = Vendors()
    yield vendors
    vendors.stop()
