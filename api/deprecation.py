"""Deprecation: an old address goes on working, and says until when and what to use instead.

It says so in every answer and in the description.
Source: RFC 9745 (Deprecation), RFC 8594 (Sunset), RFC 8288 (Link).
"""

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any

from flask import Response, after_this_request
from werkzeug.http import http_date

from api.describing import describe

View = Callable[..., Any]


def deprecated(since: datetime, sunset: datetime, successor: str) -> Callable[[View], View]:
    """Let a view say that it is on its way out, whatever it answers.

    It may go after `sunset`; `successor` is the address to use from now on.
    """
    if sunset <= since:
        raise ValueError("It cannot go before it is outdated.")
    told = {
        "Deprecation": f"@{int(since.timestamp())}",
        "Sunset": http_date(sunset),
        "Link": f'<{successor}>; rel="successor-version", '
        '</api/docs/>; rel="deprecation"; type="text/html"',
    }

    def tell(response: Response) -> Response:
        response.headers.update(told)
        return response

    def decorate(view: View) -> View:
        @wraps(view)
        def saying(*args: Any, **kwargs: Any) -> Any:
            after_this_request(tell)
            return view(*args, **kwargs)

        describe(saying, outdated=told)
        return saying

    return decorate
