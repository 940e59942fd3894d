# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan comes to for Ansible: a diff that its callbacks can print, with the statements under each difference."""

from __future__ import annotations

from ansible.plugins.callback import CallbackBase

from ansible_collections.causeway.postgresql.plugins.module_utils import _module
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.plan import Change, Leftover

IDENTITY = Change(
    "source", 'identity of "Ümlaut"', "DEFAULT", "FULL", ('ALTER TABLE ONLY "Ümlaut"\n  REPLICA IDENTITY FULL',)
)
PUBLICATION = Change("source", "publication p", None, {"tables": ["Ümlaut"]}, ())
TABLES = Change("destination", "tables", ["a"], ["a", "b"], ())


def test_diff_shows_every_difference_and_its_statements() -> None:
    printed = CallbackBase()._get_diff(_module._diff([IDENTITY, PUBLICATION, TABLES]))
    assert '--- before: identity of "Ümlaut" (source)\n' in printed
    assert '-DEFAULT\n+FULL\n\n    ALTER TABLE ONLY "Ümlaut"\n      REPLICA IDENTITY FULL\n' in printed
    assert '+        "Ümlaut"\n' in printed
    assert '+    "b"\n' in printed


def test_state_tables_are_shown_in_brief() -> None:
    printed = _module._diff(
        [Change("destination", "state", None, "tables", ("CREATE TABLE t (\n    a int)",))], brief=True
    )
    assert printed[0]["prepared"] == "    CREATE TABLE t ( … )\n\n"


def test_diff_shows_as_many_statements_as_are_returned() -> None:
    many = Change("source", "much", None, "done", tuple(f"SELECT {number}" for number in range(400)))
    printed = [entry["prepared"].count("SELECT") for entry in _module._diff([many, many, many])]
    assert printed == [400, _module.STATEMENTS_SHOWN - 400, 0]


def test_what_could_not_be_taken_back_is_said_in_the_engine_s_own_words() -> None:
    left = Leftover("source", "slot s", "somebody reads it", ("SELECT 1;", "SELECT 2;"))
    assert _module._left_behind({"left_behind": [left.as_result()]}) == [str(left)]
    assert _module._left_behind({}) == []
