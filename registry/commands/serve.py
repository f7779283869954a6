"""`spindle serve`."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version as version_of
from typing import Final

from registry import app, logs, server, supervisor
from registry.auth.first import ADMINISTRATOR
from registry.auth.policy import PolicyInvalid
from registry.auth.users import UsersInvalid
from registry.auth.watch import FileRefused
from registry.settings import Config
from registry.tls import CertificateInvalid
from storage.errors import StorageError

_WRONG: Final = (
    *(StorageError, OSError, CertificateInvalid),
    *(UsersInvalid, PolicyInvalid, FileRefused),
)


class CannotStart(Exception):
    """A sentence for the person at the terminal."""


def serve(config: Config, reload: Callable[[], Config]) -> None:
    """Until SIGTERM or SIGINT. Raises CannotStart.

    `reload` reads the settings again, when SIGHUP asks for that; it may raise ConfigInvalid.
    """
    logs.configure(config.log)
    try:
        secured = server.Pair.of(config)  # only to see whether that can be done
        first = asyncio.run(server.prepare(config))
        if first is not None:  # at once: it is kept by now, and whatever fails next would lose it
            _introduce(first)
        sockets = server.Sockets.bind(config)
    except _WRONG as error:
        raise CannotStart(str(error)) from None
    _greet(config, sockets, secured)
    try:
        supervisor.supervise(config, sockets, reload)
    except supervisor.CannotServe as error:
        raise CannotStart(str(error)) from None


def _introduce(password: str) -> None:
    """On standard output alone, and never in the log."""
    print(
        f"first administrator: {ADMINISTRATOR} / {password}\n"
        f"(shown this once; `spindle user passwd {ADMINISTRATOR}` makes another one)\n",
        flush=True,
    )


def _greet(config: Config, sockets: server.Sockets, secured: server.Pair) -> None:
    registry, gateway = server.address(sockets.registry), server.address(sockets.gateway)
    scheme = "https" if secured.registry else "http"
    apps = "https" if secured.gateway else "http"
    port = app.port_of(apps, gateway.port)
    here = str(registry).replace("127.0.0.1", "localhost") if registry.loopback else str(registry)
    given = "" if registry.port == 5000 and scheme == "http" else f" --server {scheme}://{registry}"
    insecure = "" if secured.registry else " --insecure"
    command = "spindle" if shutil.which("spindle") else sys.argv[0]
    access, login, token = "whoever reaches it may push", "", ""
    if config.auth.enabled:
        access, login = f"sign in: docker login {here}", f"  docker login {here}\n"
        token = "SPINDLE_TOKEN=... "  # noqa: S105  # where one is to be filled in
    print(
        f"""\
Spindle {version_of("spindle")}

  registry      {scheme}://{registry}  ({access})
  applications  {apps}://<app>.<account>.{config.gateway.domain}{port}
  data          {config.data.resolve()}

Push a Spin application and it runs:

{login}  spin registry push{insecure} {here}/acme/hello:latest

or, without Spin at hand, a small example of our own:

  {token}{command} demo{given}
""",
        flush=True,
        file=sys.stdout,
    )
