# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the package C(local_clusters), whose files come on standard input as JSON, C({name: source}).

The role hands this to C(python -c) with the request as argument, so that no file is written on the host, not even for
a moment.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import runpy
import sys
from collections.abc import Mapping
from typing import Any

PACKAGE = "local_clusters"


class Sources(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and loads the modules of the package among the files that came."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._modules = {f"{PACKAGE}.{name.removesuffix('.py')}": source for name, source in files.items()}
        self._modules[PACKAGE] = self._modules.pop(f"{PACKAGE}.__init__")

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module of the package; None for any other."""
        return importlib.util.spec_from_loader(fullname, self) if fullname in self._modules else None

    def is_package(self, fullname: str) -> bool:
        """Return whether this is the package itself; there is no package inside it."""
        return fullname == PACKAGE

    def get_source(self, fullname: str) -> str:
        """Return the source of a module."""
        return self._modules[fullname]


sys.meta_path.insert(0, Sources(json.load(sys.stdin.buffer)))
runpy.run_module(PACKAGE, run_name="__main__", alter_sys=True)
