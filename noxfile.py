"""The project's commands. `nox -l` lists them; `nox -s tests` and `nox -s quickstart` are the two to know."""

from __future__ import annotations

import os
from pathlib import Path

import nox

ROOT = Path(__file__).parent
# Every package and the siblings it declares. This table drives all sessions.
PACKAGES = {
    "ipad-core": [],
    "ipad-data": [],
    "ipad-rerank": [],
    "ipad-train": ["ipad-core", "ipad-data", "ipad-rerank"],
}
ALL = list(PACKAGES)
TORCHVISION = ROOT / "tools" / "declare_torchvision_operators.py"  # makes it import beside a CPU-only torch
# The longest suites run on several cores, one thread each: two threads of one process wait for each other where a core is
# busy with something else. The tests of a file stay together where they share runs.
WORKERS = {
    "ipad-core": ["-n", "logical", "--maxprocesses", "4"],
    "ipad-rerank": ["-n", "logical", "--maxprocesses", "4"],
    "ipad-train": ["-n", str(min(4, (os.cpu_count() or 1) + 1)), "--dist", "loadfile"],  # its tests often wait
}

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True


def install(session: nox.Session, packages: list[str], extras: dict[str, str]) -> None:
    """Install packages of this repository, non-editable, under the pins of constraints.txt."""
    paths = [f"{ROOT / 'packages' / name}{extras.get(name, '')}" for name in packages]
    session.install("-c", "constraints.txt", *paths)
    session.run_install("python", str(TORCHVISION), log=False)


@nox.session
@nox.parametrize("package", [nox.param(name, id=name) for name in PACKAGES])
def tests(session: nox.Session, package: str) -> None:
    """One package's tests, in an environment with that package and its declared dependencies only."""
    install(session, [*PACKAGES[package], package], {package: "[test]"})
    threads = {"OMP_NUM_THREADS": "1"} if package in WORKERS else {}
    session.run("pytest", f"packages/{package}", *WORKERS.get(package, []), *session.posargs, env=threads)


@nox.session
def integration(session: nox.Session) -> None:
    """The tests that span packages: import direction, README commands, end to end."""
    install(session, ALL, {"ipad-data": "[ccp]", "ipad-train": "[test]"})
    session.run("pytest", "tests", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's checks and formatting, as pre-commit runs them."""
    session.install("-c", "constraints.txt", "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def quickstart(session: nox.Session) -> None:
    """Train, evaluate and re-rank every method on the rendered dataset, and write a report (about ten minutes)."""
    install(session, ALL, {"ipad-train": "[report]"})
    session.run("accelerate", "launch", "-m", "ipad_train", "compare", *session.posargs)
    if not session.posargs:
        session.run("python", "-m", "ipad_train", "report", "quickstart")


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """Rendered garments as a catalogue, searched by attribute at http://127.0.0.1:8000; trains a model where none is."""
    install(session, ALL, {"ipad-train": "[catalogue]"})
    session.run("python", "-m", "ipad_train", "serve", "--demo", *session.posargs)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build every wheel and import it in a clean environment."""
    session.install("-c", "constraints.txt", "build")
    for name in PACKAGES:
        session.run("python", "-m", "build", "--wheel", "--outdir", "dist", f"packages/{name}")
    session.install("-c", "constraints.txt", *(str(wheel) for wheel in sorted((ROOT / "dist").glob("*.whl"))))
    session.run_install("python", str(TORCHVISION), log=False)
    session.run("python", "-c", "import ipad_core, ipad_data, ipad_rerank, ipad_train")
