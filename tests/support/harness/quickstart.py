# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database's whole way by the modules, with the quickstart's accounts: no superusers, but at a destination before 15,
where only one may set session_replication_role."""

from __future__ import annotations

import pathlib
import secrets
import sys
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import sql
from support.clusters.local import Clusters
from support.clusters.pairs import End, Pair
from support.harness.modules import Migration
from support.harness.streaming import unpack_engine

CAPTURE = ("pg_replica_identity", "pg_publication", "pg_repl_slot")


class Quickstart:
    """A pair, the accounts of the migration and of the application, and the steps of the playbooks as module calls.

    ``{owner}`` and ``{app}`` in a schema are the tables' owner and the application's role.
    """

    def __init__(
        self,
        pair: Pair,
        make_role: Callable[..., tuple[str, str]],
        clusters: Clusters,
        home: pathlib.Path,
        objects: Sequence[dict[str, Any]],
        **more: Any,
    ) -> None:
        self.pair, self.home = pair, home
        self.owner, self.app = make_role(pair), make_role(pair)
        self.here = make_role(pair, "LOGIN REPLICATION", (pair.source,))
        self.modern = pair.destination.sql.info.server_version >= 150000
        self.there = make_role(pair, "LOGIN" if self.modern else "LOGIN SUPERUSER", (pair.destination,))
        self._client: dict[str, Any] = {"client_bin": clusters.bin_dir("18")}
        self._task: dict[str, Any] = {"worker_home": str(home), "worker_python": sys.executable, "supervisor": "none"}
        self._grant()
        unpack_engine(home)
        self.migration = Migration(
            f"way_{secrets.token_hex(3)}",
            pair.source.server.endpoint(pair.source.dbname, user=self.here[0], password=self.here[1]),
            pair.destination.server.endpoint(pair.destination.dbname, user=self.there[0], password=self.there[1]),
            list(objects),
            {"allow_keyless": True, **more},
        )

    def _grant(self) -> None:
        """Grant what the quickstart asks for."""
        source, destination = self.pair.ends
        grants: list[tuple[End, str]] = [
            (source, "GRANT {owner}, pg_signal_backend, pg_monitor TO {here}"),
            (source, "GRANT CREATE ON DATABASE {db} TO {here}, {owner}"),
            (destination, "ALTER DATABASE {db} OWNER TO {there}"),
            (destination, "GRANT {owner} TO {there}"),
        ]
        if self.modern:
            grants.append((destination, "GRANT SET ON PARAMETER session_replication_role TO {there}"))
        for end, statement in grants:
            self.run_as_admin(end, statement)

    def run_as_admin(self, end: End, text: str) -> None:
        """Run SQL at one end as the superuser; ``{owner}``, ``{app}``, ``{here}``, ``{there}`` and ``{db}`` are names."""
        named = {"owner": self.owner[0], "app": self.app[0], "here": self.here[0], "there": self.there[0]}
        names = {key: sql.Identifier(name) for key, name in {**named, "db": end.dbname}.items()}
        end.sql.execute(sql.SQL(text).format(**names))

    def as_app(self, end: End) -> psycopg.Connection[Any]:
        """Return a session of the application, in autocommit."""
        session: psycopg.Connection[Any] = end.connect(user=self.app[0], password=self.app[1])
        return session

    def precheck(self, **more: Any) -> dict[str, Any]:
        return self.migration.run("pg_migration_precheck", **self._client, **more)

    def capture(self) -> list[str]:
        """Do what the prepare role does; return the warnings."""
        return [warning for module in CAPTURE for warning in self.migration.run(module).get("warnings", ())]

    def copy(self, *again: str) -> None:
        """Create the tables and copy the rows; those of the tables ``again`` once more."""
        self.migration.run("pg_schema_sync", section="pre_data", **self._client)
        more: dict[str, Any] = {"resync": list(again)} if again else {}
        self.migration.run("pg_full_copy", **more)

    def follow(self, wait: str = "caught_up") -> None:
        """Start the worker, and finish the schema."""
        self.migration.run("pg_schema_sync", section="keys", **self._client)
        self.migration.run("pg_cdc_task", state="started", wait=wait, **self._task)
        for section in ("indexes", "foreign_keys"):
            self.migration.run("pg_schema_sync", section=section, **self._client)
        self.migration.run("pg_sequence_sync")

    def migrate(self, *again: str) -> list[str]:
        """Do what the migrate playbook does, but for the comparison; return capture's warnings."""
        warnings = self.capture()
        self.copy(*again)
        self.follow()
        return warnings

    def validate(self) -> dict[str, Any]:
        return self.migration.run("pg_data_validate", **self._client)

    def cut(self, **more: Any) -> dict[str, Any]:
        return self.migration.run("pg_cutover", **{"timeout": 60, **self._client, **more})

    def end_worker(self) -> None:
        self.migration.run("pg_cdc_task", state="absent", **self._task)

    def release(self) -> list[Any]:
        """Remove what the migration made; return what is left behind."""
        for module in reversed(CAPTURE):
            self.migration.run(module, state="absent")
        left: list[Any] = self.migration.run("pg_cutover", state="released")["left_behind"]
        return left

    def clean(self) -> None:
        """End the worker, and take back what would hold a role."""
        self.end_worker()
        if self.modern:
            self.run_as_admin(self.pair.destination, "REVOKE SET ON PARAMETER session_replication_role FROM {there}")
