# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import SpecError
from ansible_collections.causeway.postgresql.plugins.module_utils._ranges import RANGES, require_ranges


@pytest.mark.parametrize("name", RANGES)
def test_the_ends_of_a_range_belong_to_it(name: str) -> None:
    least, most = RANGES[name]
    require_ranges({name: least, "other": -1})
    require_ranges({name: most})
    for wrong in (least - 1, most + 1):
        with pytest.raises(SpecError, match=f"{name}: {wrong} is out of range. Use {least} to {most}"):
            require_ranges({name: wrong})


def test_what_is_not_given_is_not_judged() -> None:
    require_ranges({})
