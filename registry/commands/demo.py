"""`spindle demo`: push a small application of our own, and see it answer."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from registry.commands.client import (
    DEFAULT_SERVER,
    UNREACHABLE,
    CommandFailed,
    connect,
    run,
)

if TYPE_CHECKING:
    import aiohttp

GREETING = "Hello from Spindle\n"
PATIENCE = 120.0  # seconds; the first start on a small machine compiles


def demo(
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help=f"The registry; SPINDLE_SERVER, else {DEFAULT_SERVER}."),
    ] = None,
    repository: Annotated[
        str, typer.Option(metavar="ACCOUNT/APP", help="Where it is pushed.")
    ] = "acme/hello",
    greeting: Annotated[
        str, typer.Option(metavar="TEXT", help="What it answers; another one is an upgrade.")
    ] = GREETING,
) -> None:
    """Push a small application and wait until it answers.

    Needs no toolchain. Push again with another --greeting to see an upgrade.
    """
    run(_demo(server or os.environ.get("SPINDLE_SERVER") or DEFAULT_SERVER, repository, greeting))


async def _demo(url: str, repository: str, greeting: str) -> None:
    from registry.commands.artifact import http_app
    from registry.commands.push import push
    from registry.commands.waiting import until_live
    from registry.demo import component
    from storage.errors import NameInvalid
    from storage.names import RepositoryName

    try:
        name = RepositoryName.parse(repository).text.rpartition("/")[2]
        wasm = component(greeting)
    except (NameInvalid, ValueError) as error:
        raise CommandFailed(str(error), UNREACHABLE) from None
    artifact = http_app(name, wasm)
    async with connect(url) as server:
        digest = await push(server, repository, "latest", artifact.blobs, artifact.manifest)
        print(f"Pushed {repository}:latest, {digest}", flush=True)
        app = await until_live(
            server,
            repository,
            digest,
            seconds=PATIENCE,
            told=lambda text: print(f"  {text}", file=sys.stderr, flush=True),
        )
        reached, fields = _reached(app["url"], server.url)
        answer = await _first_answer(server.session, reached, fields)
    option = "".join(f"-H {shlex.quote(f'{key}: {value}')} " for key, value in fields.items())
    print(
        f"""\
Revision {app["live"]["revision"]} is live:

  {app["url"]}

  curl {option}{reached}

It answers: {answer}"""
    )


def _reached(app_url: str, server_url: str) -> tuple[str, dict[str, str]]:
    """A URL and fields with which the app is reached from here, whatever names resolve to.

    Not every resolver knows that names below `localhost` are this machine (RFC 6761).
    """
    app = urlsplit(app_url)
    if not (app.hostname or "").endswith(".localhost"):
        return app_url, {}
    machine = urlsplit(server_url).hostname or "127.0.0.1"
    machine = f"[{machine}]" if ":" in machine else machine
    port = f":{app.port}" if app.port else ""
    return f"{app.scheme}://{machine}{port}/", {"Host": app.netloc}


async def _first_answer(session: aiohttp.ClientSession, url: str, fields: dict[str, str]) -> str:
    import aiohttp

    from registry.commands.display import safe

    try:
        async with session.get(url, headers=fields, allow_redirects=False) as answer:
            text = (await answer.read())[:200].decode("utf-8", "replace")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise CommandFailed(
            f"it is live, but {url} does not answer ({error}); is the gateway's port open?"
        ) from None
    return safe(text.strip())
