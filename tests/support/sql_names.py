# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects what the SQL in Python files names of PostgreSQL: functions, relations and columns of its catalogs, settings.

It reads string literals, no data flow: a text is scanned as it is written, with the texts that an f-string puts into it. In a
text that reads a catalog every bare word counts as a column, unless it is a keyword, a type, or named in the text itself: so a
column that nobody listed is found, at the price of a list of words (`KEYWORDS`) that grows with the SQL.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_KEYWORDS = """
all alter always analyze and any array as asc begin between by cascade case cast check coalesce collate column comment
commit committed concurrently conflict constraint copy create cross current_user cycle database date day deallocate default
deferrable delete desc disable distinct do drop else enable end epoch escape except exclusive execute exists extension
extract false fetch filter following for force format freeze from full function generated grant greatest group having
identity if ilike in index inherit inner insert intersect interval into is isolation join key lateral least left level like
limit listen local lock materialized mode natural no not nothing notify nowait null nullif nulls first last object of
offset on only option or order ordinality outer over overriding partition policy preceding prepared primary public
publication read reads recursive reference references refresh reindex release rename repeatable replace replica reset
restrict returning returns revoke right role rollback row rows rule savepoint schema select sequence session session_user
set share show similar skip snapshot start statement statistics stdin stdout system table tablesample temp temporary then
to transaction trigger true truncate type union unique unlogged update use user using vacuum valid validate value values
view when where window with without work write zone large locked secs days owner
"""
KEYWORDS = frozenset(_KEYWORDS.split())
_TYPES = """
bigint int int4 int8 smallint float8 numeric text text bool boolean bit jsonb oid regclass regnamespace regrole regtype
timestamptz pg_lsn interval char name bytea tid xid real double precision
"""
TYPES = frozenset(_TYPES.split())

SYSTEM_COLUMNS = frozenset({"ctid", "tableoid", "xmax", "xmin"})

_PLACEHOLDER = re.compile(r"%\(\w+\)[sbt]?|%[sbt]|\$\d+|\{[^{}]*\}")
_LITERAL = re.compile(r"'(?:[^']|'')*'")
_COMMENT = re.compile(r"--[^\n]*")
_RELATION = re.compile(
    r"(?:FROM|JOIN|,|INTO|UPDATE|ONLY|USING)\s+(?:pg_catalog\.)?(pg_(?!catalog\b)\w+)\b(?!\s*\()(?:\s+(?:AS\s+)?([a-z]\w*))?"
)
_ALIAS_OF_OTHERS = re.compile(r"(?:FROM|JOIN)\s+(?!pg_)[a-z]\w*\s+(?:AS\s+)?([a-z]\w*)")
_CALL = re.compile(r"(?<![\w.\"])(pg_catalog\.)?([a-z_]\w*)\s*\(")
_QUALIFIED = re.compile(r"(?<![\w.\"])([a-z_]\w*)\.([a-z_]\w*|\*)(?!\s*\()")
_WORD = re.compile(r"(?<![\w.\"':$])([a-z_]\w*)(?![\w.(\"])")
_CAST = re.compile(r"::\s*(?:pg_catalog\.)?\"?\w+\"?(?:\(\d+\))?(?:\[\])?")
_SET = re.compile(r"(?:^|;|SYSTEM)\s*SET (?:LOCAL |SESSION )?([a-z_]\w*) (?:=|TO)\s")
_SHOW = re.compile(r"\bSHOW ([a-z_]\w*)")
_ASSIGNED = re.compile(r"([a-z]+(?:_[a-z]+)+) = \S+")
_GIVEN = re.compile(r"PINNED|_?WRITING|\w*SETTINGS")
_READ = re.compile(r"current_setting\('(\w+)'\)|set_config\('(\w+)'")
_REGCLASS = re.compile(r"'(?:pg_catalog\.)?(pg_\w+)'::regclass")
_STATEMENT = re.compile(
    r"pg_catalog\.|(?:^|\n)\s*\(?(?:SELECT|WITH|INSERT|UPDATE|DELETE|LOCK|SET|COPY|CREATE|ALTER|DROP|BEGIN|LEFT JOIN)\s"
)


@dataclass(frozen=True)
class Text:
    """One string literal: where it is, and what it says."""

    file: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}"


@dataclass
class Names:
    """What texts name, each with the places: ``columns`` by (relation, column); ``unknown`` are words of a text that reads
    catalogs of which none is known to have such a column."""

    functions: dict[str, list[Text]] = field(default_factory=dict)
    relations: dict[str, list[Text]] = field(default_factory=dict)
    columns: dict[tuple[str, str], list[Text]] = field(default_factory=dict)
    settings: dict[str, list[Text]] = field(default_factory=dict)
    unknown: dict[str, list[Text]] = field(default_factory=dict)
    stars: list[Text] = field(default_factory=list)


def texts(folder: Path) -> Iterator[Text]:
    """The string literals of all Python files below ``folder`` that are no docstrings."""
    for file in sorted(folder.rglob("*.py")):
        yield from texts_of(file, file.read_text(encoding="utf-8"))


