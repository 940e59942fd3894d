# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's Runner over subprocess, for tests that call the engine in their own process."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.runner import Outcome


class Programs:
    """Runs client programs as a module does."""

    def run(self, argv: Sequence[str], environment: Mapping[str, str]) -> Outcome:
        done = subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
        return Outcome(done.returncode, done.stdout, done.stderr)

    def find(self, program: str, folder: str) -> str:
        return shutil.which(program, path=folder or None) or ""
