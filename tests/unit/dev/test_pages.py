# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dev import pages


def test_the_pages_are_what_modules_and_roles_say() -> None:
    stale = [str(page.relative_to(pages.ROOT)) for page in pages.differing(pages.make())]
    assert not stale, "`make pages` rewrites them"


def test_markup_becomes_markdown() -> None:
    said = "C(a\\)b) O(state=present) B(now) L(page, https://e.org/x) M(causeway.postgresql.pg_cutover) M(a.b.c)"
    assert pages.markdown(said) == (
        "`a)b` `state=present` **now** [page](https://e.org/x) [pg_cutover](../modules/pg_cutover.md) `a.b.c`"
    )


def test_an_option_of_another_plugin_names_the_plugin() -> None:
    assert pages.markdown("O(a.b.c#module:state)") == "`a.b.c: state`"


def test_required_options_stand_first_and_suboptions_below_theirs() -> None:
    said = {
        "options": {
            "main": {
                "options": {
                    "a": {"type": "dict", "description": "x", "options": {"host": {"description": "h"}}},
                    "b": {"type": "str", "description": "y", "required": True},
                }
            }
        }
    }["options"]["main"]
    page = pages.role_page("causeway.postgresql.r", {"entry_points": {"main": said}})
    assert page.index("`b`") < page.index("`a`") < page.index("  - `host`")
