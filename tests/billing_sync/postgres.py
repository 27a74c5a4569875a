"""A PostgreSQL of one's own from the machine's packages: a free socket in a temp folder, no port."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
_SECONDS = 60


def binaries() -> Path | None:
    """Where initdb and pg_ctl are, if PostgreSQL is installed."""
    found = shutil.which("initdb")
    return Path(found).parent if found else (_PLACES[-1] if _PLACES else None)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A running server; the address of its database. It refuses to run as root, so root steps down."""
    place = binaries()
    assert place is not None, "install PostgreSQL: apt-get install postgresql"
    data = folder / "data"
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres")
        for parent in folder.parents:
            if parent.owner() == "root" and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o055)

    def run(*command: str) -> None:
        subprocess.run([*as_user, *command], check=True, timeout=_SECONDS, capture_output=True, cwd="/")

    run(str(place / "initdb"), "-D", str(data), "-A", "trust", "-U", "ledger", "--no-sync")
    options = f"-c listen_addresses='' -k {folder} -c fsync=off"
    run(str(place / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://ledger@/postgres?host={folder}"
    finally:
        run(str(place / "pg_ctl"), "-D", str(data), "-w", "-m", "immediate", "stop")
