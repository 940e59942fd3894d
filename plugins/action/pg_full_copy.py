# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.utils.display import Display

from ..plugin_utils._action import ShowingAction, shown
from ..plugin_utils._blocks import copied, progress
from ..plugin_utils._follow import Follower


class ActionModule(ShowingAction):
    blocks = (copied,)

    def _call(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Run the module, on this machine with its progress shown meanwhile; elsewhere the status playbook shows it."""
        args = self._task.args
        if not self._follows(args):
            return super()._call(task_vars)
        host = (task_vars or {}).get("inventory_hostname", "")

        def told(line: Mapping[str, Any]) -> None:
            shown(Display(), host, progress(line), C.COLOR_OK)

        with tempfile.TemporaryDirectory(prefix="causeway-progress-") as folder:
            path = Path(str(args.get("progress_file") or Path(folder) / "lines"))
            self._task.args = {**args, "progress_file": str(path)}
            try:
                with Follower(path, told):
                    return super()._call(task_vars)
            finally:
                self._task.args = args

    def _follows(self, args: Mapping[str, Any]) -> bool:
        try:
            interval = float(args.get("progress_interval") or 0)
        except ValueError:  # the module reports the error
            return False
        elsewhere = self._connection.transport != "local" or self._connection.become is not None
        return interval > 0 and not (elsewhere or self._task.no_log or self._task.async_val or self._task.check_mode)
