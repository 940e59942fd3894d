# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate of a cutover as lines."""

from __future__ import annotations

from ansible_collections.causeway.postgresql.plugins.plugin_utils._blocks.certificate import certificate


def test_the_certificate() -> None:
    proved = {
        "verdict": "identical",
        "opened_at": "2026-11-22T10:00:00.000+00:00",
        "pause_ms": 432,
        "tables": 12,
        "rows": 1_000_000,
        "sequences": 3,
        "fenced_roles": ["app", "jobs"],
        "marker": {"token": "3f", "position": "0/12"},
        "steps": [{"name": "fence", "seconds": 0.012}, {"name": "drain", "seconds": 1.2}],
    }
    assert certificate({"certificate": proved}, 100) == [
        "Certificate of the cutover, verdict identical",
        "  opened        2026-11-22T10:00:00.000+00:00",
        "  pause         432 ms",
        "  tables        12",
        "  rows          1 000 000",
        "  sequences     3",
        "  fenced roles  app, jobs",
        "  marker        3f at 0/12",
        "",
        "  step    time",
        "  fence  12 ms",
        "  drain  1.2 s",
    ]


def test_the_certificate_says_of_large_objects_what_was_not_proved() -> None:
    objects = {"objects": 3, "copied_at": "2026-11-22 09:00:00.123+00", "captured": False, "compared": False}
    lines = certificate({"certificate": {"verdict": "identical", "large_objects": objects}}, 100)
    assert lines[1] == "  large objects  3, as they were when copied (2026-11-22 09:00:00); not compared"


def test_a_certificate_says_who_can_still_write() -> None:
    writer = {"role": "mover", "verified": False, "writable": ["s.a", "s.b"]}
    lines = certificate({"certificate": {"verdict": "identical", "writer": writer}}, 100)
    assert lines[1] == "  still writes  mover can write to 2 tables of the destination"
    for harmless in ({**writer, "verified": True}, {**writer, "writable": []}, {}):
        shown = "\n".join(certificate({"certificate": {"verdict": "identical", "writer": harmless}}, 100))
        assert "still writes" not in shown


def test_a_certificate_without_a_comment_says_what_that_means() -> None:
    lines = "\n".join(certificate({"certificate": {"verdict": "identical", "comment": False}}, 100))
    assert "Only the owner of the destination database" in lines
    assert "note" not in "\n".join(certificate({"certificate": {"verdict": "identical", "comment": True}}, 100))


def test_a_certificate_names_the_differences_that_were_accepted() -> None:
    found = {
        "compared": 1200,
        "accepted": ["definition_changed_at_source view s.v"],
        "told": ["database_level setting x"],
    }
    lines = certificate({"certificate": {"verdict": "identical", "definitions": found}}, 160)
    assert lines[1] == (
        "  definitions  1 200 facts compared; accepted: definition_changed_at_source view s.v;"
        " 1 differences told: database_level setting x"
    )
