# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-test needs to run without containers and without the caller's home folder.

It drops almost every environment variable, so pip's settings must lie in a file of the home folder that it is given;
and it fetches the script that puts pip into its virtualenvs from a host that a closed network does not reach. A script
of that name in its cache is taken instead: ours uses the ensurepip of the interpreter.
"""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
import sys
from pathlib import Path

# the pip versions that ansible-core 2.16, 2.18/2.19 and 2.20/2.21 ask for
_BOOTSTRAP_NAMES = ("get_pip_23_1_2.py", "get_pip_24_2.py", "get_pip_25_2.py")

_BOOTSTRAP = '''"""Put pip into this virtualenv, then what the arguments name, as get-pip.py would."""

import subprocess
import sys

arguments = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
# in a subprocess: this very process was started through a pip of its own, which must not be imported twice
subprocess.check_call([sys.executable, "-m", "ensurepip", "--default-pip"], stdout=subprocess.DEVNULL)
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", "-q"] + arguments))
'''


def _pip_settings(python: Path) -> configparser.RawConfigParser:
    """What pip's files and environment variables say here, as one file would say it."""
    settings = configparser.RawConfigParser()
    listed = subprocess.run(
        [str(python), "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    from_environment = []
    for line in listed.splitlines():
        name, equals, value = line.partition("=")
        if not equals:
            continue
        if name.startswith(":env:."):
            from_environment.append(("global." + name.removeprefix(":env:."), ast.literal_eval(value)))
            continue
        _put(settings, name, ast.literal_eval(value))
    for name, value in from_environment:  # what the environment says wins
        _put(settings, name, value)
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    if proxy and not settings.has_option("global", "proxy"):
        _put(settings, "global.proxy", proxy)
    return settings


def _put(settings: configparser.RawConfigParser, name: str, value: str) -> None:
    section, dummy, option = name.partition(".")
    if option in ("config-file", "no-input", "require-virtualenv", "user", "target", "prefix"):
        return
    if not settings.has_section(section):
        settings.add_section(section)
    settings.set(section, option, value)


def prepare_home(home: Path, python: Path) -> Path:
    """Lay out the home folder for ansible-test; returns the file with pip's settings, to be removed after the run."""
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for name in _BOOTSTRAP_NAMES:
        (cache / name).write_text(_BOOTSTRAP, encoding="utf-8")
    pip = home / ".config" / "pip"
    pip.mkdir(parents=True, exist_ok=True)
    file = pip / "pip.conf"
    # an index URL may carry a password
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        _pip_settings(python).write(stream)
    return file


def real_bin(python: Path) -> Path:
    """The bin folder of the interpreter that a virtualenv stands on (not a version manager's shims)."""
    program = "import sys; print(getattr(sys, '_base_executable', None) or sys.executable)"
    answer = subprocess.run([str(python), "-c", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    return Path(answer.strip() or sys.executable).parent
