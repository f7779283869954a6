"""Every client as a person's hand: sign in, push, pull, list, copy and delete, by its commands.

What each one needs to know is where its account is: HOME and all that clients look up instead of
it lie in a directory of the test, so no credentials of whoever runs the tests are read or written.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, Final, Self, TypeAlias

import pytest

from tests.clients.test_engines import ENGINES, Engine, archive_of
from tests.clients.test_packages import ORAS_PY
from tests.clients.test_round_trips import CLIENTS
from tests.layouts import OCI_IMAGE, Layout
from tests.tools import require

Words: TypeAlias = list[str | Path]
User: TypeAlias = tuple[str, str]
"""Name and password."""


class Home:
    """An account on a machine, with nothing in it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.failed = False
        """Whether what ran last did."""
        # podman and buildah insist on the file that they are told to use
        (directory / "auth.json").write_text("{}")
        self.environment = {
            **os.environ,
            "HOME": str(directory),
            "DOCKER_CONFIG": str(directory / "docker"),
            "REGISTRY_AUTH_FILE": str(directory / "auth.json"),
            "XDG_CONFIG_HOME": str(directory / "config"),
            "XDG_CACHE_HOME": str(directory / "cache"),
            "REGCTL_CONFIG": str(directory / "regctl.json"),
            "COSIGN_PASSWORD": "of the key",
        }

    def run(self, *words: str | Path, stdin: str = "", ok: bool | None = True) -> str:
        """All that a program writes; it must succeed, or fail if not `ok`; None: either."""
        done = subprocess.run(
            [str(word) for word in words],
            cwd=self.directory,
            env=self.environment,
            input=stdin,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
        said = done.stdout
        if ok is not None and (done.returncode == 0) is not ok:
            pytest.fail(f"{words[0]} {words[1]} … ended with {done.returncode}:\n{said}")
        self.failed = done.returncode != 0
        return said


class Engines:
    """The storage of engines, and their daemons: they serve every test of a module."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._words: dict[str, Words] = {}
        self._loaded: dict[str, str] = {}

    def words(self, engine: Engine) -> Words:
        """What each command begins with."""
        if engine.program not in self._words:
            # Not pytest's directory: a socket's path has at most 107 bytes.
            home = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="spindle-"))
            self._words[engine.program] = self._stack.enter_context(engine.start(Path(home)))
        return self._words[engine.program]

    def image(self, engine: Engine, home: Home) -> str:
        """The name of an image that the engine has."""
        if engine.program not in self._loaded:
            layout = Layout(home.directory / "loaded")
            layout.tag(layout.filesystem(seed=4000 + ENGINES.index(engine)), "v1")
            ref = "127.0.0.1:1/loaded/image:v1"  # nobody is there
            archive = archive_of(engine, layout, "v1", ref, home.directory)
            home.run(*self.words(engine), *engine.load(archive, ref))
            self._loaded[engine.program] = ref
        return self._loaded[engine.program]


class Hand:
    """One client, used by one person. Names of repositories are without the registry's."""

    program: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    asks: ClassVar[bool] = True
    """Its login asks the registry; else it only writes down what it was told."""
    lists: ClassVar[bool] = True
    deletes: ClassVar[bool] = True
    copies: ClassVar[bool] = True
    """It has a command for it."""

    def __init__(self, home: Home, registry: str, engines: Engines) -> None:
        self.home = home
        self.registry = registry
        self.engines = engines
        self.prepare()

    @classmethod
    def of(cls, directory: Path, registry: str, engines: Engines) -> Self:
        for program in cls.needs or (cls.program,):
            require(program)
        return cls(Home(directory), registry, engines)

    def prepare(self) -> None:
        """Have something to push."""

    def ref(self, repository: str) -> str:
        return f"{self.registry}/{repository}:v1"

    def login(self, user: User, ok: bool = True) -> str:
        raise NotImplementedError

    def push(self, repository: str, ok: bool | None = True) -> str:
        """As v1."""
        raise NotImplementedError

    def pull(self, repository: str, ok: bool | None = True) -> str:
        raise NotImplementedError

    def tags(self, repository: str) -> str:
        raise NotImplementedError

    def copy(self, source: str, target: str) -> str:
        raise NotImplementedError

    def delete(self, repository: str, ok: bool = True) -> str:
        raise NotImplementedError


LOGIN: Final = ("-u", "NAME", "--password-stdin")


class Mover(Hand):
    """Of an image, between a layout and a registry."""

    signing: ClassVar[tuple[str, ...]]

    def prepare(self) -> None:
        [self.client] = [client for client in CLIENTS if client.program == self.program]
        self.layout = Layout(self.home.directory / "layout")
        self.layout.tag(self.layout.image(seed=4100 + CLIENTS.index(self.client)), "v1")
        self.pulled = 0

    def login(self, user: User, ok: bool = True) -> str:
        words = (
            word.replace("REGISTRY", self.registry).replace("NAME", user[0])
            for word in self.signing
        )
        return self.home.run(*words, stdin=user[1], ok=ok)

    def push(self, repository: str, ok: bool | None = True) -> str:
        words = self.client.copy_in(self.layout.directory, "v1", self.ref(repository))
        return self.home.run(*words, ok=ok)

    def pull(self, repository: str, ok: bool | None = True) -> str:
        self.pulled += 1
        into = self.home.directory / f"out-{self.pulled}"
        return self.home.run(*self.client.copy_out(self.ref(repository), into), ok=ok)

    def tags(self, repository: str) -> str:
        return self.home.run(*self.client.tags(f"{self.registry}/{repository}"))

    def copy(self, source: str, target: str) -> str:
        return self.home.run(*self.client.copy(self.ref(source), self.ref(target)))

    def delete(self, repository: str, ok: bool = True) -> str:
        return self.home.run(*self.client.delete(self.ref(repository)), ok=ok)


class Oras(Mover):
    program = "oras"
    signing = ("oras", "login", "--plain-http", *LOGIN, "REGISTRY")


class Crane(Mover):
    program = "crane"
    asks = False
    signing = ("crane", "auth", "login", *LOGIN, "REGISTRY")


class Skopeo(Mover):
    program = "skopeo"
    signing = ("skopeo", "login", "--tls-verify=false", *LOGIN, "REGISTRY")


class Regctl(Mover):
    program = "regctl"
    signing = (
        *("regctl", "--host", "reg=REGISTRY,tls=disabled", "registry", "login", "REGISTRY"),
        *("-u", "NAME", "--pass-stdin"),
    )


class Container(Hand):
    """An engine, whose login is like Docker's."""

    deletes = False
    lists = False
    login_options: ClassVar[tuple[str, ...]] = ("--tls-verify=false",)

    def prepare(self) -> None:
        [self.engine] = [engine for engine in ENGINES if engine.program == self.program]

    def command(self, words: Words, *, stdin: str = "", ok: bool | None = True) -> str:
        return self.home.run(*self.engines.words(self.engine), *words, stdin=stdin, ok=ok)

    def login(self, user: User, ok: bool = True) -> str:
        name, password = user
        options = ["login", *self.login_options, "-u", name, "--password-stdin", self.registry]
        return self.command(options, stdin=password, ok=ok)

    def push(self, repository: str, ok: bool | None = True) -> str:
        image = self.engines.image(self.engine, self.home)
        return self._push(image, repository, ok)

    def _push(self, image: str, repository: str, ok: bool | None) -> str:
        ref = self.ref(repository)
        self.command(self.engine.retag(image, ref))
        said = self.command(self.signed(self.engine.push(ref)), ok=ok)
        failed = self.home.failed
        self.command(self.engine.remove(ref))
        self.home.failed = failed
        return said

    def pull(self, repository: str, ok: bool | None = True) -> str:
        ref = self.ref(repository)
        said = self.command(self.signed(self.engine.pull(ref)), ok=ok)
        if not self.home.failed:
            self.command(self.engine.remove(ref))
        return said

    def copy(self, source: str, target: str) -> str:
        ref = self.ref(source)
        self.command(self.signed(self.engine.pull(ref)))
        said = self._push(ref, target, True)
        self.command(self.engine.remove(ref))
        return said

    def signed(self, words: Words) -> Words:
        return words


class Podman(Container):
    program = "podman"
    needs = ("podman", "skopeo")
    lists = True

    def tags(self, repository: str) -> str:
        name = f"{self.registry}/{repository}"
        return self.command(["search", "--tls-verify=false", "--list-tags", name])


class Buildah(Container):
    program = "buildah"
    needs = ("buildah", "skopeo")


class Docker(Container):
    program = "docker"
    needs = ("docker", "dockerd", "skopeo")
    login_options = ()

    def command(self, words: Words, *, stdin: str = "", ok: bool | None = True) -> str:
        config = ["--config", self.home.directory / "docker"]  # the last one counts
        return super().command([*config, *words], stdin=stdin, ok=ok)


class Ctr(Container):
    """Has no login: the name and the password are told with each command."""

    program = "ctr"
    needs = ("ctr", "containerd")
    asks = False

    def prepare(self) -> None:
        super().prepare()
        self.user: list[str] = []

    def login(self, user: User, ok: bool = True) -> str:
        self.user = ["--user", ":".join(user)]
        return ""

    def signed(self, words: Words) -> Words:
        return [*words[:2], *self.user, *words[2:]]


class Ctr2(Ctr):
    """Reads from hosts.toml how the registry is reached; the daemon does what it is told."""

    program = "ctr-2"
    needs = ("ctr-2", "containerd-2")

    def signed(self, words: Words) -> Words:
        hosts = self.home.directory / "hosts"
        where = hosts / self.registry
        where.mkdir(parents=True, exist_ok=True)
        (where / "hosts.toml").write_text(
            f'[host."http://{self.registry}"]\ncapabilities = ["pull", "resolve", "push"]\n'
        )
        options = [word for word in words if word != "--plain-http"]
        return super().signed([*options[:2], "--hosts-dir", hosts, *options[2:]])


class Helm(Hand):
    program = "helm"
    lists = False
    deletes = False
    copies = False

    def login(self, user: User, ok: bool = True) -> str:
        name, password = user
        words = ("helm", "registry", "login", "--plain-http", "-u", name, "--password-stdin")
        return self.home.run(*words, self.registry, stdin=password, ok=ok)

    def push(self, repository: str, ok: bool | None = True) -> str:
        parent, _, name = repository.rpartition("/")
        source = self.home.directory / name
        source.mkdir(exist_ok=True)
        (source / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: 1.0.0\n")
        self.home.run("helm", "package", source)
        address = f"oci://{self.registry}/{parent}"
        return self.home.run("helm", "push", "--plain-http", f"{name}-1.0.0.tgz", address, ok=ok)

    def pull(self, repository: str, ok: bool | None = True) -> str:
        address = f"oci://{self.registry}/{repository}"
        words = ("helm", "pull", "--plain-http", "--version", "1.0.0", "-d", "out", address)
        (self.home.directory / "out").mkdir(exist_ok=True)
        return self.home.run(*words, ok=ok)


class OrasPy(Hand):
    """Signs in for as long as a program runs, so with each command.

    Pulls with tokens. Not so what it pushes: it asks for a token to pull when it looks for a blob,
    and shows that one for ever (0.2.43), so that no registry that heeds scopes lets it push.
    """

    program = "oras-py"
    asks = False
    copies = False

    SCRIPT = ORAS_PY.replace(
        "client = oras.client.OrasClient(insecure=True)",
        """
import os, time
time.sleep = lambda seconds: None  # it would wait for two minutes to be refused five times
signed = "ORAS_USER" in os.environ
backend = "basic" if signed and verb in ("push", "delete") else "token"
client = oras.client.OrasClient(insecure=True, auth_backend=backend)
if signed:
    user, password = os.environ["ORAS_USER"], os.environ["ORAS_PASSWORD"]
    client.login(user, password, hostname=ref.partition("/")[0])
""",
    )

    def login(self, user: User, ok: bool = True) -> str:
        self.home.environment |= {"ORAS_USER": user[0], "ORAS_PASSWORD": user[1]}
        return ""

    def _run(self, verb: str, ref: str, *rest: str | Path, ok: bool | None = True) -> str:
        script = ("oras-py", "-W", "ignore", "-c", self.SCRIPT)
        return self.home.run(*script, verb, ref, *rest, ok=ok)

    def push(self, repository: str, ok: bool | None = True) -> str:
        (self.home.directory / "file").write_text("of oras-py")
        return self._run("push", self.ref(repository), "file", ok=ok)

    def pull(self, repository: str, ok: bool | None = True) -> str:
        return self._run("pull", self.ref(repository), self.home.directory / "out", ok=ok)

    def tags(self, repository: str) -> str:
        return self._run("tags", f"{self.registry}/{repository}")

    def delete(self, repository: str, ok: bool = True) -> str:
        return self._run("delete", f"{self.registry}/{repository}", "v1", ok=ok)


class OciClient(Hand):
    """What Spin pushes and pulls with; it signs in with each command."""

    program = "oci-client"
    asks = False
    deletes = False

    def prepare(self) -> None:
        (self.home.directory / "config.json").write_text("{}")
        (self.home.directory / "layer").write_text("of the crate")

    def login(self, user: User, ok: bool = True) -> str:
        self.home.environment |= {"OCI_USER": user[0], "OCI_PASSWORD": user[1]}
        return ""

    def push(self, repository: str, ok: bool | None = True) -> str:
        words = ("oci-client", "push", self.ref(repository), "config.json", "layer")
        return self.home.run(*words, ok=ok)

    def pull(self, repository: str, ok: bool | None = True) -> str:
        return self.home.run("oci-client", "pull", self.ref(repository), "out", ok=ok)

    def tags(self, repository: str) -> str:
        return self.home.run("oci-client", "tags", f"{self.registry}/{repository}")

    def copy(self, source: str, target: str) -> str:
        self.pull(source)
        return self.push(target)


class Curl(Hand):
    """A password with each request, whatever the challenge says; what it pushes is an index."""

    program = "curl"
    copies = False
    TYPE = "application/vnd.oci.image.index.v1+json"

    def prepare(self) -> None:
        self.netrc = self.home.directory / "netrc"
        self.netrc.write_text("")

    def ask(self, path: str, *more: str | Path, ok: bool | None = True) -> str:
        words = ("curl", "--silent", "--show-error", "--fail-with-body")
        return self.home.run(*words, *more, f"http://{self.registry}{path}", ok=ok)

    def _ask(self, path: str, *more: str, ok: bool | None = True) -> str:
        return self.ask(f"/v2/{path}", "--netrc-file", self.netrc, *more, ok=ok)

    def login(self, user: User, ok: bool = True) -> str:
        name, password = user
        self.netrc.write_text(f'machine 127.0.0.1 login {name} password "{password}"\n')
        return self._ask("", ok=ok)

    def push(self, repository: str, ok: bool | None = True) -> str:
        index = json.dumps({"schemaVersion": 2, "mediaType": self.TYPE, "manifests": []})
        words = ("-X", "PUT", "-H", f"Content-Type: {self.TYPE}", "--data-binary", index)
        return self._ask(f"{repository}/manifests/v1", *words, ok=ok)

    def pull(self, repository: str, ok: bool | None = True) -> str:
        return self._ask(f"{repository}/manifests/v1", ok=ok)

    def tags(self, repository: str) -> str:
        return self._ask(f"{repository}/tags/list")

    def delete(self, repository: str, ok: bool = True) -> str:
        return self._ask(f"{repository}/manifests/v1", "-X", "DELETE", ok=ok)


def _image() -> tuple[bytes, str]:
    """An image of nothing: a manifest, and its digest."""
    empty = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}",
        "size": 2,
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "artifactType": "application/vnd.example",
        "config": empty,
        "layers": [empty],
    }
    data = json.dumps(manifest).encode()
    return data, f"sha256:{hashlib.sha256(data).hexdigest()}"


