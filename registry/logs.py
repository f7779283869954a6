"""One log, on standard error: a JSON object a line, or text for a terminal.

Line breaks, control and non-ASCII characters of a client can only appear escaped, and no header,
query or body is ever logged, so neither a forged line nor a secret gets in.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

import structlog

from registry.settings import LogSettings

_LINES: Final = ("exception", "stack")  # of several lines, which begin with blanks


def escape(
    logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """For a terminal, what JSON does by itself. A processor of structlog."""
    for name, value in event.items():
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            event[name] = (
                "\n".join(map(_escaped, value.split("\n"))) if name in _LINES else _escaped(value)
            )
    return event


def _escaped(text: str) -> str:
    return "".join(
        character if " " <= character <= "~" else character.encode("unicode_escape").decode()
        for character in text
    )


def configure(settings: LogSettings) -> None:
    """Send structlog's and the standard library's records the same way."""
    text = settings.format == "text" or (settings.format == "auto" and sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    before: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = (
        # The tracebacks of its own print the variables of every frame: passwords among them.
        [structlog.processors.format_exc_info, escape, structlog.dev.ConsoleRenderer()]
        if text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*before, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    # Libraries tell their own business at INFO; what happens here is told by us.
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
