# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine folder as one archive, the same bytes for the same files, so that its hash can be its name."""

from __future__ import annotations

DOCUMENTATION = r"""
name: engine_bundle
author: Causeway contributors (@causeway)
short_description: The migration engine as one deterministic archive
version_added: 0.1.0
description:
  - Packs the engine that the modules of this collection use into a zip archive on the controller, for the CDC worker
    on the worker host.
  - The archive depends on nothing but the files in it, so its SHA-256 names the engine.
options: {}
"""

EXAMPLES = r"""
- name: Carry the engine to the worker host
  vars:
    engine: "{{ lookup('causeway.postgresql.engine_bundle') }}"
  ansible.builtin.copy:
    src: "{{ engine.path }}"
    dest: "/opt/causeway/{{ engine.sha256 }}.zip"
    mode: "0644"
"""

RETURN = r"""
_raw:
  description: One dictionary with the archive's C(path) on the controller and its C(sha256).
  type: list
  elements: dict
"""

import hashlib
import io
import os
import pathlib
import tempfile
import zipfile
from typing import Any

from ansible import constants
from ansible.plugins.lookup import LookupBase

ENGINE = pathlib.Path(__file__).resolve().parents[1] / "module_utils" / "_engine"

_BEGINNING = (1980, 1, 1, 0, 0, 0)
"""The earliest date that a zip archive can carry: mtimes differ from checkout to checkout."""


def pack(folder: pathlib.Path) -> bytes:
    """All Python files below C(folder) as a zip archive whose one top folder is C(folder)'s name.

    Names are sorted, dates and modes fixed, and nothing is compressed: zlib's output differs between its versions.
    """
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as bundle:
        for path in sorted(folder.rglob("*.py")):
            entry = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), date_time=_BEGINNING)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # Unix, wherever the controller runs
            bundle.writestr(entry, path.read_bytes())
    return archive.getvalue()


class LookupModule(LookupBase):
    """The face of C(pack)."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, str]]:
        """Write the archive below Ansible's temporary folder, which goes when the run ends."""
        self.set_options(var_options=variables, direct=kwargs)
        data = pack(ENGINE)
        digest = hashlib.sha256(data).hexdigest()
        path = pathlib.Path(constants.DEFAULT_LOCAL_TMP) / f"causeway-engine-{digest}.zip"
        if not path.exists():
            # Several hosts ask at once: whoever renames last leaves the same bytes.
            handle, partial = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            pathlib.Path(partial).replace(path)
        return [{"path": str(path), "sha256": digest}]
