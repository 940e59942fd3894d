# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How pg_dump is asked, and which programs are good enough."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import DriverError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.connect import Endpoint
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.runner import Outcome
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.pg_dump import (
    DumpRequest,
    Programs,
    TablesLocked,
    _run,
    dump_arguments,
    exactly,
    find_programs,
    private_folder,
)


class Programmed:
    """A worker host with some programs of some versions."""

    def __init__(self, versions: Mapping[str, str]) -> None:
        self.versions = versions

    def run(self, argv: Sequence[str], environment: Mapping[str, str]) -> Outcome:
        return Outcome(0, self.versions[argv[0].rpartition("/")[2]], "")

    def find(self, program: str, folder: str) -> str:
        return f"{folder}/{program}" if program in self.versions else ""


def programmed(dump: str, restore: str) -> Programmed:
    return Programmed(
        {"pg_dump": f"pg_dump (PostgreSQL) {dump}\n", "pg_restore": f"pg_restore (PostgreSQL) {restore}\n"}
    )


def test_programs_of_the_sources_version_or_later_are_taken() -> None:
    assert find_programs(programmed("17.11 (Debian 17.11-1)", "18beta1"), "/x", 17) == Programs(
        "/x/pg_dump", "/x/pg_restore", 18
    )


@pytest.mark.parametrize(
    "host", [programmed("16.4", "17.1"), programmed("17.1", "16.4"), Programmed({}), programmed("x", "17.1")]
)
def test_missing_or_older_programs_are_refused_with_what_to_do(host: Programmed) -> None:
    with pytest.raises(DriverError, match="client_bin"):
        find_programs(host, "/x", 17)


class Failing(Programmed):
    """A worker host whose programs fail with these words."""

    def __init__(self, errors: str) -> None:
        super().__init__({})
        self.errors = errors

    def run(self, argv: Sequence[str], environment: Mapping[str, str]) -> Outcome:
        return Outcome(1, "", self.errors)


def test_too_few_locks_for_all_tables_are_told_from_a_table_that_somebody_locks() -> None:
    query = "pg_dump: detail: Query was: LOCK TABLE s.a, s.b IN ACCESS SHARE MODE\n"
    few = "pg_dump: error: query failed: FEHLER:  out of shared memory\nHINT:  max_locks_per_transaction\n"
    for errors, remedy in ((few + query, "Raise max_locks_per_transaction"), (query, "Grant the migration's account")):
        with pytest.raises(TablesLocked) as raised:
            _run(Failing(errors), ["/x/pg_dump"], {}, "dumping the schema of the", "source")
        assert raised.value.remedy.startswith(remedy)


def test_a_folder_goes_with_its_use_and_with_the_next_call_when_its_process_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    left, other = tmp_path / f"causeway-{gone.pid}-x", tmp_path / f"causeway-{os.getppid()}-y"
    for folder in (left, other):
        folder.mkdir()
        (folder / "password").touch()
    with pytest.raises(ZeroDivisionError), private_folder() as mine:
        assert mine.stat().st_mode & 0o777 == 0o700
        assert sorted(tmp_path.iterdir()) == sorted([other, mine])
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == [other]


def test_names_are_patterns_that_match_only_themselves_and_no_secret_is_said() -> None:
    endpoint = Endpoint("source", "h", 1, "u", "hunter2", "d", session_role="mover")
    wanted = DumpRequest(("s", 'A "b".*'), (("s", "t|?"),), True, "00000003-1")
    arguments = dump_arguments(Programs("pg_dump", "pg_restore", 17), endpoint, wanted, "/f")
    assert '--schema="A ""b"".*"' in arguments
    assert '--exclude-table="s"."t|?"' in arguments
    assert "--snapshot=00000003-1" in arguments
    assert "--role=mover" in arguments
    assert "--quote-all-identifiers" in arguments
    assert "hunter2" not in " ".join(arguments)
    assert exactly('"') == '""""'
