# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict on large objects, from digests."""

from __future__ import annotations

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.large_objects.compare import ObjectVerdict


def test_equal_pieces_are_identical() -> None:
    verdict = ObjectVerdict()
    verdict.judge([1, 2], {1: [b"x"], 2: [b"a", b"b"]}, {1: [b"x"], 2: [b"a", b"b"]})
    assert verdict.identical
    assert verdict.as_result() == {
        "verdict": "identical", "objects": 2, "differing": 0, "missing": 0, "gone": 0, "find": "",
    }  # fmt: skip


def test_a_piece_more_or_less_or_in_another_order_differs() -> None:
    verdict = ObjectVerdict()
    verdict.judge([5, 6, 7], {5: [b"a"], 6: [b"a", b"b"], 7: [b"a"]}, {5: [b"a", b"b"], 6: [b"b", b"a"], 7: [b"a"]})
    assert verdict.differing == [5, 6] and not verdict.identical
    assert verdict.as_result()["find"] == "SELECT sha256(lo_get(5))"


def test_what_the_destination_lacks_is_missing_and_what_has_gone_meanwhile_says_nothing() -> None:
    verdict = ObjectVerdict()
    verdict.judge([1, 2], {1: [b"a"]}, {2: [b"a"]})
    verdict.judge([3], {3: [b"c"]}, {3: [b"c"]})
    assert (verdict.objects, verdict.missing, verdict.differing) == (3, [1], [])


def test_one_that_only_the_destination_has_from_us_is_a_difference() -> None:
    assert ObjectVerdict(gone=1).as_result()["verdict"] == "different"
