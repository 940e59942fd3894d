# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Ansible callback that writes the result of every task to the file CAUSEWAY_TASK_RESULTS, one JSON object a line."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "task_results"
    CALLBACK_NEEDS_ENABLED = True

    def _note(self, status: str, result: Any) -> None:
        # The names without an underscore came with ansible-core 2.19.
        host, task = getattr(result, "host", None) or result._host, getattr(result, "task", None) or result._task
        line = {
            "status": status,
            "host": host.get_name(),
            "task": task.get_name(),
            "action": task.action,
            "result": getattr(result, "result", None) or result._result,
        }
        with pathlib.Path(os.environ["CAUSEWAY_TASK_RESULTS"]).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        self._note("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._note("failed", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._note("skipped", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._note("unreachable", result)
