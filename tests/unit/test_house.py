# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the engine that a linter does not know: how large its rooms may be and what they may import."""

from __future__ import annotations

import ast
import graphlib
import re
import statistics
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.tables import TABLE_NAMES

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
MODULE_UTILS = PLUGINS / "module_utils"
ENGINE = MODULE_UTILS / "_engine"
FILES = sorted(ENGINE.rglob("*.py"))
# one guarded door to each third-party library; nobody else imports it
DOORS = {
    "_psycopg.py": "psycopg",
    "_asyncpg.py": "asyncpg",
    "_pglast.py": "pglast",
    "_prometheus.py": "prometheus_client",
}
BLOCKED = ("ansible", "psycopg", "psycopg_c", "psycopg_binary", "asyncpg", "pglast", "prometheus_client")
# the newest standard library that the engine may know is the one of Python 3.10
TOO_NEW = {"tomllib", "annotationlib", "compression"}

# The floors, ground first: a room imports what stands before it in this list and nothing else. A file of the engine's root is a
# room of its own: the words that every room speaks lie at the bottom, the front doors at the top.
FLOORS = (
    *("errors", "names", "units", "failpoints", "runner"),
    *("postgres", "plan", "objects", "flow", "state", "spec", "migration"),
    *("writers", "capture", "slot", "large_objects", "schema"),
    *("cdc/changes", "cdc/apply", "cdc/control", "cdc/monitor", "cdc/worker"),
    *("copy/transfer", "copy", "task", "drift", "validate", "cutover", "precheck"),
    *("info", "daemon"),
)
# What sees every change is compiled, and decides without a server: it knows nothing but these.
PURE = "cdc/changes"
KNOWN_TO_PURE = {"errors", "postgres/lsn", "postgres/key_order", "postgres/key_ranges"}

per_file = pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ENGINE)) for file in FILES])


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def test_there_is_an_engine() -> None:
    assert len(FILES) > 5


def functions(file: Path) -> list[tuple[str, int]]:
    """The functions of a file and how many lines each has."""
    return [
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(parsed(file))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


@per_file
def test_a_file_has_at_most_350_lines_and_a_function_60(file: Path) -> None:
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= 350, f"{file.name}: {lines} lines"
    for name, length in functions(file):
        assert length <= 60, f"{file.name}: {name} has {length} lines"


def test_half_of_the_functions_have_at_most_nine_lines() -> None:
    assert statistics.median(length for file in FILES for dummy, length in functions(file)) <= 9


def test_a_room_has_at_most_16_files_and_the_root_12() -> None:
    for folder in {file.parent for file in FILES}:
        held = [file.name for file in folder.glob("*.py") if file.name != "__init__.py"]
        assert len(held) <= (12 if folder == ENGINE else 16), f"{folder.relative_to(ENGINE)}: {sorted(held)}"


def name_of(file: Path) -> str:
    return file.relative_to(ENGINE).with_suffix("").as_posix()


MODULES = {name_of(file) for file in FILES if file.name != "__init__.py"}


def room_of(module: str) -> str:
    return module.rpartition("/")[0] or module


def imported_modules(module: str) -> set[str]:
    """The files of the engine that a file imports, for the type checker alone or not."""
    found = set()
    for node in ast.walk(parsed(ENGINE / f"{module}.py")):
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = [*module.split("/")[: -node.level], *(node.module.split(".") if node.module else ())]
            for alias in node.names:
                inside, itself = "/".join([*parts, alias.name]), "/".join(parts)
                found.add(inside if inside in MODULES else itself)
    return found


IMPORTS = {module: imported_modules(module) for module in sorted(MODULES)}


def test_every_import_names_a_file_of_the_engine() -> None:
    assert {imported for known in IMPORTS.values() for imported in known} <= MODULES


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_room_imports_only_rooms_below_it(module: str) -> None:
    own = FLOORS.index(room_of(module))
    for imported in IMPORTS[module]:
        assert FLOORS.index(room_of(imported)) <= own, f"{module} imports {imported}"
    if room_of(module).startswith("copy"):
        assert not [one for one in IMPORTS[module] if one.startswith("cdc/")], module


def test_no_files_import_one_another_in_a_circle() -> None:
    order = graphlib.TopologicalSorter(IMPORTS)
    order.prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("module", sorted(one for one in MODULES if room_of(one) == PURE))
def test_what_is_compiled_is_pure(module: str) -> None:
    assert {one for one in IMPORTS[module] if room_of(one) != PURE} <= KNOWN_TO_PURE
    for node in imports(ENGINE / f"{module}.py"):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        assert not {"socket", "select", "threading", "subprocess", "os"} & {name.split(".")[0] for name in names}


@per_file
def test_a_package_file_is_empty(file: Path) -> None:
    if file.name == "__init__.py":
        assert file.read_bytes() == b""


@per_file
def test_every_annotation_is_read_late(file: Path) -> None:
    """Without it the newer spellings of types would be evaluated on Python 3.10."""
    if file.name != "__init__.py":
        imported = [
            node for node in parsed(file).body if isinstance(node, ast.ImportFrom) and node.module == "__future__"
        ]
        assert [name.name for node in imported for name in node.names] == ["annotations"]


@per_file
def test_the_face_is_not_known_to_the_engine(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for word in ("fail_json", "exit_json", "check_mode", "AnsibleModule"):
        assert word not in text, f"{file.name} speaks of {word}"


STATE = ENGINE / "state"
# what moves with the rows is written in their own transaction
WRITER_OF_PROGRESS = ENGINE / "cdc" / "apply" / "progress.py"
OF_STATE_TABLES = re.compile(
    r"\b(?:FROM|INTO|UPDATE|JOIN|TABLE|ONLY|ANALYZE)\s+(?:[\w{}]*\.)?(" + "|".join(TABLE_NAMES) + r")\b"
)
UNMISTAKABLE = re.compile(r"cdc_progress|table_copy|copy_part|\bcdc_task\b")


def speaks_of_a_state_table(file: Path) -> list[str]:
    """The state tables that a file names in SQL, or asks a store for."""
    found = []
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += OF_STATE_TABLES.findall(node.value)
        if isinstance(node, ast.Call) and ast.unparse(node.func).rsplit(".", maxsplit=1)[-1] == "table":
            found += [word.value for word in node.args if isinstance(word, ast.Constant) and word.value in TABLE_NAMES]
    return found


@per_file
def test_the_state_tables_have_one_owner(file: Path) -> None:
    """Every other room asks a reader in state/ for what a migration remembers."""
    if STATE in file.parents:
        return
    text = file.read_text(encoding="utf-8")
    assert "heartbeat_table(" not in text
    assert not re.search(r"pg_\w*advisory_\w*lock", text), f"{file.name} takes an advisory lock past state/advisory.py"
    if file != WRITER_OF_PROGRESS:
        assert speaks_of_a_state_table(file) == []
        assert not UNMISTAKABLE.search(text), f"{file.name} names a state table"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('store.table("event")', ["event"]),
        ('sql.SQL("SELECT 1 FROM {s}.migration WHERE name = %s")', ["migration"]),
        ('"UPDATE {schema}.cdc_progress SET state = 1"', ["cdc_progress"]),
        ('"INSERT INTO causeway.large_object VALUES (1)"', ["large_object"]),
        ('"SELECT a FROM {} WHERE migration = %s"', []),
        ('"SELECT migration FROM pg_catalog.pg_class"', []),
        ('explain_errors("reading from event", name)', []),
    ],
)
def test_a_state_table_is_recognized(tmp_path: Path, line: str, named: list[str]) -> None:
    file = tmp_path / "some.py"
    file.write_text(line, encoding="utf-8")
    assert speaks_of_a_state_table(file) == named


