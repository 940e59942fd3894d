# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `objects` of a migration as the user writes them: rules with names and patterns. Pure; they know no catalog."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import lru_cache

from ..errors import SpecError
from ..postgres.catalog import quoted


@dataclass(frozen=True, slots=True)
class SchemaRule:
    """One entry of ``objects``. ``tables`` empty selects the whole schema; both hold names or ``*``/``?`` patterns."""

    schema: str
    tables: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        return not self.tables

    def leaves_out(self, name: str) -> bool:
        """Return whether a relation of the schema, of any kind, is excluded by name."""
        return patterns(self.exclude).match(name)


def compile_rules(objects: Items[Mapping[str, object]]) -> tuple[SchemaRule, ...]:
    """``objects`` as the user writes them to rules. Raises SpecError."""
    rules = []
    for entry in objects:
        schema = str(entry.get("schema") or "")
        if not schema:
            raise SpecError(
                "reading the objects of the migration", "objects", "an entry names no schema", "Add schema: to it."
            )
        names = tuple(str(table.get("name") or "") for table in _mappings(entry.get("tables")))
        if "" in names:
            raise SpecError(
                "reading the objects of the migration", quoted(schema), "a table has no name", "Add name: to it."
            )
        exclude = entry.get("exclude")
        rules.append(SchemaRule(schema, names, tuple(str(p) for p in exclude) if isinstance(exclude, list) else ()))
    return tuple(rules)


def _mappings(value: object) -> Iterable[Mapping[str, object]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class Patterns:
    """Names and patterns, matched at once: thousands of tables may be matched against thousands of names."""

    names: frozenset[str]
    expressions: tuple[re.Pattern[str], ...]

    def match(self, name: str) -> bool:
        return name in self.names or any(expression.match(name) for expression in self.expressions)


@lru_cache
def patterns(texts: tuple[str, ...]) -> Patterns:
    """Compile patterns of ``*`` and ``?`` only, case-sensitive: brackets are ordinary characters in a name."""
    expressions = [re.compile(fnmatch.translate(t.replace("[", "[[]"))) for t in texts if "*" in t or "?" in t]
    return Patterns(frozenset(texts), tuple(expressions))
