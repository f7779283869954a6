"""A few lines of Python that do what the upload protocol says, beside a registry that has to.

Every method asks the registry for something, right or wrong, and holds its answer to the model.
Distribution spec, "Pushing Blobs".
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.asgi import GONE, Answer, Gone, Registry, digest_of, open_store

REPOSITORIES = ("acme/one", "acme/two/blobs/uploads")
ALGORITHMS = ("sha256", "sha512")


@dataclass(eq=False)
class Session:
    """What the model knows of one upload."""

    repository: str
    location: str
    kept: bytes = b""
    open: bool = True

    @property
    def last_byte(self) -> str:
        """Nothing has no range; `0-0` is what clients have learnt to read."""
        return f"0-{max(len(self.kept) - 1, 0)}"


class Model:
    def __init__(self, data: Path) -> None:
        for records in data.glob("records.db*"):  # the bytes of earlier examples may lie about
            records.unlink()
        self.blobs: dict[str, dict[str, bytes]] = {name: {} for name in REPOSITORIES}
        self.known: set[str] = set()
        """Repositories to which something was pushed; they stay when it is deleted."""
        self.every: list[Session] = []
        self.runner = asyncio.Runner()
        self.closing = AsyncExitStack()
        self.registry = self.runner.run(self._open(data))

    async def _open(self, data: Path) -> Registry:
        return Registry(await self.closing.enter_async_context(open_store(data)))

    def close(self) -> None:
        self.runner.run(self.closing.aclose())
        self.runner.close()

    def ask(self, method: str, target: str, **request: Any) -> Answer:
        return self.runner.run(self.registry(method, target, **request))

    def keep(self, repository: str, digest: str, data: bytes) -> None:
        self.blobs[repository][digest] = data
        self.known.add(repository)

    def opened(self, repository: str, answer: Answer) -> None:
        assert answer.status == 202
        location = answer.header("location") or ""
        assert location.startswith(f"/v2/{repository}/blobs/uploads/")
        assert location not in {session.location for session in self.every}
        assert answer.header("range") == "0-0"
        self.every.append(Session(repository, location))

    def made(self, repository: str, digest: str, answer: Answer) -> None:
        assert answer.status == 201, answer.body
        assert answer.header("location") == f"/v2/{repository}/blobs/{digest}"
        assert answer.header("docker-content-digest") == digest

    # POST

    def start(self, repository: str, query: str) -> None:
        """end-4a and 4c."""
        hint = query and f"?digest-algorithm={query}"
        self.opened(repository, self.ask("POST", f"/v2/{repository}/blobs/uploads/{hint}"))

    def start_with_an_algorithm_that_is_not_kept(self, repository: str, name: str) -> None:
        target = f"/v2/{repository}/blobs/uploads/?digest-algorithm={name}"
        assert self.ask("POST", target).status == 400

    def push_at_once(self, repository: str, data: bytes, algorithm: str) -> None:
        """end-4b."""
        digest = digest_of(data, algorithm)
        answer = self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", body=data)
        self.made(repository, digest, answer)
        self.keep(repository, digest, data)

    def push_at_once_under_a_wrong_digest(self, repository: str, data: bytes, wrong: str) -> None:
        target = f"/v2/{repository}/blobs/uploads/?digest={wrong}"
        assert self.ask("POST", target, body=data).status == 400

    def mount(self, repository: str, source: str | None, data: bytes, algorithm: str) -> None:
        """end-11: what cannot be mounted is to be uploaded."""
        digest = digest_of(data, algorithm)
        where = f"&from={source}".replace(" ", "%20") if source else ""
        answer = self.ask("POST", f"/v2/{repository}/blobs/uploads/?mount={digest}{where}")
        asked = [self.blobs.get(source, {})] if source else list(self.blobs.values())
        if not any(digest in held for held in asked):
            self.opened(repository, answer)
            return
        self.made(repository, digest, answer)
        self.keep(repository, digest, data)

    # PATCH

    def append(self, session: Session, data: bytes, place: str, length: str) -> None:
        """end-5."""
        headers, status = self._content_range(session, data, place, length)
        answer = self.ask("PATCH", session.location, body=data, headers=headers)
        if status is None:
            session.kept += data
            assert answer.status == 202, answer.body
            assert answer.header("range") == session.last_byte
            assert answer.header("location") == session.location
        else:
            self._refused(session, answer, status)

    def _content_range(
        self, session: Session, data: bytes, place: str, length: str
    ) -> tuple[dict[str, str], int | None]:
        """The header, and with what status it is refused."""
        size = len(session.kept)
        if place == "none":
            return {}, None if session.open else 404
        start = {"right": size, "before": max(size - 1, 0), "behind": size + 1}[place]
        count = max(len(data) + {"right": 0, "shorter": -1, "longer": 1}[length], 1)
        headers = {"Content-Range": f"{start}-{start + count - 1}"}
        if not session.open:
            return headers, 404
        if start != size:
            return headers, 416
        return headers, None if count == len(data) else 400

    def _refused(self, session: Session, answer: Answer, status: int) -> None:
        assert answer.status == status, answer.body
        if status == 416:
            assert answer.header("location") == session.location
            assert answer.header("range") == (session.last_byte if session.kept else None)

    def append_with_a_broken_content_range(self, session: Session, header: str) -> None:
        answer = self.ask("PATCH", session.location, body=b"a", headers={"Content-Range": header})
        assert answer.status == (400 if session.open else 404)

    def vanish_while_appending(self, session: Session, data: bytes, at: int) -> None:
        """What arrived is kept, and told truthfully."""
        arrived = data[:at]
        body: Iterable[bytes | Gone] = [arrived, GONE]
        answer = self.runner.run(self.registry.ask("PATCH", session.location, body=body))
        if session.open:
            assert answer is None
            session.kept += arrived
        else:
            assert answer is not None
            assert answer.status == 404

    # PUT

    def finish(
        self, session: Session, data: bytes, place: str, length: str, algorithm: str
    ) -> None:
        """end-6: the rest, under the digest that would be right with it."""
        headers, status = self._content_range(session, data, place if data else "none", length)
        digest = digest_of(session.kept + data, algorithm)
        target = f"{session.location}?digest={digest}"
        answer = self.ask("PUT", target, body=data, headers=headers)
        if status is None:
            self.made(session.repository, digest, answer)
            self.keep(session.repository, digest, session.kept + data)
            session.open = False
        else:
            self._refused(session, answer, status)

    def finish_under_a_wrong_digest(
        self, session: Session, data: bytes, wrong: str, placed: bool
    ) -> None:
        """A digest that is none is seen before the body; one that is another's, after it. The body
        is kept only if it said where it belongs."""
        size = len(session.kept)
        placed = placed and bool(data)
        headers = {"Content-Range": f"{size}-{size + len(data) - 1}"} if placed else {}
        target = f"{session.location}?digest={wrong}"
        answer = self.ask("PUT", target, body=data, headers=headers)
        readable = wrong in ("sha256:" + "0" * 64, "sha512:" + "0" * 128)
        assert answer.status == (404 if readable and not session.open else 400)
        if readable and session.open and placed:
            session.kept += data

    def vanish_while_finishing(self, session: Session, data: bytes, at: int, placed: bool) -> None:
        """The same holds when the client has gone."""
        size = len(session.kept)
        headers = {"Content-Range": f"{size}-{size + len(data) - 1}"} if placed else {}
        target = f"{session.location}?digest={digest_of(session.kept + data)}"
        body: Iterable[bytes | Gone] = [data[:at], GONE]
        answer = self.runner.run(self.registry.ask("PUT", target, body=body, headers=headers))
        if session.open:
            assert answer is None
            session.kept += data[:at] if placed else b""
        else:
            assert answer is not None
            assert answer.status == 404

    def finish_without_a_digest(self, session: Session) -> None:
        assert self.ask("PUT", session.location).status == 400

    # GET and DELETE

    def status(self, session: Session, query: str) -> None:
        """end-13."""
        self._told(session, f"{session.location}{query}")

    def cancel(self, session: Session) -> None:
        """end-14."""
        assert self.ask("DELETE", session.location).status == (204 if session.open else 404)
        session.open = False

    def reach_for_it_from_another_repository(self, session: Session, method: str) -> None:
        other = next(name for name in REPOSITORIES if name != session.repository)
        id = session.location.rpartition("/")[2]
        target = f"/v2/{other}/blobs/uploads/{id}?digest={digest_of(session.kept)}"
        body = b"x" if method == "PATCH" else None
        answer = self.ask(method, target, body=body)
        assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")

    def delete_blob(self, repository: str, data: bytes, algorithm: str) -> None:
        """end-10. What another repository holds stays there."""
        digest = digest_of(data, algorithm)
        answer = self.ask("DELETE", f"/v2/{repository}/blobs/{digest}")
        if self.blobs[repository].pop(digest, None) is not None:
            assert answer.status == 202
        else:
            self._not_here(repository, answer)

    def pull(self, repository: str, data: bytes, algorithm: str) -> None:
        """end-2: also what was only uploaded in part, or to the other one."""
        digest = digest_of(data, algorithm)
        answer = self.ask("GET", f"/v2/{repository}/blobs/{digest}")
        if digest in self.blobs[repository]:
            assert (answer.status, answer.body) == (200, data)
            assert answer.header("docker-content-digest") == digest
        else:
            self._not_here(repository, answer)

    def _not_here(self, repository: str, answer: Answer) -> None:
        code = "BLOB_UNKNOWN" if repository in self.known else "NAME_UNKNOWN"
        assert (answer.status, answer.code) == (404, code)

    # What is always true

    def every_session_is_where_the_model_has_it(self) -> None:
        for session in self.every:
            self._told(session, session.location)

    def _told(self, session: Session, target: str) -> None:
        answer = self.ask("GET", target)
        assert answer.status == (204 if session.open else 404)
        if session.open:
            assert answer.header("range") == session.last_byte
            assert answer.header("location") == session.location

    def every_blob_can_be_pulled_and_no_other(self) -> None:
        for name, held in self.blobs.items():
            for digest in {digest for other in self.blobs.values() for digest in other}:
                answer = self.ask("GET", f"/v2/{name}/blobs/{digest}")
                assert answer.status == (200 if digest in held else 404)
                assert answer.status == 404 or answer.body == held[digest]
