# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only crossing between Ansible and the engine: arguments in, a Plan out, an error as a failed task.

Check mode is read here, once. The engine gets plain values and a way to run programs, never the module.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ._arguments import migration_arguments
from ._engine.errors import EngineError
from ._engine.migration import Migration
from ._engine.plan import Change, Plan
from ._engine.postgres.silence import explaining, watching
from ._engine.runner import Outcome
from ._engine.spec import spec_of
from ._engine.writers.left_fence import plan_lifted
from ._ranges import require_ranges

STATEMENTS_SHOWN = 500
"""The most statements that are returned: a plan over thousands of tables has too many to read. The total counts all."""


class _ModuleRunner:
    """The engine's Runner over C(run_command), which cleans up; sanity forbids subprocess in module_utils."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module

    def run(self, argv: Sequence[str], environment: Mapping[str, str]) -> Outcome:
        """Run one program; its environment is added to ours."""
        rc, out, err = self._module.run_command(list(argv), environ_update=dict(environment), use_unsafe_shell=False)
        return Outcome(rc, out, err)

    def find(self, program: str, folder: str) -> str:
        """Return the path of a program in C(folder) or on PATH; empty where it is missing."""
        return str(self._module.get_bin_path(program, False, [folder] if folder else []) or "")


# Parameters of libpq whose values are secrets; the values of the others may be seen
_SECRETS = frozenset({"password", "sslpassword", "oauth_client_secret"})

Planner = Callable[[Migration, Mapping[str, Any], _ModuleRunner], Plan]


@dataclass(frozen=True, slots=True)
class Purpose:
    """How a call treats its migration, beyond what its plan says.

    C(writes) takes the migration's lock, from the first look on. C(registers) makes the state tables and the migration's
    row before the first change. C(until_opened) does nothing once the destination was opened, unless the migration is to
    begin again (C(restart)). C(lifts) lifts a fence that a dead cutover has left at the source, before it plans.
    """

    writes: bool = True
    until_opened: bool = True
    registers: bool = True
    lifts: bool = True


MAKES = Purpose()
LOOKS = Purpose(writes=False, until_opened=False, lifts=False)
TAKES_BACK = Purpose(until_opened=False, registers=False)


def made_or_taken_back(options: Mapping[str, Any]) -> Purpose:
    """Return the purpose of a module whose C(state) is C(absent), or anything else."""
    return TAKES_BACK if options["state"] == "absent" else MAKES


def run(
    arguments: Mapping[str, Any],
    planner: Planner,
    purpose: Callable[[Mapping[str, Any]], Purpose] = lambda dummy: MAKES,
) -> None:
    """Run one module: read the arguments, make the plan, apply it unless this is a dry run, and exit.

    C(purpose) is asked with the options, before anything is looked at.
    """
    module = AnsibleModule(argument_spec={**migration_arguments(), **arguments}, supports_check_mode=True)
    module.no_log_values -= _harmless(module.params)
    params = {key: value for key, value in module.params.items() if value is not None}
    try:
        require_ranges(params)
        spec = spec_of(params)
        with watching(), explaining("working on migration", spec.name), Migration(spec) as migration:
            wanted = purpose(params)
            if wanted.writes and not module.check_mode:
                migration.lock()
            opened = migration.opened_at() if wanted.until_opened else ""
            if opened and migration.spec.restart:
                migration.require_released(opened)
            elif opened:
                module.exit_json(
                    changed=False,
                    opened_at=opened,
                    statements=[],
                    statements_total=0,
                    msg=_settled(migration.name, opened),
                )
            lifted = _lift(migration, wanted, check=module.check_mode)
            plan = lifted.then(planner(migration, params, _ModuleRunner(module)))
            answer = _answer(plan, migration, registers=wanted.registers)
            if not module.check_mode:
                if plan.changed:
                    if wanted.registers:
                        migration.ensure_registered()
                    answer.update(plan.apply())
                answer.update(plan.record())
    except EngineError as exc:
        module.fail_json(**{**exc.result, "msg": str(exc), "error": dict(exc.as_result())})
    for warning in dict.fromkeys([*plan.warnings, *answer.pop("warnings", ()), *_left_behind(answer)]):
        module.warn(warning)
    module.exit_json(**answer)


def _lift(migration: Migration, wanted: Purpose, *, check: bool) -> Plan:
    """Lift a fence that nobody guards, unless this is a dry run; return what that changes, done already."""
    lifted = plan_lifted(migration) if wanted.lifts else Plan()
    if lifted.changed and not check:
        if not wanted.writes:
            migration.lock(shared=True)  # a cutover that runs holds it alone
        lifted.carry_out()
    return replace(lifted, apply=dict)


def _harmless(params: Mapping[str, Any]) -> set[str]:
    """Return the values that C(no_log) masks although they are no secrets: C(connect_timeout: 2) would mask every 2.

    C(connect_params) as a whole are C(no_log), since they may hold a password and Ansible logs arguments.
    """
    seen: set[str] = set()
    secret: set[str] = set()
    for endpoint in (params.get("source") or {}, params.get("destination") or {}):
        secret.add(str(endpoint.get("login_password")))
        for key, value in (endpoint.get("connect_params") or {}).items():
            (secret if key in _SECRETS else seen).add(str(value))
    return seen - secret


def _settled(name: str, opened: str) -> str:
    return (
        f"Migration {name} was cut over at {opened}: the destination is in production and nothing was changed. "
        "To migrate into it again, set causeway_restart: true."
    )


def _answer(plan: Plan, migration: Migration, *, registers: bool) -> dict[str, Any]:
    """Return the plan as return values: changed, diff and statements come from it alone."""
    registration = migration.registration() if plan.changes and registers else ()
    changes: tuple[Change, ...] = registration + plan.changes
    statements = [{"end": change.place, "sql": text} for change in changes for text in change.statements]
    return {
        "changed": plan.changed,
        # in a dry run on a fresh pair each phase would create the state tables: their columns are in the statements
        "diff": _diff(registration, brief=True) + _diff(plan.changes),
        "statements": statements[:STATEMENTS_SHOWN],
        "statements_total": len(statements),
        "notes": list(plan.notes),
        **plan.result,
    }


def _diff(changes: Sequence[Change], *, brief: bool = False) -> list[dict[str, str]]:
    """Return what C(--diff) prints: each difference, and under it its statements, as many as are returned."""
    room = STATEMENTS_SHOWN
    entries = []
    for change in changes:
        header = f"{change.what} ({change.place})"
        shown = change.statements[:room]
        room -= len(shown)
        lines = [_brief(text) if brief else _statement(text) for text in shown]
        entries.append(
            {
                "before_header": header,
                "after_header": header,
                "before": _lines(change.before),
                "after": _lines(change.after),
                "prepared": "".join(f"{line}\n" for line in lines) + ("\n" if lines else ""),
            }
        )
    return entries


def _statement(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines())


def _brief(text: str) -> str:
    first, dummy, rest = text.strip().partition("\n")
    return f"    {first}{' … )' if rest else ''}"


def _lines(value: object) -> str:
    """Return a value as lines of text: Ansible would escape a dict's letters outside ASCII, and fail on a list."""
    if value is None:
        return ""
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, ensure_ascii=False, indent=4, default=str) + "\n"
    return f"{value}\n"


def _left_behind(answer: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each thing that could not be undone: only these warnings show it to the operator."""
    return [
        f"left at the {one['end']}: {one['what']}, since {one['why']}. By hand: {' '.join(one['statements'])}"
        for one in answer.get("left_behind") or ()
    ]
