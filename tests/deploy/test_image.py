"""The Dockerfile without an engine: pinned, small, without root, with everything that the code needs."""

import re
import subprocess
import sys
import tomllib

from tests.deploy.compose import COMPOSE, ROOT

TEXT = (ROOT / "Dockerfile").read_text()
LINES = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.M)).splitlines()
STEPS = [tuple(line.split(None, 1)) for line in LINES if line.strip()]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def arguments(instruction: str) -> list[str]:
    return [rest for name, rest in STEPS if name == instruction]


def test_the_image_is_built_in_stages_from_pinned_bases() -> None:
    bases = arguments("FROM")
    assert len(bases) == 2
    assert all(re.match(r"python:\d+\.\d+\.\d+-slim-\w+( AS build)?$", base) for base in bases)


def test_it_does_not_run_as_root() -> None:
    assert arguments("USER")[-1] == "10001:10001"
    names = [name for name, _ in STEPS]
    assert "RUN" not in names[names.index("USER") :]


def test_nothing_is_fetched_but_packages_of_tested_versions() -> None:
    assert not arguments("ADD")
    assert "-c constraints.txt" in TEXT
    assert not re.search(r"curl|wget|https?:", TEXT)


def test_what_is_copied_is_there_and_let_through() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {word for step in arguments("COPY") if "--from" not in step for word in step.split()[:-1]}
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)


def test_everything_that_the_package_is_made_of_is_copied() -> None:
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel.get("force-include", {}), PROJECT["project"]["readme"], "LICENSE"}
    copied = " ".join(arguments("COPY")).split()
    assert not {name for name in needed if name.split("/")[0] not in {c.split("/")[0] for c in copied}}


def test_its_home_is_the_one_that_compose_mounts() -> None:
    assert f"METERING_HOME={COMPOSE['x-settings']['METERING_HOME']}" in TEXT


def test_our_programs_start_without_the_extras_of_a_laptop() -> None:
    """The image has neither the embedded engine nor the tools of developers."""
    extras = PROJECT["project"]["optional-dependencies"]
    names = [
        re.split(r"[<>=~\[;.]", d)[0].strip().replace("-", "_") for e in ("local", "dev") for d in extras[e]
    ]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({names!r}));"
        "import metering.cli, billing_sync.cli, metering.worker, metering.sink"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
