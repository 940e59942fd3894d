# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After the release: nothing of the migration exists at either end but the migrated data."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Ask = Callable[[str, str], str]
ENDS = ("source", "destination")
LEFT = """
SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname = 'causeway'
UNION ALL SELECT 'publication ' || pubname FROM pg_publication
UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots
UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'identity of ' || oid::regclass FROM pg_class
    WHERE relnamespace = 'sales'::regnamespace AND relkind = 'r' AND relreplident <> 'd';
"""


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left(ask: Ask, end: str) -> None:
    assert ask(end, LEFT) == ""


def test_the_destination_keeps_its_rows_and_its_application(ask: Ask) -> None:
    rows = "SELECT count(*) FROM sales.customer;"
    assert ask("destination", rows) == ask("source", rows) == "2300"
    written = "BEGIN; UPDATE sales.customer SET since = since RETURNING 1; ROLLBACK;"
    assert ask("destination_app", written).count("1") == 2300
