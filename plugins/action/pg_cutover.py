# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ..plugin_utils._action import ShowingAction
from ..plugin_utils._blocks.certificate import certificate
from ..plugin_utils._blocks.differences import differences


class ActionModule(ShowingAction):
    blocks = (certificate, differences)
