# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names fit into PostgreSQL's 63 bytes, and two migrations never share one."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine import names

LONGEST = "a" * 54
"""The longest name that is part of a slot's name as it is."""


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("shop_2", "shop_2"),
        ("", ""),
        ("Shop", "shop_d00aae6b"),
        ("my-shop", "my_shop_d703f44c"),
        ("größe", "gr__e_d353a267"),
        ('a"b', "a_b_39a01277"),
        ("a b", "a_b_c8687a08"),
        ("a" * 63, "a" * 63),
        ("a" * 64, "a" * 54 + "_ffe054fe"),
    ],
)
def test_a_slug_is_the_name_or_ends_in_its_hash(name: str, plain: str) -> None:
    assert names.slug(name) == plain


def test_a_slug_is_as_short_as_it_is_wanted() -> None:
    assert names.slug("x" * 49, 49) == "x" * 49
    assert names.slug("x" * 49, 48) == "x" * 39 + "_55bb9823"
    assert names.slug("x" * 49, 9) == "_55bb9823"


def test_a_slot_and_a_publication_have_a_prefix_and_at_most_63_bytes() -> None:
    assert names.slot_name("shop") == "dts_sync_shop"
    assert names.slot_name(LONGEST) == "dts_sync_" + LONGEST
    assert names.slot_name(LONGEST + "a") == "dts_sync_" + "a" * 45 + "_9f4390f8"
    assert names.publication_name("shop") == "causeway_shop"
    assert names.publication_name(LONGEST) == "causeway_" + LONGEST
    assert names.publication_name(LONGEST + "a") == "causeway_" + "a" * 45 + "_9f4390f8"


def test_the_slot_of_a_run_names_run_and_ordinal_however_long_the_name() -> None:
    assert names.run_slot_name("shop", 3) == "dts_sync_shop_r3_0"
    assert names.run_slot_name(LONGEST, 12, 1) == "dts_sync_" + "a" * 39 + "_a3f01b69_r12_1"
    assert len(names.run_slot_name(LONGEST, 12, 1)) == 63


def test_a_folder_has_at_most_48_bytes() -> None:
    assert names.folder_name("a" * 48) == "a" * 48
    assert names.folder_name("x" * 49) == "x" * 39 + "_55bb9823"


@pytest.mark.parametrize(
    ("name", "purpose", "key"),
    [
        ("shop", "run", 529567790184360560),
        ("shop", "worker", -4375059822581558933),
        ("größe", "run", -679980224216070263),
    ],
)
def test_a_lock_key_never_changes(name: str, purpose: str, key: int) -> None:
    """Another release of the collection must find the same lock taken."""
    assert names.lock_key(name, purpose) == key


@pytest.mark.parametrize(
    ("key", "halves"),
    [
        (0, (0, 0)),
        (0x1_0000_0002, (1, 2)),
        (-1, (0xFFFFFFFF, 0xFFFFFFFF)),
        (-(2**63), (0x80000000, 0)),
        (2**63 - 1, (0x7FFFFFFF, 0xFFFFFFFF)),
    ],
)
def test_pg_locks_shows_the_halves_of_a_key_without_a_sign(key: int, halves: tuple[int, int]) -> None:
    assert names.lock_halves(key) == halves
