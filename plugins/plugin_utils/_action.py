# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of every module: run it as Ansible would, then show its result to the operator.

It is shown through Display and on standard error: a C(msg) prints line ends as C(\\n), and what callbacks write to
standard output as JSON stays parseable. The result itself is returned unchanged.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ._blocks.outcome import failure, notes
from ._follow import Follower

Block = Callable[[Mapping[str, Any], int], list[str]]

_WIDEST = 160


class ShowingAction(ActionBase):
    """The base of the collection's action plugins; each names the blocks that show its module's result."""

    blocks: Sequence[Block] = ()

    _supports_async = True
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module of the same name, show its result (nothing under C(no_log)), and return it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        result.update(self._call(task_vars))
        if not (self._task.no_log or result.get("_ansible_no_log")):
            self._show(result, (task_vars or {}).get("inventory_hostname", ""))
        return result

    def _call(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Run the module and return its result."""
        answer: dict[str, Any] = self._execute_module(task_vars=task_vars, wrap_async=self._task.async_val)
        return answer

    def _show(self, result: Mapping[str, Any], host: str) -> None:
        display = Display()
        width = min(display.columns, _WIDEST)  # at least 79, which is also the width of a pipe
        failed = bool(result.get("failed"))
        for block in self.blocks:
            shown(display, host, block(result, width), C.COLOR_WARN if failed else C.COLOR_OK)
        shown(display, host, notes(result, width), C.COLOR_OK)
        if failed:
            lines = failure(result, width, module=self._task.action.rpartition(".")[2], host=host)
            shown(display, host, lines, C.COLOR_ERROR)


class FollowingAction(ShowingAction):
    """The base of those whose module writes lines of JSON to its C(progress_file): they are shown while it runs, on this
    machine only; elsewhere the status playbook shows the same."""

    def line(self, told: Mapping[str, Any]) -> list[str]:
        """Return what is shown of one line of the file."""
        raise NotImplementedError

    def _call(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        args = self._task.args
        if not self._follows(args):
            return super()._call(task_vars)
        host = (task_vars or {}).get("inventory_hostname", "")

        def told(line: Mapping[str, Any]) -> None:
            shown(Display(), host, self.line(line), C.COLOR_OK)

        with tempfile.TemporaryDirectory(prefix="causeway-progress-") as folder:
            path = Path(str(args.get("progress_file") or Path(folder) / "lines"))
            self._task.args = {**args, "progress_file": str(path)}
            try:
                with Follower(path, told):
                    return super()._call(task_vars)
            finally:
                self._task.args = args

    def _follows(self, args: Mapping[str, Any]) -> bool:
        elsewhere = self._connection.transport != "local" or self._connection.become is not None
        return not (elsewhere or self._task.no_log or self._task.async_val or self._task.check_mode)


def shown(display: Any, host: str, lines: Sequence[str], color: str) -> None:
    """Display a block in one call: hosts run in parallel, and their lines must not mix."""
    if lines:
        display.display(f"[{host}] " + "\n".join(lines) + "\n", color=color, stderr=True)
