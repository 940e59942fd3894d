# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  client_bin:
    description:
      - Folder of C(pg_dump) and C(pg_restore) on the worker host, of at least the source's version; to compare definitions,
        of the newer server's. If omitted, they are looked up on C(PATH).
    type: path
"""
