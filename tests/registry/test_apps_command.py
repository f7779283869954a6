"""`spindle apps …`: the real command in a process of its own, against a real API and journal."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.api_server import ApiServer, digest_of, serving
from tests.servers import SPINDLE

ONE, TWO = str(digest_of(b"1")), str(digest_of(b"2"))


@dataclass
class Ended:
    status: int
    out: str
    err: str


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with serving(tmp_path) as running:
        yield running


async def start(*words: str, server: str) -> asyncio.subprocess.Process:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SPINDLE_")}
    return await asyncio.create_subprocess_exec(
        *(SPINDLE, *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment, "SPINDLE_SERVER": server, "TZ": "UTC", "COLUMNS": "100"},
    )


async def spindle(*words: str, server: str, stdin: bytes = b"") -> Ended:
    process = await start(*words, server=server)
    out, err = await asyncio.wait_for(process.communicate(stdin), 60)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def test_the_list_shows_what_is_live_and_what_was_pushed_last(server):
    await server.make_live(await server.push("acme/hello", b"1"))
    await server.push("acme/hello", b"2")
    await server.push("zeta/other", b"3")
    for words in (["apps"], ["apps", "list"]):
        ended = await spindle(*words, server=server.url)
        assert ended.status == 0, ended.err
        lines = [re.split(r"\s{2,}", line) for line in ended.out.splitlines()]
        assert lines[0] == ["APP", "LIVE", "PUSHED LAST", "PHASE", "AGE", "URL"]
        assert lines[1][:4] == ["acme/hello", "revision 1", "revision 2", "received"]
        assert lines[1][5] == "http://hello.acme.apps.example/"
        assert lines[2][:2] == ["zeta/other", "nothing"]


async def test_an_empty_list_says_what_to_do(server):
    ended = await spindle("apps", server=server.url)
    assert "spindle demo" in ended.out


async def test_show_tells_why_a_revision_failed_in_whole_lines(server):
    await server.make_live(await server.push("acme/hello", b"1"))
    reason = "the component traps: unreachable\n" + "word " * 60
    await server.fail(await server.push("acme/hello", b"2", "v2"), reason)
    ended = await spindle("apps", "show", "acme/hello", server=server.url)
    assert ended.status == 0, ended.err
    assert f"live       revision 1, {ONE}" in ended.out
    assert re.search(r"^2 +failed +v2 +sha256:[0-9a-f]{12} +2026-", ended.out, re.M) or re.search(
        r"^2 +failed +v2 ", ended.out, re.M
    )
    assert "revision 2 failed:\n    the component traps: unreachable\n    word word" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 100


async def test_show_json_is_what_the_api_says(server):
    await server.push("acme/hello", b"1")
    ended = await spindle("apps", "show", "acme/hello", "--json", server=server.url)
    assert json.loads(ended.out) == (await server.ask("/v1/apps/acme/hello"))[1]


async def test_control_characters_of_an_application_reach_no_terminal(server):
    await server.fail(await server.push("acme/hello"), "\x1b[2Jgone \u202e reversed \x07")
    for words in (("show", "acme/hello"), ("events", "acme/hello")):
        ended = await spindle("apps", *words, server=server.url)
        assert "\\x1b[2Jgone" in ended.out
        assert not {"\x1b", "\x07", "\u202e"} & set(ended.out)


async def test_events_are_told_in_the_order_in_which_they_happened(server):
    await server.make_live(await server.push("acme/hello"))
    ended = await spindle("apps", "events", "acme/hello", server=server.url)
    phases = re.findall(r"^\S+ \S+  revision 1 +(\w+)$", ended.out, re.M)
    assert phases[0] == "received"
    assert phases[-1] == "live"


async def test_set_sends_values_from_the_command_line_a_file_and_standard_input(server, tmp_path):
    (tmp_path / "secret").write_text("from a file\n")
    ended = await spindle(
        *("apps", "set", "acme/hello", "plain=a=b", f"file=@{tmp_path / 'secret'}", "input=-"),
        *("--health-path", "/healthz"),
        server=server.url,
        stdin=b"from stdin\n",
    )
    assert ended.status == 0, ended.err
    assert "from" not in ended.out
    app = await server.journal.app(server.name("acme/hello"))
    assert dict(app.settings.variables) == {
        "plain": "a=b",
        "file": "from a file",
        "input": "from stdin",
    }
    assert app.settings.health_path == "/healthz"


async def test_set_removes(server):
    await spindle(
        "apps", "set", "acme/hello", "a=1", "b=2", "--health-path", "/h", server=server.url
    )
    ended = await spindle(
        "apps", "set", "acme/hello", "--unset", "a", "--health-path", "", server=server.url
    )
    assert ended.status == 0, ended.err
    app = await server.journal.app(server.name("acme/hello"))
    assert dict(app.settings.variables) == {"b": "2"}
    assert app.settings.health_path is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["set", "acme/hello"], "nothing to set"),
        (["set", "acme/hello", "novalue"], "not NAME=VALUE"),
        (["set", "acme/hello", "A=1"], "lower-case"),
        (["set", "acme/hello", "a=@/does/not/exist"], "cannot be read"),
        (["set", "ACME/hello", "a=1"], "not a repository name"),
        (["show", "../x"], "not a repository name"),
        (["show", "acme/absent"], "there is no app acme/absent"),
        (["wait", "acme/hello", "--digest", "latest"], "not a digest"),
    ],
)
async def test_what_cannot_work_is_told_in_one_sentence_on_standard_error(server, words, says):
    ended = await spindle("apps", *words, server=server.url)
    assert ended.status in (1, 2)
    assert ended.out == ""
    assert ended.err.startswith("spindle: ")
    assert says in ended.err
    assert ended.err.count("\n") == 1


async def test_a_server_that_does_not_run_is_named_with_how_to_start_it():
    ended = await spindle("apps", server="http://127.0.0.1:1")
    assert ended.status == 2
    assert "nothing answers at http://127.0.0.1:1" in ended.err
    assert "spindle serve" in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("url", ["http://", "ftp://x", "http://[::1", "::"])
async def test_an_address_that_is_none_is_told(url):
    ended = await spindle("apps", server=url)
    assert ended.status == 2
    assert "Traceback" not in ended.err


async def test_another_kind_of_server_is_recognised():
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi")
        writer.close()

    other = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with other:
        ended = await spindle("apps", server=f"127.0.0.1:{other.sockets[0].getsockname()[1]}")
    assert ended.status == 2
    assert "not as Spindle" in ended.err


async def test_the_server_can_be_named_before_or_after_the_verb(server):
    await server.push("acme/hello")
    nobody = "http://127.0.0.1:1"
    for words in (
        ["apps", "--server", server.url],
        ["apps", "list", "--server", server.url],
        ["apps", "--server", server.url, "show", "acme/hello"],
    ):
        assert "acme/hello" in (await spindle(*words, server=nobody)).out


async def wait_for_line(process: asyncio.subprocess.Process, text: str) -> None:
    while text not in (line := (await process.stderr.readline()).decode()):
        assert line, f"never said {text!r}"


async def test_wait_ends_when_the_digest_is_live(server):
    revision = await server.push("acme/hello", b"1")
    process = await start("apps", "wait", "acme/hello", "--digest", ONE, server=server.url)
    await wait_for_line(process, "revision 1 is received")
    await server.make_live(revision)
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert b"revision 1 at http://hello.acme.apps.example/" in out


async def test_wait_is_patient_with_an_app_that_is_not_there_yet(server):
    process = await start("apps", "wait", "acme/hello", "--digest", ONE, server=server.url)
    await asyncio.sleep(0.5)  # it has asked by then, or this test proves less
    await server.make_live(await server.push("acme/hello", b"1"))
    await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0


async def test_wait_says_why_a_digest_failed(server):
    revision = await server.push("acme/hello", b"1")
    process = await start("apps", "wait", "acme/hello", "--digest", ONE, server=server.url)
    await wait_for_line(process, "revision 1 is received")
    await server.fail(revision, "needs a variable: api_key")
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert b"needs a variable: api_key" in err


async def test_wait_says_that_a_digest_was_superseded(server):
    await server.push("acme/hello", b"1")
    process = await start("apps", "wait", "acme/hello", "--digest", ONE, server=server.url)
    await wait_for_line(process, "revision 1 is received")
    await server.push("acme/hello", b"2")
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert b"superseded" in err


async def test_wait_believes_an_old_verdict_only_when_the_deployer_had_time(server):
    """The same digest, pushed again after it failed: its new revision is not there yet."""
    await server.fail(await server.push("acme/hello", b"1"), "no luck")
    process = await start("apps", "wait", "acme/hello", "--digest", ONE, server=server.url)
    await wait_for_line(process, "revision 1 is failed")
    await server.make_live(await server.push("acme/hello", b"1"))
    await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    await server.fail(await server.push("acme/hello", b"2"), "no luck either")
    ended = await spindle("apps", "wait", "acme/hello", "--digest", TWO, server=server.url)
    assert ended.status == 1
    assert "no luck either" in ended.err


async def test_wait_gives_up_with_124(server):
    await server.push("acme/hello", b"1")
    ended = await spindle(
        "apps", "wait", "acme/hello", "--digest", ONE, "--timeout", "0.1", server=server.url
    )
    assert ended.status == 124
    assert "revision 1 is received" in ended.err


def write(log: Path, *lines: str) -> None:
    record = {"time": "2026-01-02T03:04:05.678+00:00", "component": "hello", "stream": "stdout"}
    with log.open("a") as file:
        file.writelines(json.dumps({**record, "line": line}) + "\n" for line in lines)


async def test_logs_are_lines_with_time_and_origin_and_nothing_else_happens(server):
    await server.push("acme/hello")
    log = server.log_of(await server.journal.app(server.name("acme/hello")))
    write(log, "a", "b", "forged\nline \x1b[31m")
    ended = await spindle("apps", "logs", "acme/hello", "--tail", "2", server=server.url)
    assert ended.out == (
        "2026-01-02 03:04:05  hello stdout  b\n"
        "2026-01-02 03:04:05  hello stdout  forged\\nline \\x1b[31m\n"
    )


async def test_logs_can_be_followed(server):
    await server.push("acme/hello")
    log = server.log_of(await server.journal.app(server.name("acme/hello")))
    write(log, "first")
    process = await start("apps", "logs", "acme/hello", "--follow", server=server.url)
    assert b"first" in await asyncio.wait_for(process.stdout.readline(), 30)
    write(log, "second")
    assert b"second" in await asyncio.wait_for(process.stdout.readline(), 30)
    process.terminate()
    await process.communicate()
