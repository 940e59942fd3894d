# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Family "production": what of the migration would hurt the application, or another consumer of the source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .. import names
from ..capture.published import KEY_REMEDY, against_full
from ..capture.replica_identity import wanted_identity
from ..postgres.catalog import quoted
from ..postgres.versions import has
from ..state.fence_state import fence_of
from ..state.source_schema import MESSAGES
from ..units import duration
from .finding import Check, Found, at_both, at_destination, at_source

if TYPE_CHECKING:
    from .observed import DestinationView, Observation, SourceView

_OURS = "causeway"
"""How the application_name of every session of ours begins."""

_ENTRY = re.compile(r'"(?:[^"]|"")*"|[^\s,()]+')


def _identity_stops_writes(seen: Observation, source: SourceView) -> Iterator[Found]:
    if source.published is None:
        return
    for table in source.selection.leaves:
        wanted = wanted_identity(table, seen.identity)
        full = wanted.letter == "f" if wanted else table.replica_identity == "f"
        why = full and against_full(table, source.published.of(table), source.server.version)
        if why:
            yield Found(
                str(table),
                f"it needs REPLICA IDENTITY FULL; {why}" if wanted else f"it has REPLICA IDENTITY FULL; {why}",
                "SELECT pubname FROM pg_publication",
            )


def _publication_for_all_tables(dummy: Observation, source: SourceView) -> Iterator[Found]:
    for publication in source.publications:
        if not publication.all_tables:
            continue
        query = "SELECT pubname FROM pg_publication WHERE puballtables"
        if not has(source.server.version, MESSAGES):
            yield Found(
                publication.name,
                f"FOR ALL TABLES; logical slots of this database: {', '.join(_readers(source)) or 'none'}",
                query,
                "Replace it by a publication that names its tables, or update the source to PostgreSQL 14 or newer, where"
                " the migration makes no table there.",
                "It would also send the heartbeat table that the migration creates at a source before PostgreSQL 14; a"
                " subscriber does not have that table, and stops.",
                severity="error",
            )
            continue
        keyless = [
            str(table)
            for table in source.catalog.tables.values()
            if table.holds_rows and table.replica_identity in "dn" and not any(i.primary for i in table.keys)
        ]
        without = f"; tables without a replica identity: {', '.join(keyless[:5])}" if keyless else ""
        yield Found(publication.name, f"FOR ALL TABLES{without}", query)


def _readers(source: SourceView) -> list[str]:
    """Return the logical slots of the source's database by name, read at this moment or not."""
    return [slot.name for slot in source.slots if slot.plugin and slot.database == source.server.database]


def standby_names(setting: str) -> tuple[int, tuple[str, ...]]:
    """Return how many standbys synchronous_standby_names waits for, and the names it lists. Pure; 0 if it is empty."""
    head, bracket, rest = setting.strip().partition("(")
    listed = [entry for entry in _ENTRY.findall(rest if bracket else head) if entry]
    names_ = tuple(one[1:-1].replace('""', '"') if one.startswith('"') else one for one in listed)
    if not names_:
        return 0, ()
    number = re.search(r"\d+", head) if bracket else None
    return int(number[0]) if number else 1, names_


def _synchronous_standby_names(seen: Observation, source: SourceView) -> Iterator[Found]:
    """Find a list that our stream counts in. How many confirm a commit, and who, is the operator's to say."""
    setting = source.server.setting("synchronous_standby_names")
    dummy, listed = standby_names(setting)
    matching = [one for one in listed if one == "*" or _is_ours(one, seen.spec.name)]
    if not matching:
        return
    connected = [
        one for one in dict.fromkeys(source.standbys) if one not in listed and not _is_ours(one, seen.spec.name)
    ]
    yield Found(
        source.server.database,
        f"synchronous_standby_names = '{setting}'",
        "SHOW synchronous_standby_names",
        f"In synchronous_standby_names write the names of your standbys instead of {', '.join(map(quoted, matching))}"
        f" (connected now: {', '.join(map(quoted, connected)) or 'no other'}); leave FIRST or ANY and the number as they are."
        " Then SELECT pg_reload_conf().",
    )


