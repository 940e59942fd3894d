# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A migration of one table whose copy is complete, and its pg_cdc_task: for tests of what a person tells a running task."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from support.clusters.pairs import Pair
from support.harness.modules import Migration
from support.harness.streaming import Streaming


class Task:
    """A migration whose copy is complete, and its pg_cdc_task."""

    def __init__(self, pair: Pair, home: pathlib.Path) -> None:
        self.streaming = Streaming(pair, home)
        self.home = home
        self.folder = self.streaming.folder
        self.migration = Migration(
            self.streaming.name, pair.source.endpoint, pair.destination.endpoint, [{"schema": "public"}]
        )
        self.arguments: dict[str, Any] = {
            "worker_home": str(home),
            "worker_python": sys.executable,
            "supervisor": "none",
        }

    def run(self, **more: Any) -> dict[str, Any]:
        return self.migration.run("pg_cdc_task", **{**self.arguments, **more})

    def pid(self) -> int:
        return int(self.streaming.progress("pid"))


@pytest.fixture
def task(pair: Pair, tmp_path: pathlib.Path) -> Iterator[Task]:
    pair.run("CREATE TABLE t (id int PRIMARY KEY, v text)")
    made = Task(pair, tmp_path)
    made.folder.rmdir()
    made.streaming.begin_without_task()
    yield made
    made.run(state="absent")
