# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.causeway.postgresql.plugins.module_utils._module import _harmless


def test_only_the_secrets_of_the_connection_parameters_stay_hidden() -> None:
    source = {"login_password": "one", "connect_params": {"connect_timeout": 2, "sslpassword": "two"}}
    destination = {"login_password": "prefer", "connect_params": {"gssencmode": "prefer", "target": "one"}}
    assert _harmless({"source": source, "destination": destination}) == {"2"}
    assert _harmless({"source": None}) == set()
