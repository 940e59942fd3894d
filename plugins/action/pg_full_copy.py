# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..plugin_utils._action import FollowingAction
from ..plugin_utils._blocks.full_copy import copied, progress


class ActionModule(FollowingAction):
    blocks = (copied,)

    def line(self, told: Mapping[str, Any]) -> list[str]:
        return progress(told)

    def _follows(self, args: Mapping[str, Any]) -> bool:
        try:
            interval = float(args.get("progress_interval") or 0)
        except ValueError:  # the module reports it
            return False
        return interval > 0 and super()._follows(args)
