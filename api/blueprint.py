"""The blueprint of every resource: reads strictly, wherever a value comes from."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import flask_smorest
from marshmallow import RAISE
from webargs.flaskparser import FlaskParser

from api import describing, trail
from api.errors import MEDIA_TYPE, ProblemSchema


class StrictParser(FlaskParser):
    """Refuses what a schema does not know, in queries too; takes JSON as the guards read it."""

    DEFAULT_UNKNOWN_BY_LOCATION = {  # noqa: RUF012  # webargs declares it so
        **FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION,
        "query": RAISE,
    }

    def load_json(self, req: Any, schema: Any) -> Any:
        """The body, read once; an absent one is an empty object."""
        return req.get_json() if req.get_data() else {}


class Blueprint(flask_smorest.Blueprint):
    """A blueprint that reads strictly, and describes what its doors ask for."""

    ARGUMENTS_PARSER = StrictParser()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._prepare_doc_cbks.append(describing.tell)

    def _store_endpoint_docs(self, endpoint: str, obj: Any, *told: Any, **more: Any) -> None:
        """Describe a view under the name that it has now: some are made and named later."""
        describing.describe(obj, name=endpoint)
        super()._store_endpoint_docs(endpoint, obj, *told, **more)

    def alt_response(self, status_code: Any, **told: Any) -> Any:
        """Document another answer; a problem has a media type of its own."""
        schema = told.get("schema")
        if isinstance(schema, type) and issubclass(schema, ProblemSchema):
            told.setdefault("content_type", MEDIA_TYPE)
        return super().alt_response(status_code, **told)

    def arguments(self, schema: Any, **told: Any) -> Any:
        """Read with one schema, made here: one for each request would take as long as a query.

        A body in which nothing is needed need not be sent.
        """
        made = schema() if isinstance(schema, type) else schema
        needed = not made.partial and any(field.required for field in made.fields.values())
        return super().arguments(made, **{"required": needed, **told})

    def response(self, *args: Any, **told: Any) -> Any:
        """Answer with one schema; the audit trail hears how many things a list shows."""
        answering = super().response(*args, **told)

        def decorate(view: Callable[..., Any]) -> Any:
            @wraps(view)
            def counted(*args: Any, **kwargs: Any) -> Any:
                answer = view(*args, **kwargs)
                trail.note_shown(answer)
                return answer

            return answering(counted)

        return decorate
