# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  worker_home:
    description:
      - Folder on the worker host that holds the unpacked engine and, for each migration, the worker's configuration
        and log. Created by the role P(causeway.postgresql.worker#role).
    type: path
    required: true
"""
