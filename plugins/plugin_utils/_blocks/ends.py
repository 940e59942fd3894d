# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers at both ends, as facts. Pure, as every file here: lines are a function of the result and the width.

A result of an older release, of check mode or of a failed task may lack any of its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Result = Mapping[str, Any]


def ends(result: Result) -> list[tuple[str, str]]:
    """Return a fact for each end: product, version and database, or why it was not reached."""
    return [(end, _server(result.get(f"{end}_server") or {})) for end in ("source", "destination")]


def _server(server: Result) -> str:
    if not server or server.get("reachable") is False:
        why = (server.get("error") or {}).get("why")
        return f"not reached: {why}" if why else "not reached"
    return f"{server.get('product')} {server.get('version')}, database {server.get('database')}"
