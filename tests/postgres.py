"""A private PostgreSQL server for the tests, from the binaries of the machine."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENVIRONMENT = "WATCHROOM_TEST_POSTGRES"


class NoPostgresError(Exception):
    """There is no PostgreSQL to test against; the text says why."""


def binaries() -> Path:
    """Return the folder of initdb and pg_ctl.

    Raises:
        NoPostgresError: If this machine has none.
    """
    found = shutil.which("initdb")
    folders = (
        [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    )
    for folder in folders:
        if all((folder / name).exists() for name in ("initdb", "pg_ctl", "createdb")):
            return folder
    raise NoPostgresError(f"no PostgreSQL: neither {ENVIRONMENT} is set nor are initdb and pg_ctl installed")


class Cluster:
    """A running private server; reachable only through a unix socket in its own folder."""

    def __init__(self, folder: Path, tools: Path, *, user: str | None) -> None:
        self._folder, self._tools, self._user = folder, tools, user
        self._count = 0

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._ctl("start", "-w", "-o", f"-c listen_addresses='' -c unix_socket_directories='{self._folder}'")

    def stop(self, *, mode: str = "immediate") -> None:
        """Stop the server; ``immediate`` is its kill -9."""
        self._ctl("stop", "-w", "-m", mode)

    def database(self) -> str:
        """Make an empty database and return its URL."""
        self._count += 1
        name = f"watchroom_{self._count}"
        self._run(str(self._tools / "createdb"), "-h", str(self._folder), "-U", "postgres", name)
        return f"postgresql://postgres@/{name}?host={self._folder}"

    def _ctl(self, *arguments: str) -> None:
        log = str(self._folder / "server.log")
        self._run(str(self._tools / "pg_ctl"), "-D", str(self._folder / "data"), "-l", log, *arguments)

    def _run(self, *arguments: str) -> None:
        subprocess.run(
            arguments,
            check=True,
            cwd=self._folder,
            user=self._user,
            group=self._user,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )

    def init(self) -> None:
        """Make the cluster's files."""
        data = str(self._folder / "data")
        self._run(str(self._tools / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N")


@contextmanager
def private_cluster() -> Iterator[Cluster]:
    """Make, start and in the end remove a server; as user ``postgres`` when the tests run as root.

    Raises:
        NoPostgresError: If there are no binaries, or no user that may run them.
    """
    tools = binaries()
    folder = Path(tempfile.mkdtemp(prefix="watchroom-pg-"))
    runs_as = None
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            raise NoPostgresError("no PostgreSQL: it refuses to run as root and there is no user postgres") from None
        os.chown(folder, user.pw_uid, user.pw_gid)
        runs_as = user.pw_name
    cluster = Cluster(folder, tools, user=runs_as)
    try:
        cluster.init()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
