# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker's configuration: written for one reader, read back whole, silent about what it holds."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.worker_config import (
    TaskSettings,
    WorkerConfig,
    load_config,
    task_settings,
    write_private,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.connect import Endpoint
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import SpecError

CONFIG = WorkerConfig(
    "näme",
    "causeway",
    Endpoint("source", host="a", password="sécret", connect_params={"service": "x"}),
    Endpoint("destination", host="b", port=5433, session_role="mover"),
    "0123abcd",
)


def test_it_comes_back_as_it_was_and_only_its_owner_may_read_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("older")
    path.chmod(0o644)
    write_private(path, CONFIG.text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_config(str(path)) == CONFIG
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"name": "sécret"}', '{"password": "sécret"', "\x00"])
def test_a_broken_file_is_named_and_not_quoted(tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(SpecError) as failure:
        load_config(str(path))
    assert str(path) in str(failure.value)
    assert "sécret" not in str(failure.value)
    with pytest.raises(SpecError, match="No such file"):
        load_config(str(tmp_path / "missing"))


def test_settings_have_defaults_and_come_back() -> None:
    assert task_settings({}) == TaskSettings()
    changed = TaskSettings(retry_connection=20, retry_other=5, batch_size=10, batch_age=0.5, conflict_policy="keep")
    assert task_settings(changed.stored()) == changed
    assert changed.retry_limits().connection == 1200
    assert changed.batch_limits().max_changes == 10


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ({"retry_connection": 9}, "retry_connection"),
        ({"retry_connection": 1441}, "retry_connection"),
        ({"retry_other": 0}, "retry_other"),
        ({"retry_other": 720}, "retry_other"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_age": -1}, "batch_age"),
        ({"conflict_policy": "guess"}, "conflict_policy"),
    ],
)
def test_settings_out_of_their_range_are_named(stored: dict[str, object], name: str) -> None:
    with pytest.raises(SpecError, match=name):
        task_settings(stored)
