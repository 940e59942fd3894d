# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real servers for the functional tests, by the same program as the role C(local_clusters).

What a test asks for:

* C(pair): a fresh database at either end (C(pair.source), C(pair.destination)), on shared clusters of version 17;
* C(make_pair(source="14", destination="17")): the same on other versions; with C(private=True) on clusters of its
  own, which may be stopped, crashed and restarted (C(pair.source.server.restart("immediate")));
* C(clusters): the factory behind both, also for C(clusters.bin_dir("17")).

CAUSEWAY_TEST_SOURCE and CAUSEWAY_TEST_DESTINATION, two libpq connection strings of accounts that may create
databases, replace the local clusters; what a test needs that such a server has not got is told by markers, and skips it
(C(support/clusters/outside.py)).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from support.clusters import outside
from support.clusters.local import Clusters, Server, sweep
from support.clusters.pairs import Pair, pairs, roles

# their fixtures are for every test here
pytest_plugins = [
    "support.harness.streaming",
    "support.harness.tasks",
    "support.harness.moved",
    "support.harness.exactness",
]

# They run whole playbooks.
LONG = ("test_lifecycle", "test_side_by_side", "test_copy_hosts", "test_worker_compile")


def pytest_configure(config: pytest.Config) -> None:
    """SIGTERM ends a run as Ctrl-C does, so that its servers go too."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes first, so that none of them keeps the end waiting for itself."""
    items.sort(key=lambda item: item.path.stem not in LONG)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot run on the servers from outside, if there are any."""
    if why := outside.why_not(item):
        pytest.skip(why)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Skip what a server from outside is too old for."""
    report = yield
    if report.failed and call.excinfo is not None and (why := outside.too_new(call.excinfo.value)):
        report.outcome, report.longrepr = "skipped", (str(item.path), (item.location[1] or 0) + 1, f"Skipped: {why}")
    return report


@pytest.fixture(scope="session")
def clusters() -> Iterator[Clusters]:
    sweep()
    made = Clusters()
    yield made
    made.close()


@pytest.fixture(scope="session")
def source_cluster(clusters: Clusters) -> Server:
    return clusters.end("source")


@pytest.fixture(scope="session")
def destination_cluster(clusters: Clusters) -> Server:
    return clusters.end("destination")


@pytest.fixture
def make_pair(clusters: Clusters) -> Iterator[Callable[..., Pair]]:
    """C(make_pair(source=version, destination=version, private=bool, source_settings={}, destination_settings={})).

    Versions are major versions as strings, None for the default. C(private) clusters belong to the one test and go
    with it; settings need them.
    """
    with pairs(clusters) as make:
        yield make


@pytest.fixture(scope="module")
def make_lasting_pair(clusters: Clusters) -> Iterator[Callable[..., Pair]]:
    """The same, for pairs that the tests of one file look at in turn."""
    with pairs(clusters) as make:
        yield make


@pytest.fixture
def pair(make_pair: Callable[..., Pair]) -> Pair:
    return make_pair()


@pytest.fixture
def make_role() -> Iterator[Callable[..., tuple[str, str]]]:
    """C(make_role(pair, "NOLOGIN")): a login role at both ends (one that is given the attributes); name, password.

    It goes after the test, so write C(make_role) before C(pair) in the test's arguments: the databases go first.
    """
    with roles() as make:
        yield make


@pytest.fixture(scope="module")
def make_lasting_role() -> Iterator[Callable[..., tuple[str, str]]]:
    """The same, for C(make_lasting_pair)."""
    with roles() as make:
        yield make
