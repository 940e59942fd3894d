# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a page per module (docs/modules) and role (docs/roles), from the output of ansible-doc.

`python -m dev.pages` writes them, `--check` names those that differ. Runs in the environment of `make test`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .environment import ROOT
from .workspace import link_tree

NAMESPACE = "causeway.postgresql."
DOCS = ROOT / "docs"
# Ansible's markup; a backslash escapes a parenthesis or a comma inside
_MARKUP = re.compile(r"\b(RV|HORIZONTALLINE|[BICVOEUMPLR])\(((?:\\.|[^)\\])*)\)")
_MADE = "<!-- Made by `make pages` from the documentation of the {what} itself: change that, not this page. -->"


def _markup(match: re.Match[str]) -> str:
    kind, text = match.group(1), re.sub(r"\\(.)", r"\1", match.group(2))
    if kind == "B":
        return f"**{text}**"
    if kind == "I":
        return f"*{text}*"
    if kind == "U":
        return f"<{text}>"
    if kind in ("L", "R"):
        label, dummy, address = (part.strip() for part in text.partition(","))
        return f"[{label}]({address})" if kind == "L" else label
    if kind in ("M", "P"):
        name, dummy, plugin_type = text.partition("#")
        if name.startswith(NAMESPACE):
            short = name.removeprefix(NAMESPACE)
            return f"[{short}](../{'roles' if plugin_type == 'role' else 'modules'}/{short}.md)"
        return f"`{name}`"
    # an option or return value of another plugin: the plugin's name is said, its type is not
    if kind in ("O", "RV"):
        text = re.sub(r"^([\w.]+)#\w+:(?:\w+:)?", r"\1: ", text)
    return f"`{text}`"


def markdown(text: str | Sequence[str] | None) -> str:
    """One paragraph a string, joined by a blank in between."""
    parts = [text] if isinstance(text, str) else list(text or ())
    joined = " ".join(str(part).strip() for part in parts)
    return re.sub(r"HORIZONTALLINE", "", _MARKUP.sub(_markup, joined))


def paragraphs(text: str | Sequence[str] | None) -> str:
    parts = [text] if isinstance(text, str) else list(text or ())
    return "\n\n".join(markdown(part) for part in parts)


