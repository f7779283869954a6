"""`spindle serve`."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version as version_of

from registry import logs, server, supervisor
from registry.settings import Config
from storage.errors import StorageError


class CannotStart(Exception):
    """A sentence for the person at the terminal."""


def serve(config: Config, reload: Callable[[], Config]) -> None:
    """Until SIGTERM or SIGINT. Raises CannotStart.

    `reload` reads the settings again, when SIGHUP asks for that; it may raise ConfigInvalid.
    """
    logs.configure(config.log)
    try:
        asyncio.run(server.prepare(config))
        sockets = server.Sockets.bind(config)
    except (StorageError, OSError) as error:
        raise CannotStart(str(error)) from None
    _greet(config, sockets)
    try:
        supervisor.supervise(config, sockets, reload)
    except supervisor.CannotServe as error:
        raise CannotStart(str(error)) from None


def _greet(config: Config, sockets: server.Sockets) -> None:
    registry, gateway = server.address(sockets.registry), server.address(sockets.gateway)
    port = "" if gateway.port == 80 else f":{gateway.port}"
    here = str(registry).replace("127.0.0.1", "localhost") if registry.loopback else str(registry)
    given = "" if registry.port == 5000 else f" --server http://{registry}"
    command = "spindle" if shutil.which("spindle") else sys.argv[0]
    print(
        f"""\
Spindle {version_of("spindle")}

  registry      http://{registry}  (whoever reaches it may push)
  applications  http://<app>.<account>.{config.gateway.domain}{port}
  data          {config.data.resolve()}

Push a Spin application and it runs:

  spin registry push --insecure {here}/acme/hello:latest

or, without Spin at hand, a small example of our own:

  {command} demo{given}
""",
        flush=True,
        file=sys.stdout,
    )