def texts_of(file: Path, source: str) -> Iterator[Text]:
    tree = ast.parse(source)
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = _constants(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            left_out |= {id(part) for part in node.values}
    for node in ast.walk(tree):
        if id(node) not in left_out:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield Text(file, node.lineno, node.value)
            elif isinstance(node, ast.JoinedStr):
                yield Text(file, node.lineno, _joined(node, constants))
    for one in _settings(tree):
        yield Text(file, one.lineno, f"SET LOCAL {one.value!s} = given")


def _settings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the names of the settings that a session begins with: keys of C(settings=…), and of constants that C(_GIVEN) matches."""
    for node in ast.walk(tree):
        value: ast.expr | None = None
        if isinstance(node, ast.keyword) and node.arg == "settings":
            value = node.value
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            value = node.value if isinstance(target, ast.Name) and _GIVEN.fullmatch(target.id) else None
        for key in value.keys if isinstance(value, ast.Dict) else ():
            if isinstance(key, ast.Constant):
                yield key


def _constants(tree: ast.Module) -> dict[str, str]:
    """The texts that the file's own constants hold."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                found[node.targets[0].id] = node.value.value
            elif isinstance(node.value, ast.JoinedStr):
                found[node.targets[0].id] = _joined(node.value, found)
    return found


def _joined(node: ast.JoinedStr, constants: Mapping[str, str]) -> str:
    parts = []
    for part in node.values:
        if isinstance(part, ast.Constant):
            parts.append(str(part.value))
        elif isinstance(part, ast.FormattedValue):
            name = part.value.id if isinstance(part.value, ast.Name) else ""
            parts.append(constants.get(name, "{}"))
    return "".join(parts)


def is_sql(text: str) -> bool:
    """Whether a text is a statement or a part of one that names catalogs, not prose that mentions SQL."""
    return bool(_STATEMENT.search(text)) and "…" not in text


def collect(found: Iterator[Text] | Sequence[Text], catalogs: Mapping[str, frozenset[str]]) -> Names:
    """What these texts name. ``catalogs`` are the columns that are known of each relation."""
    names = Names()
    for text in found:
        if is_sql(text.text):
            _collect_one(text, catalogs, names)
        elif assigned := _ASSIGNED.fullmatch(text.text):
            names.settings.setdefault(assigned[1], []).append(text)
    return names


def _collect_one(text: Text, catalogs: Mapping[str, frozenset[str]], names: Names) -> None:
    sql = _COMMENT.sub("", text.text)
    for setting in (*_SET.findall(sql), *_SHOW.findall(sql), *(a or b for a, b in _READ.findall(sql))):
        names.settings.setdefault(setting, []).append(text)
    for relation in _REGCLASS.findall(sql):
        names.relations.setdefault(relation, []).append(text)
    bare = _CAST.sub("", _LITERAL.sub("''", _PLACEHOLDER.sub(" ", _SHOW.sub("", sql))))
    aliases: dict[str, set[str]] = {}
    for relation, alias in _RELATION.findall(bare):
        names.relations.setdefault(relation, []).append(text)
        for name in {relation, alias} - KEYWORDS - {""}:
            aliases.setdefault(name, set()).add(relation)
    here, own = set[str]().union(*aliases.values()), _own_names(bare) | set(aliases)
    for qualified, function in _CALL.findall(bare):
        if qualified or function not in KEYWORDS | TYPES | own:
            names.functions.setdefault(function, []).append(text)
    for alias, column in _QUALIFIED.findall(bare):
        if alias in aliases and column == "*":
            names.stars.append(text)
        elif alias in aliases and column not in SYSTEM_COLUMNS:
            owners = {relation for relation in aliases[alias] if column in catalogs.get(relation, ())}
            if not owners and alias not in _ALIAS_OF_OTHERS.findall(bare):  # else a CTE's, of the same alias
                owners = aliases[alias]
            for relation in owners:
                names.columns.setdefault((relation, column), []).append(text)
    if here:
        _bare_columns(text, bare, here, own, catalogs, names)


def _bare_columns(
    text: Text, bare: str, here: set[str], own: set[str], catalogs: Mapping[str, frozenset[str]], names: Names
) -> None:
    """Add the words that no relation qualifies: as columns of each relation of the text that may have them."""
    if re.search(r"SELECT\s+\*\s+FROM\s+pg_catalog\.pg_\w+\b(?!\()", bare):
        names.stars.append(text)
    for word in set(_WORD.findall(bare)) - own - KEYWORDS - TYPES - SYSTEM_COLUMNS:
        owners = [relation for relation in here if word in catalogs.get(relation, ())]
        for relation in owners:
            names.columns.setdefault((relation, word), []).append(text)
        if not owners:
            names.unknown.setdefault(word, []).append(text)


def _own_names(bare: str) -> set[str]:
    """The names that a text gives itself: aliases, CTEs and their columns."""
    own = set(re.findall(r"\bAS\s+([a-z]\w*)", bare))
    own |= set(re.findall(r"\)\s+(?:AS\s+)?([a-z]\w*)", bare))
    own |= set(re.findall(r"(?:WITH(?: RECURSIVE)?|,)\s+([a-z]\w*)\s*(?:\([^()]*\)\s*)?AS\s+\(", bare))
    for columns in re.findall(
        r"\b[a-z]\w*\s*\(([a-z_]\w*(?:,\s*[a-z_]\w*)*)\)(?=\s+AS\s+\(|\s*\n|\s+(?:LEFT|JOIN|ON|WHERE|$))", bare
    ):
        own |= {name.strip() for name in columns.split(",")}
    own |= set(re.findall(r"(?:FROM|JOIN|ORDINALITY)\s+([a-z]\w*)\b", bare))
    own |= set(re.findall(r"(?:FROM|JOIN)\s+[a-z]\w*\s+([a-z]\w*)", bare))
    return own
