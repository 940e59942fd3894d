# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.advisory import (
    Holder,
    describe_holders,
)


def test_holders_are_described_as_far_as_the_account_sees_them() -> None:
    seen = Holder(7, "causeway module orders", "10.0.0.1", "2026-11-30 10:00:00+00")
    hidden = Holder(9, "", "local", "")
    assert describe_holders([seen, hidden]) == (
        "pid 7 (causeway module orders) from 10.0.0.1 since 2026-11-30 10:00:00+00; pid 9, of another account"
    )
    assert describe_holders([]) == ""
