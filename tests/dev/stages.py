# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages of the dev loop: each a list of commands that run in the prepared environment."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from . import sanity as ansible_test
from .environment import CACHE, ROOT
from .workspace import BYTECODE, COLLECTION, MARK, Workspace, link_tree

PACKAGE = "ansible_collections.causeway.postgresql"
ENGINE = PACKAGE + ".plugins.module_utils._engine"

_STEERING = (
    *("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONDONTWRITEBYTECODE"),
    *("VIRTUAL_ENV", "MAKEFLAGS", "MFLAGS"),
)


ENDING = ("-p", "support.budget")
"""A pytest that ends when its time is used up."""

# The unit tests keep a cache of their own, and may run at the same time.
FUNCTIONAL_CACHE = ("-o", f"cache_dir={CACHE / 'pytest-functional'}")
FEW = 8
"""So many functional tests that fail while two others and the linters run may be asked once more, alone: some wait for
seconds, and a slow machine has none to spare. What is broken fails again."""


class Stages:
    """Runs stages by name; each returns whether every command of it succeeded.

    What they print goes to the file I(output), or where this process prints to.
    """

    # beside servers whose tests wait for seconds, everything else gets what they leave of the processors
    _before: tuple[str, ...] = ()

    def __init__(
        self,
        venv: Path,
        workspace: Workspace,
        variant: str = "newest",
        mark: str = "",
        output: IO[str] | None = None,
        *,
        behind: bool = False,
    ) -> None:
        self.variant = variant
        self.mark = mark or workspace.mark
        self.output = output
        if behind:
            self._before = ("nice", "-n", "10")
        self._process: subprocess.Popen[bytes] | None = None
        self._over = False
        self._lock = threading.Lock()
        self.bin = venv / "bin"
        self.python = self.bin / "python"
        self.workspace = workspace
        self.tree = link_tree()

    def environ(self, collections: Path | None = None) -> dict[str, str]:
        """The caller's environment less what would steer Ansible, libpq or Python behind our back."""
        tree = str(collections or self.tree)
        folder = self.workspace.folder
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ANSIBLE_", "PG", "MOLECULE_")) and name not in _STEERING
        }
        return {
            **kept,
            MARK: self.mark,
            "PATH": os.pathsep.join([str(self.bin), os.environ.get("PATH", os.defpath)]),
            "LC_ALL": "C.UTF-8",  # ansible-core refuses to run under anything that is not UTF-8
            "PYTHONPATH": tree,
            # compiled once, and not into the checkout
            "PYTHONPYCACHEPREFIX": str(BYTECODE),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(folder),
            "ANSIBLE_COLLECTIONS_PATH": tree,
            "ANSIBLE_HOME": str(folder / "ansible"),
            "ANSIBLE_REMOTE_TMP": str(folder / "ansible-remote"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
        }

    def homeless(self, collections: Path | None = None) -> dict[str, str]:
        """For tools that write into the home folder (antsibull its log) and need nothing from it."""
        home = self.workspace.folder / "home"
        home.mkdir(exist_ok=True)
        return {**self.environ(collections), "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}

    def say(self, text: str) -> None:
        print(text, file=self.output, flush=True)

    def run(self, *command: str | Path, cwd: Path = ROOT, environ: dict[str, str] | None = None) -> bool:
        words = [str(word) for word in command]
        self.say("+ " + shlex.join(self._short(word) for word in words))
        told = subprocess.STDOUT if self.output else None
        try:
            with self._lock:
                if self._over:
                    return False
                process = self._process = subprocess.Popen(
                    [*self._before, *words], cwd=cwd, env=environ or self.environ(), stdout=self.output, stderr=told
                )
        except OSError as error:
            self.say(f"{Path(words[0]).name} could not be started in {cwd}: {error}")
            return False
        try:
            return process.wait() == 0
        except BaseException as interrupt:
            self.end(tell=not isinstance(interrupt, KeyboardInterrupt))
            raise

    def end(self, tell: bool) -> None:
        """Start nothing more. Let an interrupted command stop its servers before it is killed; a terminal's Ctrl-C has
        told it already."""
        with self._lock:
            self._over = True
            process = self._process
        if process is None or process.poll() is not None:
            return
        if tell:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()

    def _short(self, word: str) -> str:
        return word.replace(str(self.bin) + os.sep, "").replace(str(self.workspace.folder), "$TMPDIR")

    def lint(self) -> bool:
        copy = self.workspace.copy()
        environ = self.homeless(copy.parents[2])
        # ansible-lint writes a `.ansible` folder into what it looks at: give it the copy
        return all(
            [
                self.run(self.bin / "ruff", "check", "--output-format", "concise", "."),
                self.run(self.bin / "ruff", "format", "--check", "."),
                self.run(self.bin / "yamllint", "--strict", ".", cwd=copy),
                self.run(
                    self.bin / "ansible-lint", "--offline", "--strict", "--nocolor", "-q", cwd=copy, environ=environ
                ),
                self.run(self.bin / "antsibull-changelog", "lint", cwd=copy, environ=environ),
            ]
        )

    def types(self) -> bool:
        mypy: list[str | Path] = [self.bin / "mypy", "--config-file", ROOT / "pyproject.toml"]
        mypy += ["--cache-dir", CACHE / "mypy"]
        environ = {**self.environ(), "MYPYPATH": str(self.tree)}
        rest = [str(COLLECTION / name) for name in self._python("plugins", "roles", "awx") if "/_engine/" not in name]
        # tests import one another from tests/ on, as pytest lets them
        tests = [name.removeprefix("tests/") for name in self._python("tests")]
        servers = ROOT / "roles" / "local_clusters" / "files"  # what they start servers with
        scenarios = self._python("extensions")
        return all(
            [
                self.run(*mypy, "--strict", "-p", ENGINE, cwd=self.tree, environ=environ),
                self.run(*mypy, *rest, cwd=self.tree, environ=environ),
                self.run(*mypy, *tests, cwd=ROOT / "tests", environ={**environ, "MYPYPATH": f"{self.tree}:{servers}"}),
                not scenarios or self.run(*mypy, *scenarios, environ=environ),
            ]
        )

    def _python(self, *folders: str) -> list[str]:
        """The Python files of these folders that git knows, as paths from the root."""
        copy = self.workspace.copy()
        return sorted(str(file.relative_to(copy)) for folder in folders for file in (copy / folder).rglob("*.py"))

    def unit(self) -> bool:
        return self.run(self.python, "-m", "pytest", "tests/unit", "--numprocesses", "2", "--dist", "loadfile")

    def fuzz(self) -> bool:
        half = self._budget("FUZZ", 30) / 2
        pytest: list[str | Path] = [self.python, "-m", "pytest", *ENDING, "-v", "--numprocesses", "2", "--dist", "load"]
        environ = {**self._ending(half), "HYPOTHESIS_PROFILE": "fuzz"}
        return all(
            [
                self.run(*pytest, "tests/unit", "-m", "hypothesis", environ=environ),
                self.run(*pytest, "tests/functional", "-m", "fuzz", environ=environ),
            ]
        )

    def functional(self) -> bool:
        if self._on_servers("not faults_heavy", "--durations", "15"):
            return True
        failed = self._failed()
        if not 0 < len(failed) <= FEW:
            return False
        self.say(f"Failed while others ran; each must pass alone now: {', '.join(failed)}")
        alone = ("--last-failed", "--last-failed-no-failures", "none", "--timeout", "1200")
        return self.run(self.python, "-m", "pytest", "tests/functional", *FUNCTIONAL_CACHE, *alone)

    @staticmethod
    def _failed() -> list[str]:
        """Return the ids of the functional tests that failed in the last run."""
        path = CACHE / "pytest-functional" / "v" / "cache" / "lastfailed"
        try:
            return sorted(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return []

    def faults(self) -> bool:
        environ = self._ending(self._budget("FAULTS", 60))
        return self._on_servers("faults or faults_heavy", *ENDING, "-v", environ=environ)

    def _budget(self, name: str, minutes: float) -> float:
        """Return the seconds that a long target may take: as NAME_MINUTES says, or so many minutes."""
        return 60 * float(os.environ.get(f"{name}_MINUTES") or minutes)

    def _ending(self, seconds: float) -> dict[str, str]:
        """Return the environment of a pytest that ends by itself."""
        environ = self.environ()
        found_from = os.pathsep.join([environ["PYTHONPATH"], str(ROOT / "tests")])
        return {**environ, "CAUSEWAY_BUDGET": str(seconds), "PYTHONPATH": found_from}

    def _on_servers(self, marked: str, *options: str, environ: dict[str, str] | None = None) -> bool:
        # a test that hangs says where it does, and the others still run
        options += ("--timeout", "1200")
        # two at a time, each with clusters of its own; the tests of a file stay together and share what they set up,
        # in their order: by the number of its tests nobody knows how long a file takes
        options += ("--numprocesses", "2", "--dist", "loadfile", "--no-loadscope-reorder")
        options += FUNCTIONAL_CACHE
        shutil.rmtree(
            CACHE / "pytest-functional", ignore_errors=True
        )  # what failed in an earlier run is not asked again
        return self.run(self.python, "-m", "pytest", "tests/functional", "-m", marked, *options, environ=environ)

    def sanity(self) -> bool:
        home = CACHE / "sanity-home" / self.bin.parent.name
        settings = ansible_test.prepare_home(home, self.python)
        # what users of an older Ansible load; the tests themselves answer to the newest one
        targets = ["plugins/", "roles/", "playbooks/", "meta/"] if self.variant == "compat" else []
        environ = self.environ()
        environ.pop("PYTHONPATH")
        path = [str(self.bin), str(ansible_test.real_bin(self.python)), "/usr/local/bin", "/usr/bin", "/bin"]
        environ.update(HOME=str(home), PATH=os.pathsep.join(path), TMPDIR=str(self.workspace.folder))
        try:
            return self.run(
                self.bin / "ansible-test",
                "sanity",
                "--python",
                "default",
                "--color",
                "no",
                *targets,
                cwd=self.workspace.copy(),
                environ=environ,
            )
        finally:
            settings.unlink()

    def molecule(self) -> bool:
        copy = self.workspace.copy()
        environ = {
            **self.environ(copy.parents[2]),
            "XDG_CACHE_HOME": str(self.workspace.folder / "cache"),
            "ANSIBLE_HOST_PATTERN_MISMATCH": "error",  # plays that found nobody to play with would pass
            "NO_COLOR": "1",
        }
        # from the collection's root: anywhere else molecule overlooks extensions/molecule/config.yml, and finds no host
        return self.run(self.bin / "molecule", "test", "--all", cwd=copy, environ=environ)

    def lifecycle(self) -> bool:
        """The playbooks of the molecule scenario without molecule, which needs a newer Ansible; the second converge
        must change nothing."""
        copy = self.workspace.copy()
        folder = self.workspace.folder / "lifecycle"
        folder.mkdir()
        log = folder / "ansible.log"
        environ = {
            **self.environ(copy.parents[2]),
            "MOLECULE_EPHEMERAL_DIRECTORY": str(folder),
            "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
            "ANSIBLE_LOG_PATH": str(log),
        }
        scenarios = copy / "extensions" / "molecule"

        def play(name: str) -> bool:
            log.unlink(missing_ok=True)
            command: list[str | Path] = [
                self.bin / "ansible-playbook",
                "--inventory",
                scenarios / "inventory",
                scenarios / name,
            ]
            return self.run(*command, cwd=copy, environ=environ)

        try:
            return (
                all(play(name) for name in ("default/create.yml", "lifecycle/prepare.yml", "lifecycle/converge.yml"))
                and play("lifecycle/converge.yml")
                and " changed=0 " in log.read_text(encoding="utf-8")
                and play("lifecycle/side_effect.yml")
            )
        finally:
            play("default/destroy.yml")

    def docs(self) -> bool:
        copy = self.workspace.copy()
        lint = ["lint-collection-docs", "--plugin-docs", "--validate-collection-refs=self", "."]
        return all(
            [
                self.run(self.bin / "antsibull-docs", *lint, cwd=copy, environ=self.homeless(copy.parents[2])),
                self.pages("--check"),
            ]
        )

    def pages(self, *options: str) -> bool:
        return self.run(self.python, "-m", "dev.pages", *options, cwd=ROOT / "tests")

    def build(self) -> bool:
        output = ROOT / "build"
        command = ["collection", "build", "--force", "--output-path", str(output)]
        return self.run(self.bin / "ansible-galaxy", *command, cwd=self.workspace.copy(), environ=self.homeless())

    def demo(self) -> bool:
        environ = self.environ()
        if os.environ.get("DEMO_KEEP"):
            # what is kept must outlive the folder and the mark of this run
            del environ[MARK]
            environ.pop("TMPDIR")
            if "TMPDIR" in os.environ:
                environ["TMPDIR"] = os.environ["TMPDIR"]
        return self.run(self.python, "tests/demo/run.py", environ=environ)

    def bench(self) -> bool:
        return self.run(self.python, "-m", "bench", os.environ.get("BENCH", ""), cwd=ROOT / "tests")


# What `make test` is made of, in this order
TEST = ("lint", "types", "unit", "sanity", "functional", "molecule", "docs")
# Beside the one stage that lasts longest and waits now and then
LANES = (("functional",), ("sanity", "molecule", "lint", "types", "unit", "docs"))
# `make compat`: these, on the oldest ansible-core that the collection promises
COMPAT = ("sanity", "lifecycle")
ALONE = ("fuzz", "faults", "pages", "build", "demo", "bench", "lifecycle")


def find(stages: Stages, name: str) -> Callable[[], bool]:
    if name not in {*TEST, *ALONE}:
        raise SystemExit(f"There is no stage '{name}'. These are: {', '.join([*TEST, *ALONE])}, test, compat.")
    stage: Callable[[], bool] = getattr(stages, name)
    return stage


def expand(names: Sequence[str]) -> tuple[str, list[str]]:
    """The environment's variant and the stages behind what the Makefile asked for."""
    if list(names) == ["test"]:
        return "newest", list(TEST)
    if list(names) == ["compat"]:
        return "compat", list(COMPAT)
    if not names:
        sys.exit("Say which stage to run, or 'test'.")
    return "newest", list(names)
