"""Writing: answers as JSON, by orjson."""

from typing import Any

import orjson
from flask import Response
from flask.json.provider import DefaultJSONProvider


class Writer(DefaultJSONProvider):
    """Writes answers. What is read is read by Python's own json, behind the guards."""

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """An answer with a JSON body."""
        told = self._prepare_response_obj(args, kwargs)
        return Response(_written(self, told), mimetype=self.mimetype)


def _written(provider: Writer, told: Any) -> bytes:
    try:
        return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)
    except TypeError:  # what it does not write: numbers beyond 64 bits, halves of characters
        return f"{provider.dumps(told)}\n".encode()
