# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker's configuration: written for one reader, read back whole, silent about what it holds."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.config import (
    TaskSettings,
    WorkerConfig,
    load_config,
    task_settings,
    write_private,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import SpecError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.connect import Endpoint

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


def test_a_credential_stands_in_for_a_file_that_is_out_of_reach(tmp_path: pathlib.Path) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "config.json").write_text(CONFIG.text())
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    path = tmp_path / "config.json"
    assert load_config(str(path), environ) == CONFIG
    # the file is newer: a credential keeps what stood there when the unit started
    changed = WorkerConfig("other", "causeway", CONFIG.source, CONFIG.destination, "0123abcd", 9100)
    path.write_text(changed.text())
    assert load_config(str(path), environ) == changed
    with pytest.raises(SpecError, match="No such file"):
        load_config(str(tmp_path / "missing"), {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_settings_have_defaults_and_come_back() -> None:
    assert task_settings({}) == TaskSettings()
    changed = TaskSettings(retry_connection=20, retry_other=5, batch_size=10, batch_age=0.5, conflict_policy="keep")
    assert task_settings(changed.stored()) == changed
    assert changed.retry_limits().connection == 1200
    assert changed.batch_limits().max_changes == 10


def test_what_is_not_given_is_as_it_was_kept() -> None:
    kept = {"retry_connection": 1000, "rows_per_second": 50, "tags": {"a": "b"}}
    found = task_settings({"rows_per_second": 0}, kept)
    assert (found.retry_connection, found.rows_per_second, found.tags) == (1000, 0, {"a": "b"})
    with pytest.raises(SpecError, match="retry_other"):
        task_settings({"retry_other": 1000}, kept)


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
        ({"rows_per_second": 9}, "rows_per_second"),
        ({"rows_per_second": -1}, "rows_per_second"),
        ({"mb_per_second": 0.05}, "mb_per_second"),
        ({"heartbeat_interval": 0}, "heartbeat_interval"),
    ],
)
def test_settings_out_of_their_range_are_named(stored: dict[str, object], name: str) -> None:
    with pytest.raises(SpecError, match=name):
        task_settings(stored)
