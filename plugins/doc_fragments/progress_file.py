# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  progress_file:
    description:
      - File on the worker host to which a line of JSON is appended when the module begins to wait for a lock at the source,
        with the sessions that hold it. The controller shows the lines where it is the worker host itself.
    type: path
"""
