# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture.under_lock import Patience
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.limits import Limits


def test_a_slot_is_waited_for_as_long_as_all_tries_of_a_lock_last() -> None:
    assert Limits(patience=Patience(2.0, 60)).slot_patience == 120
    assert Limits(patience=Patience(2.0, 0)).slot_patience == 2, "the first try counts"
