# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the pages against the code: options of modules, fragments and argument pieces, defaults of roles, error codes."""

from __future__ import annotations

import importlib
import pathlib
import pkgutil
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from ansible.parsing.plugin_docs import read_docstring

from ansible_collections.causeway.postgresql.plugins.module_utils import _arguments, _engine
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import EngineError

COLLECTION = "ansible_collections.causeway.postgresql.plugins"
ROOT = pathlib.Path(__file__).resolve().parents[3]
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("pg_*.py"))
COMPARED = ("type", "elements", "required", "default", "choices")


def documented(name: str) -> dict[str, Any]:
    """The options of a module's page, its fragments merged in; an option that two of them describe is an error."""
    path = ROOT / "plugins" / "modules" / f"{name}.py"
    page = read_docstring(str(path), verbose=False)["doc"]
    options = dict(page.get("options") or {})
    for fragment in page.get("extends_documentation_fragment", []):
        source = importlib.import_module(f"{COLLECTION}.doc_fragments.{fragment.rsplit('.', 1)[-1]}")
        more = yaml.safe_load(source.ModuleDocFragment.DOCUMENTATION).get("options", {})
        assert not options.keys() & more.keys(), f"{name}: {options.keys() & more.keys()} are described twice"
        options.update(more)
    return options


def taken(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The argument spec that a module hands to the crossing, with what the crossing adds."""
    module = importlib.import_module(f"{COLLECTION}.modules.{name}")
    seen: list[Mapping[str, Any]] = []
    monkeypatch.setattr(module, "run", lambda arguments, *args, **kwargs: seen.append(arguments))
    module.main()
    assert len(seen) == 1, "a module is arguments, one call, one exit"
    return {**_arguments.migration_arguments(), **seen[0]}


def compare(path: str, page: Mapping[str, Any], spec: Mapping[str, Any], inner: str) -> list[str]:
    """Every difference between a page and a spec, down to the suboptions."""
    wrong = [f"{path}{option}: only documented" for option in page.keys() - spec.keys()]
    wrong += [f"{path}{option}: not documented" for option in spec.keys() - page.keys()]
    for option in page.keys() & spec.keys():
        said, does = page[option], spec[option]
        for word in COMPARED:
            defaults = {"type": "str", "required": False}
            if said.get(word, defaults.get(word)) != does.get(word, defaults.get(word)):
                wrong.append(f"{path}{option}: {word} is {said.get(word)!r} on the page, {does.get(word)!r} in code")
        wrong += compare(f"{path}{option}.", said.get(inner) or {}, does.get("options") or {}, inner)
    return wrong


def test_all_modules_of_the_design_are_here() -> None:
    assert len(MODULES) == 12


@pytest.mark.parametrize("name", MODULES)
def test_page_and_argument_spec_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compare("", documented(name), taken(name, monkeypatch), "suboptions") == []


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_in_the_action_group(name: str) -> None:
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())
    members = [entry for entry in runtime["action_groups"]["migration"] if isinstance(entry, str)]
    assert name in [member.rsplit(".", 1)[-1] for member in members]


@pytest.mark.parametrize("name", MODULES)
def test_secrets_are_not_logged(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = taken(name, monkeypatch)
    for end in ("source", "destination"):
        assert spec[end]["options"]["login_password"]["no_log"] is True
        assert spec[end]["options"]["connect_params"]["no_log"] is True


ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


@pytest.mark.parametrize("role", ROLES)
def test_every_default_of_a_role_is_documented_once(role: str) -> None:
    defaults = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text()) or {}
    specs = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"].get("options") or {}
    assert defaults.keys() <= options.keys(), "a default that no page describes"
    optional = {name for name, option in options.items() if not option.get("required")}
    assert optional <= defaults.keys(), "an optional variable without a default"
    for name in optional:
        said = options[name].get("default")
        if not (isinstance(said, str) and "{{" in said) and said is not None:
            assert said == defaults[name], f"{name}: the page says {said!r}, the role {defaults[name]!r}"


def test_no_variable_is_documented_by_two_roles() -> None:
    seen: dict[str, str] = {}
    for role in ROLES:
        specs = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())
        for name in specs["argument_specs"]["main"].get("options") or {}:
            assert name not in seen, f"{name} is documented by {seen[name]} and {role}"
            seen[name] = role


def test_the_page_on_polardb_names_variables_that_exist() -> None:
    known = {"causeway_copy_workers"}  # a group
    for role in ROLES:
        specs = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())
        for entry in specs["argument_specs"].values():
            known |= (entry.get("options") or {}).keys()
    named = set(re.findall(r"`(causeway_\w+)", (ROOT / "docs" / "polardb.md").read_text(encoding="utf-8")))
    assert {"causeway_name", "causeway_types", "causeway_objects"} <= named
    assert named <= known


def codes(error: type[EngineError]) -> set[str]:
    """Return the codes of an error class and of all its subclasses, those of the engine only."""
    own = {error.code} if error.__module__.startswith(f"{_engine.__name__}.") else set()
    return own.union(*map(codes, error.__subclasses__()))


def test_the_quickstart_lists_every_error_code_of_the_engine() -> None:
    for module in pkgutil.walk_packages(_engine.__path__, f"{_engine.__name__}."):
        importlib.import_module(module.name)
    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    rows = page.split("| `error.code` |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    listed = [code for row in rows for code in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(listed) == sorted(codes(EngineError)), "docs/quickstart.md, When something fails"