def imports(file: Path) -> list[ast.Import | ast.ImportFrom]:
    """The imports that are carried out: those for the type checker alone are not."""
    found: list[ast.Import | ast.ImportFrom] = []
    waiting: list[ast.AST] = [parsed(file)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in (
            "TYPE_CHECKING",
            "typing.TYPE_CHECKING",
            "t.TYPE_CHECKING",
        ):
            waiting += node.orelse
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.append(node)
        waiting += ast.iter_child_nodes(node)
    return found


@per_file
def test_imports_are_relative_or_standard_or_the_file_is_a_door(file: Path) -> None:
    for node in imports(file):
        if isinstance(node, ast.ImportFrom) and node.level:
            depth = len(file.relative_to(ENGINE).parts)
            assert node.level <= depth, f"{file.name}:{node.lineno} reaches out of the engine"
            continue
        for name in [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]:
            package = name.split(".")[0]
            if package == DOORS.get(file.name):
                continue
            assert package in sys.stdlib_module_names, f"{file.name}:{node.lineno} imports {name}"
            assert package not in TOO_NEW, f"{file.name}:{node.lineno} imports {name}"


@per_file
def test_what_ansible_test_forbids_is_not_there(file: Path) -> None:
    """ansible-test says the same, minutes later."""
    for node in ast.walk(parsed(file)):
        assert not isinstance(node, ast.Assert), f"{file.name}:{node.lineno}"
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("print", "sys.exit", "os.system"), f"{file.name}:{node.lineno}"


_IMPORT_ALL = """
import importlib, importlib.abc, sys

blocked = {blocked!r}
names = {names!r}

class Wall(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(name == wall or name.startswith(wall + ".") for wall in blocked):
            raise ModuleNotFoundError("blocked: " + name, name=name)
        return None

sys.meta_path.insert(0, Wall())
for name in names:
    importlib.import_module(name)
there = sorted(name for name in sys.modules if name.split(".")[0] in blocked)
print(len(names), "imported,", there)
"""


def test_every_file_imports_without_ansible_and_without_the_libraries() -> None:
    """The engine is imported as a package of its own, as the worker imports it: nothing above it can be reached."""
    names = []
    for file in FILES:
        parts = ("_engine", *file.relative_to(ENGINE).with_suffix("").parts)
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    program = _IMPORT_ALL.format(blocked=BLOCKED, names=names)
    ran = subprocess.run(
        [sys.executable, "-B", "-c", program],
        env={"PYTHONPATH": str(MODULE_UTILS), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == f"{len(names)} imported, []"


@per_file
def test_the_header_names_the_licence(file: Path) -> None:
    if file.name != "__init__.py":
        with tokenize.open(file) as stream:
            assert "# SPDX-License-Identifier: GPL-3.0-or-later\n" in [stream.readline() for dummy in range(5)]


def test_a_snapshot_is_imported_by_one_statement_and_only_where_the_probe_was_asked() -> None:
    """Whoever writes another SET TRANSACTION SNAPSHOT forgets that a server may let it succeed and show another past."""
    texts = {name_of(file): file.read_text(encoding="utf-8") for file in FILES}
    stated = re.compile(r"SET TRANSACTION SNAPSHOT ['{%]", re.IGNORECASE)
    assert [name for name, text in texts.items() if stated.search(text)] == ["capture/snapshot_import"]
    importers = {name for name, text in texts.items() if "import_statement(" in text}
    assert importers == {
        *("capture/snapshot_import", "copy/transfer/source_reader"),
        *("large_objects/copy", "schema/schema_fingerprint"),
    }
    assert [name for name, text in texts.items() if "--snapshot=" in text] == ["schema/pg_dump"]
    assert [name for name, text in texts.items() if "pg_export_snapshot()" in text] == ["capture/snapshot"]
