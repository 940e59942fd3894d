# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from support import scratch


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(scratch.VARIABLE, raising=False)
    monkeypatch.setattr(scratch, "ENOUGH", 1)
    tmp_path.chmod(0o711)
    return tmp_path


def test_a_folder_in_memory_is_taken(memory: Path) -> None:
    assert scratch.scratch(memory) == memory


def test_the_ordinary_folder_is_taken_where_there_is_no_such_folder(memory: Path) -> None:
    assert scratch.scratch(memory / "missing") == Path(tempfile.gettempdir())


def test_the_ordinary_folder_is_taken_where_there_is_little_room(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "ENOUGH", 1 << 62)
    assert scratch.scratch(memory) == Path(tempfile.gettempdir())


def test_the_ordinary_folder_is_taken_where_memory_is_short(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_memory", lambda: 0)
    assert scratch.scratch(memory) == Path(tempfile.gettempdir())


def test_a_folder_that_another_account_cannot_pass_is_not_taken(memory: Path) -> None:
    memory.chmod(0o700)
    assert scratch.scratch(memory) == Path(tempfile.gettempdir())


def test_the_variable_decides(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(scratch.VARIABLE, str(memory / "mine"))
    assert scratch.scratch(memory) == memory / "mine"
