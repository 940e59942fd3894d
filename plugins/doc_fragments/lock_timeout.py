# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  lock_timeout:
    description:
      - Seconds that a statement of the migration waits for a lock at the source, and so the longest time for which the
        application's statements can queue behind it.
    type: int
    default: 2
  lock_retries:
    description:
      - How often a statement that did not get its lock is retried, with a pause in between.
    type: int
    default: 60
"""
