# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker's configuration: written for one reader, read back whole, silent about what it holds."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.config import (
    WorkerConfig,
    load_config,
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
