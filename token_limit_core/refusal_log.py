"""Refusals in the logs of servers, frameworks, task queues and threads: one line in place of a traceback.

A refused call ends a stream, a task or a thread by an exception, which is the only way to end it. The code that runs it
logs every exception as an error. A refusal is no error: it was decided, and it is recorded.
"""

from __future__ import annotations

import logging
import sys
import threading

from .errors import refusal_in

logger: logging.Logger = logging.getLogger("token_limit")

SERVERS = (
    "asyncio", "daphne.server", "django.request", "gunicorn.error", "hypercorn.error", "uvicorn.error", "waitress",
    "werkzeug",
)  # fmt: skip
"""The loggers of web servers, and of what runs their tasks."""


class RefusalFilter(logging.Filter):
    """Demotes the record of a refusal, also of one that is wrapped in another exception.

    With `handled` the exception that is being handled counts too, for code that writes it into the text of the record.
    """

    def __init__(self, *, handled: bool) -> None:
        super().__init__()
        self._handled = handled

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass; rewrite that of a refusal."""
        if record.levelno < logging.ERROR:
            return True
        error = record.exc_info[1] if record.exc_info else sys.exception() if self._handled else None
        if (refused := refusal_in(error)) is not None:
            record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
            record.msg, record.args = "a call was refused: %s", (refused,)
            record.exc_info = record.exc_text = None
            vars(record).pop("color_message", None)  # uvicorn's own text
        return True


def calm_thread(args: threading.ExceptHookArgs) -> None:
    """Handle an exception that ends a thread (`threading.excepthook`): a refusal is one line, without a traceback.

    The level is WARNING, because nothing else shows that the thread has ended.
    """
    refused = refusal_in(args.exc_value)
    if refused is None:
        threading.__excepthook__(args)
    else:
        logger.warning("a call was refused, which ended %s: %s", args.thread and args.thread.name, refused)


_servers = RefusalFilter(handled=True)
_applications = RefusalFilter(handled=False)


def calm_servers(*loggers: str) -> None:
    """Filter the loggers of servers, or those given; calling it again changes nothing."""
    for name in loggers or SERVERS:
        logging.getLogger(name).addFilter(_servers)


def calm_application(logger: str) -> None:
    """Filter the logger of an application, which may log records of its own while it handles a refusal."""
    logging.getLogger(logger).addFilter(_applications)