MANIFEST, IMAGE = _image()


class Signer(Hand):
    """To push is to sign the image under v1, to pull is to verify its signature."""

    def ref(self, repository: str) -> str:
        return f"{self.registry}/{repository}@{IMAGE}"


class Cosign(Signer):
    program = "cosign"
    asks = False

    def prepare(self) -> None:
        self.keys = self.home.directory.with_name("cosign-keys")
        if not self.keys.exists():
            self.keys.mkdir()
            self.home.run("cosign", "generate-key-pair", "--output-key-prefix", self.keys / "key")

    def login(self, user: User, ok: bool = True) -> str:
        words = ("cosign", "login", self.registry, "-u", user[0], "--password-stdin")
        return self.home.run(*words, stdin=user[1], ok=ok)

    def push(self, repository: str, ok: bool | None = True) -> str:
        options = ("--yes", "--tlog-upload=false", "--allow-http-registry")
        key = ("--key", self.keys / "key.key")
        return self.home.run("cosign", "sign", *options, *key, self.ref(repository), ok=ok)

    def pull(self, repository: str, ok: bool | None = True) -> str:
        options = ("--insecure-ignore-tlog", "--allow-http-registry")
        key = ("--key", self.keys / "key.pub")
        return self.home.run("cosign", "verify", *options, *key, self.ref(repository), ok=ok)


