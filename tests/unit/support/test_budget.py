# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from support import budget

TESTS = Path(budget.__file__).parents[1]
PROGRAM = """
import time
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

endless = settings(max_examples=10**6, deadline=None, database=None, suppress_health_check=list(HealthCheck))

@endless
@given(st.integers())
def test_holds(n):
    time.sleep(0.001)

@endless
@given(st.integers())
def test_does_not_hold(n):
    time.sleep(0.001)
    assert n < 1000

def test_is_slow():
    time.sleep({slow})

def test_is_late():
    pass
"""


def run(folder: Path, seconds: float, slow: float) -> tuple[str, float]:
    (folder / "test_it.py").write_text(PROGRAM.replace("{slow}", str(slow)))
    started = time.monotonic()
    options = ["-p", "support.budget", "-p", "no:cacheprovider", "-rA", "-c", "/dev/null", "--rootdir", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(folder)],
        env={**os.environ, "PYTHONPATH": str(TESTS), budget.VARIABLE: str(seconds)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout, time.monotonic() - started


def test_a_property_without_end_passes_and_one_that_fails_is_found(tmp_path: Path) -> None:
    out, seconds = run(tmp_path, 8, 0)
    assert "PASSED test_it.py::test_holds" in out and " examples in the time that there was" in out
    assert "FAILED test_it.py::test_does_not_hold" in out
    assert "PASSED test_it.py::test_is_late" in out
    assert seconds < 60


def test_what_no_time_is_left_for_is_skipped(tmp_path: Path) -> None:
    out, _seconds = run(tmp_path, 1, 1.5)
    assert "SKIPPED" in out and "no time was left" in out and "PASSED test_it.py::test_is_late" not in out
