# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many examples the property tests try: a few hundred in `make unit`, 40 000 in `make fuzz`."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large)

# its folder belongs beside the other caches, not into the root
set_hypothesis_home_dir(str(Path(__file__).parents[5] / ".cache" / "hypothesis"))
settings.register_profile("quick", max_examples=250, deadline=None, suppress_health_check=QUIET, derandomize=True)
settings.register_profile("fuzz", max_examples=40_000, deadline=None, suppress_health_check=QUIET)
settings.load_profile("fuzz" if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else "quick")
