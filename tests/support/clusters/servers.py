# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program of the role C(local_clusters) as a module, for everything here that needs servers."""

from __future__ import annotations

import importlib.util
import pathlib
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[3]


def _load() -> Any:
    path = ROOT / "roles" / "local_clusters" / "files" / "local_clusters.py"
    spec = importlib.util.spec_from_file_location("local_clusters", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["local_clusters"] = module
    spec.loader.exec_module(module)
    return module


local_clusters = _load()
