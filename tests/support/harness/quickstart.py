# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pair with the accounts of docs/quickstart.md and nothing more, and the way of a migration through the modules.

No account is a superuser, and the destination's database belongs to the migration's own. Before PostgreSQL 15 only a
superuser may set session_replication_role: there the migration's account is one where rows are moved.
"""

from __future__ import annotations

import contextlib
import pathlib
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from psycopg import sql
from support.clusters.local import Clusters
from support.clusters.pairs import End, Pair
from support.harness.modules import Migration
from support.harness.streaming import unpack_engine

CAPTURE = ("pg_replica_identity", "pg_publication", "pg_repl_slot")
SECTIONS = ("pre_data", "keys", "indexes", "foreign_keys")


class Quickstart:
    """``owner`` owns what is moved, ``app`` writes to it; ``here`` and ``there`` are the migration's accounts."""

    def __init__(
        self,
        pair: Pair,
        make_role: Callable[..., tuple[str, str]],
        clusters: Clusters,
        home: pathlib.Path,
        *,
        rows: bool = True,
        owners: Iterable[str] = (),
    ) -> None:
        self.pair, self.home = pair, home
        self.client: dict[str, Any] = {"client_bin": clusters.bin_dir("18")}
        self.owner, self.app = make_role(pair), make_role(pair)
        self.here = make_role(pair, "LOGIN REPLICATION", (pair.source,))
        self.modern = pair.destination.sql.info.server_version >= 150000
        self.there = make_role(pair, "LOGIN" if self.modern or not rows else "LOGIN SUPERUSER", (pair.destination,))
        self.names = {
            "owner": self.owner[0],
            "app": self.app[0],
            "here": self.here[0],
            "there": self.there[0],
            **{name: make_role(pair, "NOLOGIN")[0] for name in owners},
        }
        given = [self.names[name] for name in ("owner", *owners)]
        for role in given:
            self.run(pair.source, "GRANT {role} TO {here}", role=role)
            self.run(pair.destination, "GRANT {role} TO {there}", role=role)
        self.run(pair.source, "GRANT pg_signal_backend, pg_monitor TO {here}; GRANT CREATE ON DATABASE {db} TO {here}")
        self.run(pair.source, "GRANT CREATE ON DATABASE {db} TO {owner}")
        self.run(pair.destination, "ALTER DATABASE {db} OWNER TO {there}")
        if self.modern:
            self.run(pair.destination, "GRANT SET ON PARAMETER session_replication_role TO {there}")

    def run(self, end: End, statements: str, **more: str) -> None:
        """Run statements as a superuser; roles by their part, C({db}) is the database."""
        words = {name: sql.Identifier(role) for name, role in {**self.names, "db": end.dbname, **more}.items()}
        end.sql.execute(sql.SQL(statements).format(**words))

    def migration(self, objects: list[dict[str, Any]], destination: End | None = None, **more: Any) -> Migration:
        """A migration of its own name, by these accounts."""
        there = destination or self.pair.destination
        return Migration(
            f"way_{secrets.token_hex(3)}",
            self.pair.source.server.endpoint(self.pair.source.dbname, user=self.here[0], password=self.here[1]),
            there.server.endpoint(there.dbname, user=self.there[0], password=self.there[1]),
            objects,
            {"allow_keyless": True, **more},
        )

    def precheck(self, migration: Migration, **more: Any) -> dict[str, dict[str, Any]]:
        """The findings by id; raises ModuleFailed where there is an error among them, unless C(fail_on) says otherwise."""
        found = migration.run("pg_migration_precheck", **self.client, **more)
        return {one["id"]: one for one in found["findings"]}

    def schema(self, migration: Migration, sections: Iterable[str] = SECTIONS) -> None:
        """Create the whole schema."""
        for section in sections:
            migration.run("pg_schema_sync", section=section, **self.client)

    def task(self, migration: Migration, state: str, **more: Any) -> dict[str, Any]:
        """Run pg_cdc_task without a supervisor."""
        home: dict[str, Any] = {"worker_home": str(self.home), "worker_python": sys.executable, "supervisor": "none"}
        return migration.run("pg_cdc_task", state=state, **{**home, **more})

    def migrate(self, migration: Migration, *again: str) -> list[str]:
        """Do what the migrate playbook does before it compares; the tables C(again) are copied again. Capture's warnings."""
        if not (self.home / "engine").exists():
            unpack_engine(self.home)
        done = [migration.run(module) for module in CAPTURE]
        self.schema(migration, ("pre_data",))
        more: dict[str, Any] = {"resync": list(again)} if again else {}
        migration.run("pg_full_copy", **more)
        self.schema(migration, ("keys",))
        self.task(migration, "started", wait="caught_up")
        self.schema(migration, ("indexes", "foreign_keys"))
        migration.run("pg_sequence_sync")
        return [warning for one in done for warning in one.get("warnings", ())]

    @contextlib.contextmanager
    def migrated(self, migration: Migration) -> Iterator[dict[str, Any]]:
        """Bring a migration to C(validated), as the migrate playbook does; its worker ends with the context."""
        try:
            self.migrate(migration)
            yield migration.run("pg_data_validate", **self.client)
        finally:
            self.task(migration, "absent")

    def release(self, migration: Migration) -> list[str]:
        """Release the migration; the statements that would restore what its fence has taken."""
        rights: list[str] = []
        for module in reversed(CAPTURE):
            rights += migration.run(module, state="absent").get("source_rights", [])
        left = migration.run("pg_cutover", state="released")["left_behind"]
        assert left == [], left
        return rights

    def close(self) -> None:
        """Take back what would hold the account."""
        if self.modern:
            self.run(self.pair.destination, "REVOKE SET ON PARAMETER session_replication_role FROM {there}")
