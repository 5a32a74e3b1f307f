"""Fixtures: one voicebus for all tests that do not break it, vendors and a directory for each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import site_of
from harness import Bus
from vendors import Vendors


def pytest_configure(config: pytest.Config) -> None:
    if not Path(os.environ.get("VOICEBUS", "")).is_file():
        raise pytest.UsageError("set VOICEBUS to a voicebus binary")


@pytest.fixture(scope="session")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    bus = Bus(tmp_path_factory.mktemp("bus"), f"http://127.0.0.1:{site_of.SHARED_PORT}")
    yield bus
    bus.stop()


@pytest.fixture
def vendors() -> Iterator[Vendors]:
    vendors = Vendors()
    yield vendors
    vendors.stop()


@pytest.fixture
def make_site(tmp_path: Path, vendors: Vendors, request: pytest.FixtureRequest) -> Iterator[site_of.MakeSite]:
    made: list[site_of.Site] = []

    def make(kind: str, ingress: str | None = None, **more: Any) -> site_of.Site:
        ingress = ingress or request.getfixturevalue("bus").http
        directory = tmp_path / f"site{len(made)}"
        directory.mkdir()
        made.append(site_of.Site(kind, directory, vendors, ingress, **more))
        return made[-1]

    yield make
    running = [site for site in made if site.server.process.alive()]
    try:
        faults = [site for site in running if site.server.status()["faults"] != site.expected_faults]
    finally:
        # One that stays would answer the next test.
        for site in made:
            site.server.stop()
    assert not faults, [site.server.process.log.read_text() for site in faults]


@pytest.fixture(params=["v1", "v2", "v3"])
def site(request: pytest.FixtureRequest, make_site: site_of.MakeSite) -> site_of.Site:
    """A site of each kind in turn."""
    return make_site(request.param)
