"""The log shows no secret, also where something went wrong in whose hands one was."""

from __future__ import annotations

import logging

import pytest
import structlog

from registry import logs
from registry.config import load


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_traceback_does_not_show_what_was_in_the_variables(
    format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def sign_in(password: str) -> None:
        raise RuntimeError("it went wrong")

    try:
        logs.configure(load(flags={"log.format": format}).log)
        try:
            sign_in("canary-in-a-variable".upper())
        except RuntimeError as error:
            structlog.get_logger().error("failed", exc_info=error)
            logging.getLogger("library").error("failed too", exc_info=error)
    finally:
        structlog.configure(**before)
        root.handlers[:], root.level = handlers, level
    said = capsys.readouterr().err
    assert said.count("it went wrong") >= 2
    assert "CANARY" not in said
