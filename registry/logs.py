"""One log, on standard error: a JSON object a line, or text for a terminal.

Line breaks, control and non-ASCII characters of a client can only appear escaped, and no header,
query or body is ever logged, so neither a forged line nor a secret gets in.
"""

from __future__ import annotations

import logging
import sys

import structlog

from registry.settings import LogSettings


def configure(settings: LogSettings) -> None:
    """Send structlog's and the standard library's records the same way."""
    text = settings.format == "text" or (settings.format == "auto" and sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    before: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = (
        # The default shows the locals of each frame, and among them are passwords.
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
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
