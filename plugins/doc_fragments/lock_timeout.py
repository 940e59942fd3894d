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
      - Seconds that a statement of the migration waits at most for a lock at the source, and so the longest time for which
        the application's statements can queue behind it. It waits that long only for transactions that are younger; an
        older one is looked for without a statement that others would queue behind. In all they queue for less than 1 % of
        the time.
    type: int
    default: 2
  lock_retries:
    description:
      - How long a change is tried whose lock is held, for each retry two times O(lock_timeout). The sessions that hold it are
        named at once, and in the error at the end.
    type: int
    default: 60
"""