def _value(value: object) -> str:
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value, ensure_ascii=False)}`"


def _type(option: Mapping[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    return f"{kind} of {option['elements']}" if option.get("elements") else kind


def _options(options: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    indent = "  " * depth
    for name, option in sorted(options.items(), key=lambda item: (not item[1].get("required", False), item[0])):
        facts = [_type(option)]
        if option.get("required"):
            facts.append("**required**")
        if option.get("default") is not None:
            facts.append(f"default {_value(option['default'])}")
        yield f"{indent}- `{name}` ({', '.join(facts)})  "
        yield f"{indent}  {markdown(option.get('description'))}"
        choices = option.get("choices")
        if isinstance(choices, Mapping):
            yield f"{indent}  Choices:"
            yield from (f"{indent}  - {_value(choice)}: {markdown(said)}" for choice, said in choices.items())
        elif choices:
            yield f"{indent}  Choices: {', '.join(map(_value, choices))}."
        if option.get("aliases"):
            yield f"{indent}  Also written {', '.join(f'`{alias}`' for alias in option['aliases'])}."
        # a YAML anchor lets two options share their suboptions: each option lists them
        yield from _options(option.get("options") or option.get("suboptions") or {}, depth + 1)


def _returned(values: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    indent = "  " * depth
    for name, value in values.items():
        when = f", returned {value['returned']}" if value.get("returned") else ""
        yield f"{indent}- `{name}` ({_type(value)}{when})  "
        yield f"{indent}  {markdown(value.get('description'))}"
        yield from _returned(value.get("contains") or {}, depth + 1)


def module_page(name: str, said: Mapping[str, Any]) -> str:
    doc = said["doc"]
    lines = [_MADE.format(what="module"), "", f"# {name.removeprefix(NAMESPACE)}", ""]
    lines += [f"**{markdown(doc['short_description'])}**", "", paragraphs(doc["description"]), ""]
    for title, key in (("Requirements", "requirements"), ("Notes", "notes")):
        if doc.get(key):
            lines += [f"## {title}", "", *(f"- {markdown(entry)}" for entry in doc[key]), ""]
    lines += ["## Options", "", *_options(doc.get("options") or {}), ""]
    if doc.get("attributes"):
        lines += ["## Attributes", ""]
        for attribute, value in sorted(doc["attributes"].items()):
            more = f" {markdown(value['details'])}" if value.get("details") else ""
            lines.append(f"- `{attribute}`: **{value.get('support', 'none')}**. {markdown(value['description'])}{more}")
        lines.append("")
    if said.get("examples"):
        lines += ["## Examples", "", "```yaml", said["examples"].strip("\n"), "```", ""]
    returned = said.get("return")
    if returned:
        returned = yaml.safe_load(returned) if isinstance(returned, str) else returned
        lines += ["## Return values", "", *_returned(returned), ""]
    return _joined(lines)


def role_page(name: str, said: Mapping[str, Any]) -> str:
    short = name.removeprefix(NAMESPACE)
    lines = [_MADE.format(what="role"), "", f"# Role {short}", ""]
    for entry, spec in sorted(said["entry_points"].items(), key=lambda item: (item[0] != "main", item[0])):
        if entry != "main":
            lines += [f"## Entry point `{entry}`", ""]
        lines += [f"**{markdown(spec.get('short_description'))}**", "", paragraphs(spec.get("description")), ""]
        if spec.get("options"):
            lines += ["## Variables" if entry == "main" else "### Variables", "", *_options(spec["options"]), ""]
    return _joined(lines)


def _joined(lines: Sequence[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _ansible_doc(plugin_type: str, names: Sequence[str]) -> dict[str, Any]:
    if not names:
        return {}
    tree = str(link_tree())
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environ.update(ANSIBLE_COLLECTIONS_PATH=tree, LC_ALL="C.UTF-8", ANSIBLE_NOCOLOR="1")
    if "ANSIBLE_HOME" in os.environ:
        environ["ANSIBLE_HOME"] = os.environ["ANSIBLE_HOME"]
    program = str(Path(sys.executable).with_name("ansible-doc"))
    ran = subprocess.run(
        [program, "--type", plugin_type, "--json", *names], env=environ, capture_output=True, text=True, check=False
    )
    said: dict[str, Any] = json.loads(ran.stdout) if ran.stdout else {}
    missing = [name for name in names if name not in said]
    if ran.returncode or missing:
        raise SystemExit(f"ansible-doc has nothing for {', '.join(missing) or 'some of them'}:\n{ran.stderr}")
    return said


def make() -> dict[Path, str]:
    """Return every page that should exist, with its text."""
    modules = sorted(file.stem for file in (ROOT / "plugins" / "modules").glob("[!_]*.py"))
    roles = sorted(file.parents[1].name for file in (ROOT / "roles").glob("*/meta/argument_specs.yml"))
    made = {}
    for name, said in _ansible_doc("module", [NAMESPACE + module for module in modules]).items():
        made[DOCS / "modules" / f"{name.removeprefix(NAMESPACE)}.md"] = module_page(name, said)
    for name, said in _ansible_doc("role", [NAMESPACE + role for role in roles]).items():
        made[DOCS / "roles" / f"{name.removeprefix(NAMESPACE)}.md"] = role_page(name, said)
    return made


def standing() -> set[Path]:
    return {*(DOCS / "modules").glob("*.md"), *(DOCS / "roles").glob("*.md")}


def differing(made: Mapping[Path, str]) -> list[Path]:
    """Return the pages that are missing, that differ, or whose module or role no longer exists."""
    stale = [page for page, text in made.items() if not page.exists() or page.read_text(encoding="utf-8") != text]
    return sorted([*stale, *(standing() - set(made))])


def main(arguments: Sequence[str]) -> int:
    made = make()
    changes = differing(made)
    if "--check" in arguments:
        for page in changes:
            print(f"{page.relative_to(ROOT)} is not what its module or role says. `make pages` rewrites it.")
        return 1 if changes else 0
    for page in changes:
        if page in made:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(made[page], encoding="utf-8")
        else:
            page.unlink()
        print(f"{'wrote' if page in made else 'removed'} {page.relative_to(ROOT)}")
    print(f"{len(made)} pages, {len(changes)} changed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
