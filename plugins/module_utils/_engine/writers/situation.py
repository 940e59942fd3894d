# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role can do to the selected objects of one end, and by which ways it could still write after a REVOKE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from ..objects.mapping import DestinationName, tables_there
from ..postgres.catalog import Table, qualified, quoted
from ..postgres.connect import explain_errors
from .grants import Grant, Relation, Writer, observe_grants, observe_writers, with_dependents

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.connect import End

SETTING = "default_transaction_read_only"
DOING = "revoking the right to write"

_ROLE_SETTING = """
SELECT r.rolname,
       (SELECT pg_catalog.split_part(entry, '=', 2) FROM pg_catalog.unnest(s.setconfig) entry
         WHERE pg_catalog.split_part(entry, '=', 1) = %s)
  FROM pg_catalog.pg_roles r
  LEFT JOIN pg_catalog.pg_db_role_setting s ON s.setrole = r.oid AND s.setdatabase =
       (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
 WHERE r.rolname = %s
"""


@dataclass(frozen=True, slots=True)
class Situation:
    """One role at one end. ``grants`` are its ACL entries and those that depend on them; ``setting`` is its
    default_transaction_read_only in this database, None where it has none; ``ourselves`` is current_user."""

    end: End
    role: str
    database: str
    ourselves: str
    login: str
    tables: tuple[Table, ...]
    relations: tuple[Relation, ...]
    writer: Writer | None
    grants: tuple[Grant, ...]
    public: tuple[Grant, ...]
    setting: str | None

    @property
    def key(self) -> str:
        return f"{self.end}:{self.role}"

    @property
    def needs_brake(self) -> bool:
        """Return whether the role can still write after a REVOKE from it."""
        writer = self.writer
        return writer is not None and (writer.superuser or bool(writer.through) or writer.public)


def observe_situation(migration: Migration, end: End, role: str) -> Situation:
    """Observe one role at one end; ``role`` empty means our own login account. Raises SpecError, ServerError."""
    conn = migration.source if end == "source" else migration.destination
    with explain_errors("reading the roles of the", end):
        row = conn.execute("SELECT session_user::text, current_user::text, pg_catalog.current_database()").fetchone()
        login, ourselves, database = row or ("", "", "")
        role = role or login
        found = conn.execute(_ROLE_SETTING, (SETTING, role)).fetchone()
    if found is None:
        raise SpecError(DOING, quoted(role), f"the {end} has no role of that name", "Correct role.")
    tables, relations = _selected(migration, end)
    writers = {writer.role: writer for writer in observe_writers(conn, tables)}
    grants = observe_grants(conn, relations)
    return Situation(
        end=end,
        role=role,
        database=database,
        ourselves=ourselves,
        login=login,
        tables=tables,
        relations=relations,
        writer=writers.get(role),
        grants=with_dependents(grants, role),
        public=tuple(grant for grant in grants if not grant.grantee and grant.kind == "table"),
        setting=found[1],
    )


def _selected(migration: Migration, end: End) -> tuple[tuple[Table, ...], tuple[Relation, ...]]:
    """Return the selected tables, and these with the sequences, as ``end`` has them. The state schema is never one."""
    selection, mapping = migration.selected(), migration.mapping
    if end == "source":
        return selection.tables, (*selection.tables, *selection.sequences)
    catalog = migration.destination_catalog()
    by_name = tables_there(catalog)
    tables = tuple(by_name[name] for t in selection.tables if (name := mapping.there(t.qualified_name)) in by_name)
    sequences = {DestinationName(sequence.qualified_name): sequence for sequence in catalog.sequences.values()}
    wanted = [mapping.there(sequence.qualified_name) for sequence in selection.sequences]
    return tables, (*tables, *(sequences[name] for name in wanted if name in sequences))


def remaining_paths(situation: Situation) -> list[dict[str, object]]:
    """Return the paths by which the role can write after a REVOKE from it, each with the remedy that closes it."""
    writer, role = situation.writer, quoted(situation.role)
    if writer is None:
        return []
    count = len(situation.tables)
    found: list[dict[str, object]] = []
    if writer.superuser:
        remedy = f"ALTER ROLE {role} NOSUPERUSER, or stop using it."
        found.append({"path": "superuser", "via": situation.role, "tables": count, "remedy": remedy})
    for group in writer.through:
        remedy = f"REVOKE {quoted(group)} FROM {role} (directly, or from the role through which it is a member)."
        found.append({"path": "membership", "via": group, "tables": count, "remedy": remedy})
    if writer.public:
        tables = sorted({qualified((grant.schema, grant.name)) for grant in situation.public})
        remedy = f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {', '.join(tables[:3])} … FROM PUBLIC."
        found.append({"path": "public", "via": "PUBLIC", "tables": len(tables), "remedy": remedy})
    return found


def unknown_path(situation: Situation, tried: Mapping[str, Any]) -> dict[str, object]:
    """Return the path of a role that could write when it was tried, for a reason that the catalogs do not show."""
    role = quoted(situation.role)
    remedy = (
        f"Let nothing but the migration log in as {role}. When it is released, drop {role} if it was made for the"
        " migration; never disable the only account that may administer the server."
    )
    return {"path": "unknown", "via": situation.role, "tables": len(tried["writable"]), "remedy": remedy}


def kept_path(situation: Situation, kept: Sequence[Grant]) -> dict[str, object]:
    """Return the path of entries that a REVOKE has left: the server only warns where our account may not revoke them."""
    grantors, tables = sorted({grant.grantor for grant in kept}), {(grant.schema, grant.name) for grant in kept}
    remedy = (
        f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {', '.join(sorted(map(qualified, tables))[:3])} … FROM"
        f" {quoted(situation.role)}, as {', '.join(map(quoted, grantors))}: {quoted(situation.ourselves)} may not."
    )
    return {"path": "grant", "via": ", ".join(grantors), "tables": len(tables), "remedy": remedy}


def warnings_of(situation: Situation, remaining: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    if not remaining:
        return ()
    ways = "; ".join(f"{way['path']} ({way['via']}): {way['remedy']}" for way in remaining)
    return (
        f"role {quoted(situation.role)} can still write at the {situation.end} in a way that REVOKE on tables does not"
        f" stop: {ways} Until then {SETTING} = on makes its new sessions in {quoted(situation.database)} read-only,"
        " unless they set it off themselves.",
    )
