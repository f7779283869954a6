"""The http triggers of a locked app. Unknown keys are errors, as they are for Spin."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any

from registry.deploy.refusal import NotRunnable, listed, object_of, refuse
from storage.document import Object

_KEYS = frozenset({"component", "static_response", "route", "executor"})
_EXECUTORS = frozenset({"http", "spin", "wagi"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110, 5.6.2
_FIELD = re.compile(r"[\t -~\x80-\xff]*")  # RFC 9110, 5.5


def check_base(metadata: Object) -> None:
    """Spin 2 and later refuse a base; earlier ones wrote "/" always."""
    for value, where in (
        (object_of(metadata, "trigger", "metadata"), "metadata.trigger"),
        (
            object_of(object_of(metadata, "triggers", "metadata"), "http", "metadata"),
            "metadata.http",
        ),
    ):
        if value.get("base", "/") not in ("/", None):
            raise NotRunnable(
                f"the application has the base {str(value['base'])[:80]!r} in {where}; put it into"
                " the routes of the triggers instead and push it again"
            )


def check_http(config: Object, who: str, components: Set[str]) -> None:
    unknown = sorted(set(config) - _KEYS)
    if unknown:
        refuse(f"{who} has settings that no http trigger has: {listed(unknown)}")
    component, static = config.get("component"), config.get("static_response")
    if (component is None) == (static is None):
        refuse(f"{who} must have either a component or a static_response")
    if component is not None and not (isinstance(component, str) and component in components):
        refuse(f"{who} names component {component!r}, which the locked app does not have")
    if static is not None:
        _check_static(static, who)
    route = config.get("route")
    if not (isinstance(route, str) and route.startswith("/")) and route != {"private": True}:
        refuse(f"{who} has no route that begins with '/', nor is it private")
    executor = config.get("executor")
    if executor is not None:
        kind = executor.get("type") if isinstance(executor, dict) else executor
        if not isinstance(kind, str) or kind not in _EXECUTORS:
            raise NotRunnable(
                f"{who} asks for the executor {str(kind)[:80]!r}, which Spin does not have; leave"
                " it out of spin.toml and push it again"
            )


def _check_static(static: Any, who: str) -> None:
    if not isinstance(static, dict):
        refuse(f"the static_response of {who} is not an object")
    status = static.get("status_code")
    if status is not None and (type(status) is not int or not 200 <= status <= 599):
        refuse(f"the static_response of {who} has no status_code of 200 to 599")
    headers = object_of(static, "headers", f"the static_response of {who}")
    if not all(isinstance(text, str) and _FIELD.fullmatch(text) for text in headers.values()):
        refuse(f"the static_response of {who} has a header that is not plain text")
    if not all(_TOKEN.fullmatch(name) for name in headers):
        refuse(f"the static_response of {who} has a header with a name that HTTP does not allow")
    if not isinstance(static.get("body", ""), str | None):
        refuse(f"the static_response of {who} has a body that is not text")
