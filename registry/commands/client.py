"""The command line's side of the HTTP APIs: ask, and turn what goes wrong into a sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:  # `spindle --help` is quick because aiohttp is imported by what asks
    import aiohttp

DEFAULT_SERVER = "http://127.0.0.1:5000"
TOKEN = "SPINDLE_TOKEN"  # noqa: S105  # the variable that holds one, from `spindle token create`

REFUSED = 1  # the server said no
UNREACHABLE = 2  # nothing was asked, as for a command that makes no sense

T = TypeVar("T")


class CommandFailed(Exception):
    """A sentence for the person at the terminal: what is wrong, and what to do."""

    def __init__(self, message: str, status: int = REFUSED) -> None:
        super().__init__(message)
        self.status = status
        """The command's exit status."""


class NotThere(CommandFailed):
    """404."""


class Server:
    """The APIs of one Spindle. Made by `connect`."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """Raises NotThere, CommandFailed."""
        return await self._ask("GET", path, params=query)

    async def patch(self, path: str, body: object) -> dict[str, Any]:
        """Raises NotThere, CommandFailed."""
        return await self._ask("PATCH", path, json=body)

    async def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        async with self.request(method, path, **request) as answer:
            found = await answer.json()
        assert isinstance(found, dict)
        return found

    @asynccontextmanager
    async def request(
        self, method: str, path: str, **request: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer of 2xx. `path` is a path here, or a URL. Raises NotThere, CommandFailed."""
        import aiohttp

        shown = self.url if path.startswith("/") else path
        url = self.url + path if path.startswith("/") else path
        # To the server alone: an application is asked over the same session.
        if url.startswith(f"{self.url}/") and (token := os.environ.get(TOKEN)):
            request["headers"] = {**request.get("headers", {}), "Authorization": f"Bearer {token}"}
        try:
            async with self.session.request(
                method, url, allow_redirects=False, **request
            ) as answer:
                if not 200 <= answer.status < 300:
                    raise await self._refusal(answer)
                yield answer
        except aiohttp.InvalidURL:
            raise CommandFailed(
                f"{shown} is no address of a server; write one like {DEFAULT_SERVER}",
                UNREACHABLE,
            ) from None
        except TimeoutError:
            raise CommandFailed(
                f"{shown} does not answer in time; look at the server's log", UNREACHABLE
            ) from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise CommandFailed(
                f"the certificate of {shown} is not trusted here ({error.certificate_error});"
                " name the file of its authority with SSL_CERT_FILE",
                UNREACHABLE,
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise CommandFailed(
                f"nothing answers at {shown} ({error.strerror or error}); start the server with"
                " `spindle serve`, or name another one with --server",
                UNREACHABLE,
            ) from None
        except (aiohttp.ContentTypeError, ValueError, AssertionError):
            raise self._stranger() from None
        except (aiohttp.ClientError, OSError) as error:
            raise CommandFailed(
                f"the connection to {shown} broke ({error}); try again", UNREACHABLE
            ) from None

    async def _refusal(self, answer: aiohttp.ClientResponse) -> CommandFailed:
        try:
            found = await answer.json()
            message = str(found["errors"][0]["message"])
        except Exception:
            return self._stranger()
        if answer.status == 401:
            message += f" ({TOKEN} takes a token that `spindle token create` made)"
        kind = NotThere if answer.status == 404 else CommandFailed
        return kind(message)

    def _stranger(self) -> CommandFailed:
        return CommandFailed(
            f"{self.url} answers, but not as Spindle does; name the server's registry address"
            " with --server",
            UNREACHABLE,
        )


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Server]:
    """Nothing is sent yet. `url` may lack the `http://`."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)
    full = url if "://" in url else f"http://{url}"
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Server(full.rstrip("/"), session)


def run(command: Coroutine[Any, Any, T]) -> T:
    """Run a command to its end; one that fails says why and ends the process."""
    import asyncio

    try:
        return asyncio.run(command)
    except CommandFailed as failed:
        typer.echo(f"spindle: {failed}", err=True)
        raise typer.Exit(failed.status) from None
    except BrokenPipeError:  # `spindle apps logs … | head`
        sys.stderr.close()
        raise typer.Exit(0) from None
