# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks and types the options of a migration that all modules share. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import SpecError
from .objects.rules import SchemaRule, compile_rules
from .postgres.connect import Endpoint


@dataclass(frozen=True, slots=True)
class MigrationSpec:
    """The options of a migration. ``types`` is a subset of schema, full, incremental."""

    name: str
    source: Endpoint
    destination: Endpoint
    rules: tuple[SchemaRule, ...]
    types: frozenset[str]
    state_schema: str
    allow_keyless: bool
    conflicting_tables: str
    restart: bool
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def incremental(self) -> bool:
        return "incremental" in self.types

    def stored(self) -> Mapping[str, object]:
        """Return what the state tables store: no secret, nothing that an address change would make untrue."""
        return {
            "objects": [{"schema": r.schema, "tables": list(r.tables), "exclude": list(r.exclude)} for r in self.rules],
            "types": sorted(self.types),
            "allow_keyless": self.allow_keyless,
            "conflicting_tables": self.conflicting_tables,
        }


def endpoint_of(end: str, options: Mapping[str, Any]) -> Endpoint:
    """Return the Endpoint of a dict with community.postgresql's option names. Raises SpecError without a database."""
    given = {key: value for key, value in options.items() if value not in (None, "")}
    if not given.get("login_db") and not (given.get("connect_params") or {}).get("service"):
        raise SpecError(
            "reading the connection options", f"causeway_{end}", "login_db is missing", "Name the database."
        )
    port = int(given.get("login_port", 5432))
    if not 0 < port < 65536:
        raise SpecError(
            "reading the connection options", f"causeway_{end}", f"login_port {port} is not a port", "Use 1 to 65535."
        )
    return Endpoint(
        end="source" if end == "source" else "destination",
        host=str(given.get("login_host", "")),
        port=port,
        user=str(given.get("login_user", "")),
        password=str(given.get("login_password", "")),
        dbname=str(given.get("login_db", "")),
        unix_socket=str(given.get("login_unix_socket", "")),
        ssl_mode=str(given.get("ssl_mode", "prefer")),
        ca_cert=str(given.get("ca_cert", "")),
        ssl_cert=str(given.get("ssl_cert", "")),
        ssl_key=str(given.get("ssl_key", "")),
        connect_params={str(k): str(v) for k, v in (given.get("connect_params") or {}).items()},
        session_role=str(given.get("session_role", "")),
    )


def spec_of(options: Mapping[str, Any]) -> MigrationSpec:
    """Return the MigrationSpec of the options that all modules share (`_arguments`). Raises SpecError."""
    types = frozenset(options["types"])
    if not types or ("incremental" in types and types == {"schema", "incremental"}):
        raise SpecError(
            "reading the migration",
            "causeway_types",
            "schema and incremental without full leaves out the rows that exist at the source now",
            "Use [schema], [schema, full], [full], [schema, full, incremental] or [full, incremental].",
        )
    for option, variable in (("name", "causeway_name"), ("state_schema", "causeway_state_schema")):
        if not str(options[option]).strip():
            raise SpecError("reading the migration", variable, "it is empty", "Give it a name, or leave it out.")
    if not options["objects"]:
        raise SpecError(
            "reading the objects of the migration",
            "causeway_objects",
            "the list is empty, so nothing would be moved",
            "Name at least one schema: [{schema: public}].",
        )
    if "%" in str(options["state_schema"]):
        raise SpecError(
            "reading the migration",
            "causeway_state_schema",
            "the name contains a percent sign, which the driver reads as a parameter",
            "Choose another name for the state schema.",
        )
    return MigrationSpec(
        name=str(options["name"]),
        source=endpoint_of("source", options["source"]),
        destination=endpoint_of("destination", options["destination"]),
        rules=compile_rules(options["objects"]),
        types=types,
        state_schema=str(options["state_schema"]),
        allow_keyless=bool(options["allow_keyless"]),
        conflicting_tables=str(options["conflicting_tables"]),
        restart=bool(options["restart"]),
        tags={str(key): str(value) for key, value in (options.get("tags") or {}).items()},
    )
