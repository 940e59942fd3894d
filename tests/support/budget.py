# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pytest plugin: a run that ends by itself. CAUSEWAY_BUDGET says how many seconds it may take.

Every property test gets an equal share and passes when its share is used up and no example failed. What no time is left
for is skipped, and named.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest
from _pytest.outcomes import Skipped

VARIABLE = "CAUSEWAY_BUDGET"
_DEADLINE = pytest.StashKey[float]()
_SHARE = pytest.StashKey[float]()


class Spent(Skipped):
    """Ends a property test: hypothesis lets a skip through at once."""


def pytest_collection_finish(session: pytest.Session) -> None:
    seconds = float(os.environ[VARIABLE])
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    session.config.stash[_DEADLINE] = time.monotonic() + seconds
    session.config.stash[_SHARE] = seconds * workers / max(1, len(session.items))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if time.monotonic() > item.config.stash[_DEADLINE]:
        pytest.skip("no time was left")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    handle = getattr(getattr(item, "obj", None), "hypothesis", None)
    if handle is None:
        return (yield)
    share = min(time.monotonic() + item.config.stash[_SHARE], item.config.stash[_DEADLINE])
    whole = handle.inner_test
    handle.inner_test = _until(whole, share)
    try:
        return (yield)
    finally:
        handle.inner_test = whole


def _until(test: Callable[..., Any], deadline: float) -> Callable[..., Any]:
    """Return the test, which raises Spent from the deadline on, unless an example has failed: that one is shrunk."""
    failed = False
    examples = 0

    @functools.wraps(test)
    def one(*arguments: Any, **named: Any) -> Any:
        nonlocal failed, examples
        if not failed and time.monotonic() > deadline:
            raise Spent(f"{examples} examples in the time that there was")
        examples += 1
        try:
            return test(*arguments, **named)
        except Exception:
            failed = True
            raise

    return one


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, Spent):
        report.outcome, report.longrepr = "passed", None
        report.sections.append(("budget", str(call.excinfo.value)))
    return report
