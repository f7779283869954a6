"""A platform that vouches for its workloads: discovery and keys over HTTPS, on this machine."""

from __future__ import annotations

import contextlib
import ipaddress
import json
from collections.abc import AsyncIterator
from typing import Any

from registry.auth.issuers import Federation
from registry.auth.outbound import Outbound
from registry.auth.trust import Issuer
from tests.registry.auth.certificates import Certificate
from tests.registry.auth.lines import Line, Server, response
from tests.registry.auth.minting import Signer

NOW = 1_790_000_000.0
AUDIENCE = "https://registry.example.org"
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Platform:
    """`keys` can be changed while it serves, `broken` says that it answers nothing of use."""

    def __init__(self, *signers: Signer) -> None:
        self.signers = list(signers)
        self.broken = False
        self.discovery: dict[str, Any] = {}
        self.server = Server(self._answer)
        self.clock = Clock(50_000.0)
        self.time = Clock(NOW)

    @contextlib.asynccontextmanager
    async def serving(self, certificate: Certificate) -> AsyncIterator[Platform]:
        async with self.server.serving(tls=certificate.server):
            self.authorities = certificate.file
            yield self

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server.port}"

    @property
    def asked(self) -> list[str]:
        return [head.split(b" ")[1].decode() for head in self.server.requests]

    def _answer(self, target: bytes) -> bytes:
        if self.broken:
            return response(b"", "503 Broken")
        if target == b"/.well-known/openid-configuration":
            known = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
            return response(json.dumps(known | self.discovery).encode())
        if target == b"/keys":
            return response(json.dumps({"keys": [one.jwk() for one in self.signers]}).encode())
        return response(b"", "404 Not Found")

    def issuer(self, **more: Any) -> Issuer:
        known = {"name": "local", "url": self.url, "networks": LOOPBACK}
        return Issuer(**{**known, "authorities": self.authorities, **more})

    def federation(self, **more: Any) -> Federation:
        return Federation(
            [self.issuer(**more)],
            audience=AUDIENCE,
            outbound=Outbound(connect=Line(self.server.port)),
            now=self.time,
            clock=self.clock,
        )

    def claims(self, **more: Any) -> dict[str, Any]:
        now = int(self.time.now)
        return {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "repo:acme/shop:ref:refs/heads/main",
            "iat": now,
            "nbf": now - 5,
            "exp": now + 300,
        } | more

    def token(self, **more: Any) -> str:
        return self.signers[0].token(self.claims(**more))

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.time.now += seconds
