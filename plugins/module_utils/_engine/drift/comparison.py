# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the definitions of both ends, and says later, within an instant, whether they are still what was compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import DriverError, StateError
from ..postgres.connect import explain_errors
from ..schema.triggers import name_of
from ..state.validation import read_definitions
from .catalog_fingerprint import Detail, changed, detail, total
from .database_level import observe_items
from .definitions import Definitions, Facts, keeps_privileges, keys_of
from .difference import Difference, counting, refusal, require_known
from .judge import Circumstances, judge
from .judge_items import judge_items

if TYPE_CHECKING:
    from ..migration import Migration
    from ..postgres.connect import Connection, End
    from ..runner import Runner
    from ..schema.normal_form import Definition, Key
    from ..state.store import MigrationState

_ATTEMPTS = 3
_DOING = "comparing the definitions of both ends of migration"
_FENCED = ("TABLE ", "COLUMN ", "SEQUENCE ")


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found, and how many facts it compared."""

    differences: tuple[Difference, ...]
    facts: int
    ignore: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Difference, ...]:
        """Return the errors that are not ignored."""
        return counting(self.differences, self.ignore)

    def as_result(self) -> dict[str, object]:
        """Return it as return values: ``differences`` and ``definitions`` (how many were compared)."""
        shown = [one.as_result(ignored=one.name in self.ignore) for one in self.differences]
        return {"differences": shown, "definitions": self.facts}

    def certified(self) -> dict[str, object]:
        """Return what the certificate says: how many were compared, and which differences the operator accepted."""
        return {
            "compared": self.facts,
            "accepted": [one.name for one in self.differences if one.severity == "error"],
            "told": [one.name for one in self.differences if one.severity == "warning"],
        }


class Drift:
    """The comparison for the length of one module call. ``seen`` is what `compare` found last."""

    def __init__(self, migration: Migration, runner: Runner, client_bin: str, ignore: tuple[str, ...]) -> None:
        require_known(ignore)
        self._migration = migration
        self._runner = runner
        self._client_bin = client_bin
        self._ignore = ignore
        self._baseline: dict[End, tuple[str, Detail]] = {}
        self.seen: Compared | None = None

    def compare(self, *, fenced: bool = False) -> Compared:
        """Compare both ends and return the differences; ``fenced`` leaves out rights that a fence may have taken.

        Raises DriverError without client programs that read both ends, and StateError if definitions change each time.
        """
        migration = self._migration
        for dummy in range(_ATTEMPTS):
            self._baseline = {end: self._fingerprint(end) for end in ("source", "destination")}
            found = self._compared(migration.state(), fenced=fenced)
            if not self._moved():
                self.seen = found
                return found
        raise StateError(
            _DOING,
            migration.name,
            f"they changed during each of {_ATTEMPTS} comparisons",
            "Run this again when fewer ALTER, CREATE and DROP statements are executed at either end.",
        )

    def require_equal(self, doing: str, *, fenced: bool = False) -> None:
        """Raise MismatchError for differences that are errors and not ignored. Raises what `compare` raises."""
        found = self.compare(fenced=fenced)
        if found.errors:
            raise refusal(doing, found.errors, found.as_result())

    def require_unchanged(self, doing: str) -> None:
        """Raise StateError, naming the objects, if a definition is not what was compared. Takes milliseconds."""
        for end in self._moved():
            names = changed(self._baseline[end][1], detail(self._session(end), end, self._schemas(end)))
            raise StateError(
                doing,
                ", ".join(names[:5]) + (f" (and {len(names) - 5} more)" if len(names) > 5 else ""),
                f"the definition was changed at the {end} since the definitions of both ends were compared",
                "Run the cutover again: it compares them anew, and names the statement for each difference.",
            )

    def _moved(self) -> list[End]:
        """Return the ends whose fingerprint is not the one that was taken before the comparison."""
        return [
            end
            for end, (before, dummy) in self._baseline.items()
            if total(self._session(end), end, self._schemas(end)) != before
        ]

    def _fingerprint(self, end: End) -> tuple[str, Detail]:
        conn, schemas = self._session(end), self._schemas(end)
        return total(conn, end, schemas), detail(conn, end, schemas)

    def _session(self, end: End) -> Connection:
        return self._migration.source if end == "source" else self._migration.destination

    def _schemas(self, end: End) -> tuple[str, ...]:
        schemas = {rule.schema for rule in self._migration.spec.rules}
        return tuple(sorted(schemas if end == "source" else map(self._migration.mapping.schema, schemas)))

    def _compared(self, state: MigrationState | None, *, fenced: bool) -> Compared:
        migration = self._migration
        made = "schema" in migration.spec.types
        reader = Definitions(migration, self._runner, self._client_bin, privileges=keeps_privileges(state))
        try:
            reader.programs()
        except DriverError as exc:
            if made:
                raise
            told = Difference("definitions_not_compared", "warning", "all definitions", exc.why, exc.remedy)
            return Compared((told, *self._database_level(state)), 0, self._ignore)
        recorded = read_definitions(migration.store) if state else {}
        source = reader.source()
        destination = reader.destination({*source.found, *keys_of(recorded)})
        here, there = (_without_fenced(one) if fenced else one.found for one in (source, destination))
        records = {name: one for name, one in recorded.items() if not fenced or not _may_be_fenced(*name[::2])}
        found = judge(here, there, records, self._circumstances(state, source))
        found += tuple(_unread(key) for key in sorted(destination.unread - source.found.keys()))
        return Compared((*found, *self._database_level(state)), len(here), self._ignore)

    def _database_level(self, state: MigrationState | None) -> Iterator[Difference]:
        migration = self._migration
        database = migration.destination_server.database
        here, there = (
            observe_items(self._session(end), end, migration.name, database) for end in ("source", "destination")
        )
        asleep = state.before_image.get("event_triggers", {}) if state else {}
        return judge_items(here, there, migration.destination, asleep)

    def _circumstances(self, state: MigrationState | None, source: Facts) -> Circumstances:
        migration = self._migration
        with explain_errors("reading the roles of the", "destination"):
            roles = migration.destination.execute("SELECT rolname FROM pg_catalog.pg_roles").fetchall()
        return Circumstances(
            alike=migration.source_server.major == migration.destination_server.major and migration.mapping.is_identity,
            made="schema" in migration.spec.types,
            roles={row[0] for row in roles},
            asleep=_asleep(state.before_image) if state else {},
            unreachable=source.unreachable,
        )


def _unread(key: Key) -> Difference:
    cause = "the destination has it, and its account may not read it"
    return Difference("definition_only_at_destination", "warning", str(key), cause, "")


def _asleep(before_image: Mapping[str, Mapping[str, Mapping[str, str]]]) -> dict[tuple[str, str], str]:
    """Return the recorded state of triggers and rules that are disabled until the opening, by schema and name."""
    found = {}
    for kind in ("triggers", "rules"):
        for table, states in before_image.get(kind, {}).items():
            there = name_of(table)
            found.update({(there[0], f"{there[1]} {one}"): state for one, state in states.items()})
    return found


def _may_be_fenced(kind: str, name: str) -> bool:
    """Return whether a fact is of rights that a fence takes."""
    return kind == "ACL" and name.startswith(_FENCED)


def _without_fenced(facts: Facts) -> Mapping[Key, Definition]:
    return {key: one for key, one in facts.found.items() if not _may_be_fenced(key.kind, key.name)}
