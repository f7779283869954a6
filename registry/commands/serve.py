"""`spindle serve`."""

from __future__ import annotations

import asyncio
import shutil
import sys
from importlib.metadata import version as version_of

from registry import app, logs, server, supervisor
from registry.settings import Config
from registry.tls import CertificateInvalid
from storage.errors import StorageError


class CannotStart(Exception):
    """A sentence for the person at the terminal."""


def serve(config: Config) -> None:
    """Until SIGTERM or SIGINT. Raises CannotStart."""
    logs.configure(config.log)
    try:
        secured = server.Pair.of(config)  # only to see whether that can be done
        asyncio.run(server.prepare(config))
        sockets = server.Sockets.bind(config)
    except (StorageError, OSError, CertificateInvalid) as error:
        raise CannotStart(str(error)) from None
    _greet(config, sockets, secured)
    if config.registry.workers > 1:
        supervisor.supervise(config, sockets)
    else:
        server.run(config, sockets, server.Role.REGISTRY | server.Role.APPLICATIONS)


def _greet(config: Config, sockets: server.Sockets, secured: server.Pair) -> None:
    registry, gateway = server.address(sockets.registry), server.address(sockets.gateway)
    scheme = "https" if secured.registry else "http"
    apps = "https" if secured.gateway else "http"
    port = app.port_of(apps, gateway.port)
    here = str(registry).replace("127.0.0.1", "localhost") if registry.loopback else str(registry)
    given = "" if registry.port == 5000 and scheme == "http" else f" --server {scheme}://{registry}"
    insecure = "" if secured.registry else " --insecure"
    command = "spindle" if shutil.which("spindle") else sys.argv[0]
    print(
        f"""\
Spindle {version_of("spindle")}

  registry      {scheme}://{registry}  (whoever reaches it may push)
  applications  {apps}://<app>.<account>.{config.gateway.domain}{port}
  data          {config.data.resolve()}

Push a Spin application and it runs:

  spin registry push{insecure} {here}/acme/hello:latest

or, without Spin at hand, a small example of our own:

  {command} demo{given}
""",
        flush=True,
        file=sys.stdout,
    )
