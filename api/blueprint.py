"""The blueprint of every resource: reads strictly, wherever a value comes from."""

from typing import Any

import flask_smorest
from marshmallow import RAISE
from webargs.flaskparser import FlaskParser


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
    """A blueprint that reads strictly."""

    ARGUMENTS_PARSER = StrictParser()

    def arguments(self, schema: Any, **told: Any) -> Any:
        """Read with one schema, made here: one for each request would take as long as a query."""
        return super().arguments(schema() if isinstance(schema, type) else schema, **told)