# Keeps what it is told in a file beside itself, as it is.
STORE: Final = """\
#!/bin/sh
kept=$0.json
case $1 in
store) cat >"$kept" ;;
get) cat >/dev/null; [ -e "$kept" ] || { echo credentials not found in native keychain; exit 1; }
  cat "$kept" ;;
*) exit 1 ;;
esac
"""


class Notation(Signer):
    """Keeps no password in a file by itself, so it is given a credential helper."""

    program = "notation"

    def prepare(self) -> None:
        directory = self.home.directory
        helper = directory / "docker-credential-kept"
        helper.write_text(STORE)
        helper.chmod(0o700)
        self.home.environment["PATH"] = f"{directory}:{self.home.environment['PATH']}"
        (directory / "docker").mkdir()
        (directory / "docker" / "config.json").write_text('{"credsStore": "kept"}')
        # All homes share the key, and trust it.
        shared = str(directory.with_name("notation-keys"))
        self.home.environment["XDG_CONFIG_HOME"] = shared
        if not Path(shared).exists():
            self.home.run("notation", "cert", "generate-test", "--default", "signer.example")
            policy = {
                "name": "all",
                "registryScopes": ["*"],
                "signatureVerification": {"level": "strict"},
                "trustStores": ["ca:signer.example"],
                "trustedIdentities": ["*"],
            }
            file = directory / "policy.json"
            file.write_text(json.dumps({"version": "1.0", "trustPolicies": [policy]}))
            self.home.run("notation", "policy", "import", file)

    def login(self, user: User, ok: bool = True) -> str:
        options = ("--insecure-registry", "-u", user[0], "--password-stdin")
        return self.home.run("notation", "login", *options, self.registry, stdin=user[1], ok=ok)

    def push(self, repository: str, ok: bool | None = True) -> str:
        options = ("--insecure-registry", "--force-referrers-tag=false")
        return self.home.run("notation", "sign", *options, self.ref(repository), ok=ok)

    def pull(self, repository: str, ok: bool | None = True) -> str:
        words = ("notation", "verify", "--insecure-registry", self.ref(repository))
        return self.home.run(*words, ok=ok)


HANDS: Final[list[type[Hand]]] = [
    *(Oras, Crane, Regctl, Skopeo, Podman, Buildah, Docker, Ctr, Ctr2, Helm),
    *(OrasPy, OciClient, Curl),
]
SIGNERS: Final[list[type[Hand]]] = [Cosign, Notation]
