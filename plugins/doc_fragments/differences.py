# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  ignore_differences:
    description:
      - Differences between the definitions of both ends that are accepted, each as the comparison prints it, its id, a blank
        and the object, such as C(definition_changed_at_source view shop.totals).
    type: list
    elements: str
    default: []
"""
