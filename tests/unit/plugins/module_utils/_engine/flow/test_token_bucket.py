# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a token bucket makes an amount wait. At 20 a second the bucket holds 4."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.flow.token_bucket import TokenBucket


def full() -> TokenBucket:
    """Return a bucket of 4 that has been full since long before 100."""
    return TokenBucket(20, 0.0)


def test_it_begins_empty() -> None:
    bucket = TokenBucket(20, 7.0)
    assert bucket.wait(1, 7.0) == pytest.approx(0.05)
    assert bucket.wait(0, 7.0) == 0.0


def test_it_fills_by_its_rate_and_no_further_than_a_fifth_of_it() -> None:
    assert TokenBucket(20, 0.0).wait(3, 0.1) == pytest.approx(0.05)
    bucket = full()
    assert bucket.wait(4, 100.0) == 0.0
    bucket.take(4, 100.0)
    assert bucket.wait(1, 100.0) == pytest.approx(0.05)


def test_a_bucket_of_a_small_rate_holds_one() -> None:
    assert TokenBucket(1, 0.0).wait(1, 0.0) == 1.0
    assert TokenBucket(0.5, 0.0).wait(1, 0.0) == 2.0


def test_more_than_it_holds_waits_until_it_is_full() -> None:
    assert TokenBucket(20, 0.0).wait(1000, 0.0) == pytest.approx(0.2)
    assert full().wait(1000, 100.0) == 0.0


def test_nothing_passes_until_a_debt_is_paid() -> None:
    bucket = full()
    bucket.take(1000, 100.0)
    assert bucket.wait(0, 100.0) == pytest.approx(49.8)
    assert bucket.wait(1, 100.0) == pytest.approx(49.85)
    assert bucket.wait(1, 140.0) == pytest.approx(9.85)
    assert bucket.wait(1, 150.0) == 0.0


def test_a_lower_rate_takes_away_what_the_smaller_bucket_does_not_hold() -> None:
    bucket = full()
    bucket.change(5, 100.0)
    assert bucket.wait(1, 100.0) == 0.0
    bucket.take(1, 100.0)
    assert bucket.wait(1, 100.0) == pytest.approx(0.2)


def test_a_change_of_the_rate_counts_from_then_on() -> None:
    bucket = TokenBucket(20, 0.0)
    bucket.change(10, 0.05)  # one token until here
    assert bucket.wait(2, 0.05) == pytest.approx(0.1)


def test_a_debt_outlives_a_change_of_the_rate() -> None:
    bucket = full()
    bucket.take(14, 100.0)
    bucket.change(5, 100.0)
    assert bucket.wait(1, 100.0) == pytest.approx(2.2)


def test_a_clock_that_goes_back_takes_nothing() -> None:
    assert TokenBucket(20, 10.0).wait(1, 5.0) == pytest.approx(0.05)
