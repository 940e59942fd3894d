# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How hard property tests look: always the same examples in `make test`, many new ones in `make fuzz`.

A property test that gives its own `max_examples` does not get more of them from `make fuzz`; multiply
`settings().max_examples` instead of naming a number.
"""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, configuration, settings
from hypothesis.database import DirectoryBasedExampleDatabase

_HOME = Path(__file__).resolve().parents[2] / ".cache" / "hypothesis"

configuration.set_hypothesis_home_dir(_HOME)
settings.register_profile(
    "test", max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "fuzz",
    max_examples=5_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
    database=DirectoryBasedExampleDatabase(_HOME / "examples"),
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))
