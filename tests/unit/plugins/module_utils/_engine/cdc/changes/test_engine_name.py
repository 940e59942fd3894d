# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the name of an engine says of it."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes import compiled

COMPILED = "0123abcd.cpython-313-x86_64-linux-gnu"


@pytest.mark.parametrize(
    ("engine", "version", "says_compiled"),
    [
        (COMPILED, "0123abcd", True),
        ("0123abcd", "0123abcd", False),
        ("0123abcd.a.b", "0123abcd", True),
        ("", "", False),
    ],
)
def test_the_abi_behind_the_hash_says_that_it_is_compiled(engine: str, version: str, says_compiled: bool) -> None:
    assert compiled.version_of(engine) == version
    assert compiled.says_compiled(engine) is says_compiled


@pytest.mark.parametrize(
    ("loaded", "folder", "running"),
    [
        ("/e/pgoutput.cpython-313-x86_64-linux-gnu.so", COMPILED, COMPILED),
        ("/e/pgoutput.cpython-313-x86_64-linux-gnu.so", "0123abcd", "0123abcd"),
        ("/e/pgoutput.py", COMPILED, "0123abcd"),
        ("/e/pgoutput.pyc", COMPILED, "0123abcd"),
        ("/e/pgoutput.py", "0123abcd", "0123abcd"),
    ],
)
def test_a_folder_of_compiled_files_counts_only_if_they_were_loaded(
    monkeypatch: pytest.MonkeyPatch, loaded: str, folder: str, running: str
) -> None:
    monkeypatch.setattr(compiled.pgoutput, "__file__", loaded)
    assert compiled.running_engine(folder) == running
