"""Deprecation: an old address goes on working, and says until when and what to use instead.

Source: RFC 9745 (Deprecation), RFC 8594 (Sunset), RFC 8288 (Link).
"""

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any

from flask import make_response
from werkzeug.http import http_date

View = Callable[..., Any]


def deprecated(since: datetime, sunset: datetime, successor: str) -> Callable[[View], View]:
    """Let a view say that it is on its way out. Stands directly above the function.

    It may go after `sunset`; `successor` is the address to use from now on.
    """
    told = {
        "Deprecation": f"@{int(since.timestamp())}",
        "Sunset": http_date(sunset),
        "Link": f'<{successor}>; rel="successor-version"',
    }

    def decorate(view: View) -> View:
        @wraps(view)
        def saying(*args: Any, **kwargs: Any) -> Any:
            response = make_response(view(*args, **kwargs))
            response.headers.update(told)
            return response

        return saying

    return decorate