def _is_ours(application_name: str, migration: str) -> bool:
    """Return whether a session of this migration has such a name; the server compares without regard to case."""
    name = application_name.lower()
    return name.startswith(f"{_OURS} ") and name.endswith(f" {migration}".lower()[: 63 - len(_OURS)])


def _destination_commits_wait(dummy: Observation, destination: DestinationView) -> Iterator[Found]:
    setting = destination.server.setting("synchronous_standby_names")
    number, listed = standby_names(setting)
    if listed and destination.synchronous_standbys < 0:
        yield Found(
            destination.server.database,
            f"synchronous_standby_names = '{setting}', and the account may not see which of them are connected",
            "SELECT sync_state FROM pg_stat_replication",
            f"To know beforehand: GRANT pg_monitor TO {quoted(destination.account)}; every wait of the migration is bounded.",
            "If a standby that a commit waits for is not connected, the migration's commits wait for it.",
            severity="note",
        )
    elif listed and destination.synchronous_standbys < number:
        yield Found(
            destination.server.database,
            f"synchronous_standby_names = '{setting}', and {destination.synchronous_standbys} of {number} are connected",
            "SELECT application_name, sync_state FROM pg_stat_replication",
        )


def _account_of_application(seen: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    owns = any(table.owner == destination.account for table in source.selection.tables)
    for fellow in source.fellows if seen.revoke_writer else ():
        applications = f" ({', '.join(fellow.applications[:3])})" if fellow.applications else ""
        through = "" if fellow.role == destination.account else f", a member of {destination.account}"
        yield Found(
            fellow.role,
            f"{fellow.sessions} sessions at the source{applications} log in as {fellow.role}{through}; the migration logs in"
            f" at the destination as {destination.account}",
            "SELECT usename, application_name FROM pg_stat_activity",
            # an operator's session of an account that only the migration has: it owns nothing
            severity=None if owns else "note",
        )


def _others_of_ours(seen: Observation, source: SourceView) -> Iterator[Found]:
    ours = names.slot_name(seen.spec.name)
    for slot in source.slots:
        if slot.name.startswith("dts_") and slot.name != ours and not slot.active and not slot.temporary:
            since = f", inactive for {duration(slot.inactive)}" if slot.inactive is not None else ", inactive now"
            yield Found(
                slot.name,
                f"a slot of database {slot.database or 'none'}{since}",
                "SELECT * FROM pg_replication_slots WHERE NOT active",
            )
    for kind, name in source.leftovers:
        if kind != "publication" or name != names.publication_name(seen.spec.name):
            yield Found(name, f"{kind} of another migration or tool", "pg_publication, pg_event_trigger, pg_class")


def _publication_name_taken(seen: Observation, source: SourceView) -> Iterator[Found]:
    known = seen.destination is not None and seen.destination.state is not None
    name = names.publication_name(seen.spec.name)
    if not known and ("publication", name) in source.leftovers:
        yield Found(name, "a publication of that name", "SELECT * FROM pg_publication")


def _held_tables(dummy: Observation, source: SourceView) -> Iterator[Found]:
    for table, holder in source.held:
        yield Found(table, f"locked by {holder}", "SELECT * FROM pg_locks WHERE locktype = 'relation' AND granted")


def _fence_left(seen: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    opened = destination.state is not None and destination.state.opened_at
    if source.fence not in ("fenced", "closed") or opened or destination.cutting_over:
        return
    closed = source.fence == "closed"
    yield Found(
        source.server.database,
        f"the source is {source.fence} by a cutover of {seen.spec.name} that is gone",
        "SELECT obj_description(oid, 'pg_publication') FROM pg_publication",
        "Run the cutover playbook again: it resumes there." if closed else "",
        "The application can write to neither end." if closed else "",
    )


_FENCED = {
    "fenced": "a cutover runs behind this fence, or has died there: run the cutover or the release of that migration again;"
    " either lifts it.",
    "closed": "it was cut over. Where the source is to be used again after all, release that migration: the release returns"
    " the statements that restore from its record what its fence has taken.",
}


def _source_fenced(seen: Observation, source: SourceView) -> Iterator[Found]:
    own = names.publication_name(seen.spec.name)
    ours = seen.destination.state if seen.destination else None
    states = {one.name: known for one in source.publications if (known := fence_of(one.comment)) in _FENCED}
    if ours is not None and ours.fence and (own in states or not has(source.server.version, MESSAGES)):
        return  # our own cutover goes on behind its own fence
    told = " ".join(f"The fence of {name} is {states[name]}: {_FENCED[states[name]]}" for name in sorted(states))
    for owner, kind, objects in source.fenced:
        rights = "USAGE, UPDATE" if kind == "SEQUENCE" else "INSERT, UPDATE, DELETE, TRUNCATE"
        yield Found(
            owner,
            f"may not write to {len(objects)} of its own {kind.lower()}s: {', '.join(objects[:5])}",
            "SELECT relname, relacl FROM pg_class",
            told or f"GRANT {rights} ON {kind} {', '.join(objects)} TO {quoted(owner)};",
        )


CHECKS = (
    Check(
        "fence_left",
        "warning",
        "The application cannot write to the source.",
        "Run the cutover playbook again, or migrate with causeway_fail_on: error, which restores the right to write.",
        at_both(_fence_left),
        incremental=True,
    ),
    Check(
        "identity_stops_writes",
        "error",
        "The source would refuse every UPDATE and DELETE on the table, the application's too.",
        KEY_REMEDY,
        at_source(_identity_stops_writes),
        incremental=True,
    ),
    Check(
        "table_held",
        "ignorable",
        "The replica identity of the table has to change, which waits until this transaction has ended.",
        "Wait until it ends, or terminate its session.",
        at_source(_held_tables),
        incremental=True,
    ),
    Check(
        "publication_for_all_tables",
        "ignorable",
        "It makes every table need a replica identity: an UPDATE or DELETE on a table without one fails at the source.",
        "Replace it by a publication that names its tables, or give each table a replica identity.",
        at_source(_publication_for_all_tables),
        incremental=True,
    ),
    Check(
        "source_fenced",
        "error",
        "An earlier cutover, or the owner itself, has revoked the owner's right: it would be missing at the destination too,"
        " and the copy could not write there.",
        "GRANT the rights back at the source, or release the migration whose fence has taken them.",
        at_source(_source_fenced),
    ),
    Check(
        "synchronous_standby_names",
        "error",
        "The list matches the stream of the migration: every commit of the application would wait for its worker.",
        "Name the standbys one by one in synchronous_standby_names.",
        at_source(_synchronous_standby_names),
        incremental=True,
    ),
    Check(
        "destination_commits_wait",
        "error",
        "Every commit at the destination waits for a standby that is not there, so the migration would wait for ever.",
        "Connect the standby, or take it out of synchronous_standby_names until it is connected.",
        at_destination(_destination_commits_wait),
    ),
    Check(
        "account_of_application",
        "error",
        "At the cutover the migration's account loses its right to write to the destination, and the application with it.",
        "Give the migration an account of its own; or set causeway_revoke_writer: false, which the certificate says.",
        at_both(_account_of_application),
        incremental=True,
    ),
    Check(
        "publication_name_taken",
        "error",
        "A publication of the migration's name exists, but is not recorded in its state: another one may be using it.",
        "Give the migration another causeway_name. Drop the publication only when you know whose it is, and that no slot is"
        " read with it.",
        at_source(_publication_name_taken),
        incremental=True,
    ),
    Check(
        "leftovers",
        "note",
        "It may belong to a migration that is paused, copies, or whose host is down. An inactive slot retains WAL.",
        "Nothing, until you know whose it is: its own release removes it.",
        at_source(_others_of_ours),
        incremental=True,
    ),
)
