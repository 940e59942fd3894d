# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The statement that gives the destination the source's definition, from what pg_dump prints at each end. Pure.

It is for the operator, who reads it first: nothing here is executed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..schema.normal_form import IDENTITY, OWNER, grants

if TYPE_CHECKING:
    from ..schema.normal_form import Key

_COLUMN = re.compile(r'^    ("(?:[^"]|"")+") (.*?),?$')
_REPLACED = ("FUNCTION", "PROCEDURE", "VIEW")
_ON_TABLE = re.compile(
    r'^ALTER (?:FOREIGN )?TABLE (?:ONLY )?(?P<table>\S.*?)\n? +ADD CONSTRAINT (?P<name>"(?:[^"]|"")+")', re.DOTALL
)
_NAME = r'(?:"(?:[^"]|"")+"\.)?"(?:[^"]|"")+"'
_INDEX = re.compile(r'^CREATE (?:UNIQUE )?INDEX ("(?:[^"]|"")+") ON')
_OF_TABLE = re.compile(
    rf'^CREATE (?:CONSTRAINT )?(?P<kind>TRIGGER|RULE|POLICY) (?P<name>"(?:[^"]|"")+").*? (?:ON|TO) (?P<table>{_NAME})',
    re.DOTALL,
)


def fix(key: Key, here: str, there: str) -> str:
    """Return SQL for the destination: ``here`` and ``there`` are the prints of both ends, empty where it is missing."""
    if key.kind in ("ACL", "DEFAULT ACL"):
        return _grants(here, there)
    if key.kind == OWNER:
        return here
    if key.kind == IDENTITY:
        return f"ALTER TABLE {key.name} REPLICA IDENTITY {here or 'DEFAULT'};"
    if key.kind in ("TABLE", "FOREIGN TABLE") and here and there:
        return _columns(here, there)
    if not there:
        return here
    if here and key.kind in _REPLACED:
        return re.sub(r"^CREATE ", "CREATE OR REPLACE ", here, count=1)
    return "\n".join(part for part in (_drop(key, there), here) if part)


def _grants(here: str, there: str) -> str:
    """Return what takes back the rights that only the destination has, and gives those that it lacks."""
    wanted, standing = grants(here), grants(there)
    taken = [_opposite(one) for one in standing if one not in wanted]
    return "\n".join([*(one for one in taken if one), *(one for one in wanted if one not in standing)])


def _opposite(statement: str) -> str:
    """Return the REVOKE of a GRANT and the other way round; of default privileges too."""
    if re.search(r"(^| )GRANT ", statement):
        statement = statement.replace(" WITH GRANT OPTION;", ";")
        return re.sub(r" TO (?=[^ ]+;\Z)", " FROM ", re.sub(r"(^| )GRANT ", r"\1REVOKE ", statement, count=1))
    return re.sub(r" FROM (?=[^ ]+;\Z)", " TO ", re.sub(r"(^| )REVOKE ", r"\1GRANT ", statement, count=1))


def _columns(here: str, there: str) -> str:
    """Return the ALTER TABLE for the columns that differ; for anything else both lines, as a comment."""
    table = re.match(rf"CREATE (?:UNLOGGED |FOREIGN )?TABLE ({_NAME})", here)
    name = table[1] if table else ""
    ours, theirs = here.splitlines(), there.splitlines()
    wanted = {match[1]: match[2] for line in ours if (match := _COLUMN.match(line))}
    standing = {match[1]: match[2] for line in theirs if (match := _COLUMN.match(line))}
    parts = [f"ALTER TABLE {name} ADD COLUMN {one} {wanted[one]};" for one in wanted if one not in standing]
    parts += [f"ALTER TABLE {name} DROP COLUMN {one};" for one in standing if one not in wanted]
    parts += [
        f"-- column {one}: the source has {wanted[one]}; the destination has {standing[one]}"
        for one in wanted
        if one in standing and wanted[one] != standing[one]
    ]
    rest = [line for line in ours if line not in theirs and not _COLUMN.match(line)]
    parts += [line if line.startswith("ALTER ") else f"-- the source has: {line.strip()}" for line in rest]
    gone = [line for line in theirs if line not in ours and not _COLUMN.match(line)]
    return "\n".join(parts + [f"-- only the destination has: {line.strip()}" for line in gone])


def _drop(key: Key, there: str) -> str:
    """Return the statement that drops what the destination has; a comment where PostgreSQL's form is not known here."""
    if constraint := _ON_TABLE.match(there):
        return f"ALTER TABLE {constraint['table'].strip()} DROP CONSTRAINT {constraint['name']};"
    if part := _OF_TABLE.match(there):
        return f"DROP {part['kind']} {part['name']} ON {part['table']};"
    if index := _INDEX.match(there):
        return f'DROP INDEX "{key.schema}".{index[1]};'
    if key.kind == "DEFAULT":
        return re.sub(r" SET DEFAULT .*", " DROP DEFAULT;", there, flags=re.DOTALL)
    if key.kind == "ROW SECURITY":
        return there.replace(" ENABLE ROW", " DISABLE ROW")
    if key.kind == "COMMENT":
        return re.sub(r" IS '.*", " IS NULL;", there, flags=re.DOTALL)
    made = re.match(
        rf"CREATE (?:OR REPLACE )?(?:UNLOGGED )?(?P<what>[A-Z ]+?) (?P<name>{_NAME}(?:\([^\n]*?\))?)", there
    )
    if made:
        return f"DROP {made['what']} {made['name']};"
    return f"-- drop it at the destination: {key}"
