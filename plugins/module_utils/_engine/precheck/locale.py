# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the family "connection and identity": do both ends encode, sort and print values in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..postgres.server import create_database_statement, lacking_locale
from .finding import Check, Found, at_both

if TYPE_CHECKING:
    from ..postgres.server import Server
    from .observed import DestinationView, Observation, SourceView


def _encoding(dummy: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    here, there = source.server.encoding, destination.server.encoding
    if here != there:
        yield Found(
            destination.server.database,
            f"source {here}, destination {there}",
            "SHOW server_encoding",
            f"Create the destination database with ENCODING '{here}'.",
        )


def _collation(dummy: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    here, there = source.server, destination.server
    if _sorts_by(here) != _sorts_by(there):
        yield Found(
            there.database,
            f"source {', '.join(_sorts_by(here))}; destination {', '.join(_sorts_by(there))}",
            "SELECT * FROM pg_database WHERE datname = current_database()",
            f"Accept that texts sort and compare differently, or {_alike(here, there)}",
        )


def _alike(here: Server, there: Server) -> str:
    """Return how to get a destination that sorts as the source does."""
    if lacking := lacking_locale(here, there.version):
        return f"use a destination of {lacking}."
    statement = create_database_statement(here, f"{there.database}_new", there.version)
    return f"make a new database and name it as the destination's login_db: {statement}"


def _sorts_by(server: Server) -> tuple[str, ...]:
    """Return all by which texts of a database are sorted and compared, but the version of the library."""
    locale = server.locale
    known = (locale.provider, locale.name, f"LC_COLLATE {server.collate}", f"LC_CTYPE {server.ctype}")
    return tuple(one for one in (*known, f"rules {locale.rules}" if locale.rules else "") if one)


def _collation_version(seen: Observation) -> Iterator[Found]:
    for view in (seen.source, seen.destination):
        if view is not None and view.stale_collations:
            yield Found(
                f"{view.server.end} {view.server.database}",
                ", ".join(view.stale_collations),
                "SELECT collname FROM pg_collation WHERE collversion <> pg_collation_actual_version(oid)",
            )


def _lc_monetary(seen: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    here, there = source.ordinary.get("lc_monetary", ""), destination.ordinary.get("lc_monetary", "")
    if here == there:
        return
    for table in source.selection.leaves:
        money = [column.name for column in table.columns if column.base_type_name.startswith("money")]
        if money:
            yield Found(
                str(table),
                f"source {here}, destination {there}; columns {', '.join(money)}",
                "SHOW lc_monetary",
                f"ALTER DATABASE \"{destination.server.database}\" SET lc_monetary = '{here}';",
            )


def _timezone(seen: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    differing = [
        f"{name}: source {source.ordinary.get(name, '')}, destination {destination.ordinary.get(name, '')}"
        for name in ("TimeZone", "timezone_abbreviations")
        if source.ordinary.get(name) != destination.ordinary.get(name)
    ]
    if differing:
        yield Found(destination.server.database, "; ".join(differing), "SHOW TimeZone")


CHECKS = (
    Check(
        "database_encoding",
        "warning",
        "A character that the destination's encoding lacks stops the copy or the stream.",
        "Create the destination database with the source's encoding.",
        at_both(_encoding),
    ),
    Check(
        "database_collation",
        "ignorable",
        "Texts sort and compare differently: unique indexes and partition bounds on text may behave differently.",
        "Create the destination database with the source's locale.",
        at_both(_collation),
    ),
    Check(
        "collation_version",
        "ignorable",
        "Indexes on text were built under another version of the collation and may miss rows.",
        "REINDEX the indexes on text, then ALTER DATABASE … REFRESH COLLATION VERSION.",
        _collation_version,
        lock="REINDEX: no writes to the table; with CONCURRENTLY only DDL waits",
    ),
    Check(
        "lc_monetary",
        "ignorable",
        "Values of type money are printed and parsed by it: the application would see other amounts.",
        "ALTER DATABASE … SET lc_monetary to the source's value.",
        at_both(_lc_monetary),
    ),
    Check(
        "timezone_settings",
        "note",
        "The stored values are the same, but the application sees times in another zone unless it sets its own.",
        "ALTER DATABASE … SET TimeZone to the source's value.",
        at_both(_timezone),
    ),
)
