"""The REST API: words in, words out. No rule is decided here."""

from typing import Any

from flask import Flask
from flask_smorest import Api
from flask_swagger_ui import get_swaggerui_blueprint

from api import (
    acts,
    appointments,
    archives,
    boards,
    calendar_feeds,
    checklists,
    clearances,
    clinic,
    consents,
    courses,
    describing,
    disruptions,
    eligibility,
    emergencies,
    errors,
    exports,
    feeds,
    groups,
    guards,
    happenings,
    health,
    imports,
    incidents,
    instruments,
    keyring,
    limits,
    medicines,
    messages,
    mistakes,
    observations,
    openings,
    operating,
    outcomes,
    oversight,
    part2,
    patients,
    places,
    practitioners,
    preconditions,
    problems,
    proposals,
    protocols,
    providers,
    quota,
    repairs,
    reports,
    schedules,
    screening,
    signed_in,
    summaries,
    talk,
    tenants,
    together,
    users,
    visits,
    waitlist,
    webhook_deliveries,
    webhooks,
    words,
)
from scheduler import doors
from scheduler.doors import Asks, Door

RESOURCES = (
    clinic,
    places,
    practitioners,
    patients,
    part2,
    schedules,
    limits,
    feeds,
    calendar_feeds,
    clearances,
    checklists,
    consents,
    happenings,
    incidents,
    screening,
    medicines,
    protocols,
    courses,
    eligibility,
    proposals,
    together,
    repairs,
    disruptions,
    openings,
    appointments,
    acts,
    groups,
    visits,
    mistakes,
    boards,
    observations,
    instruments,
    outcomes,
    summaries,
    waitlist,
    messages,
    words,
    talk,
    keyring,
    oversight,
    webhooks,
    webhook_deliveries,
    emergencies,
    reports,
    imports,
    exports,
    archives,
    users,
    providers,
    signed_in,
    tenants,
)

SPEC: dict[str, Any] = {
    "API_TITLE": "Afterglow",
    "API_VERSION": "v1",
    "OPENAPI_VERSION": "3.1.0",
    "OPENAPI_URL_PREFIX": "/api",
    "OPENAPI_JSON_PATH": "openapi.json",
    "API_SPEC_OPTIONS": {
        "info": {
            "description": "Scheduling for ketamine-assisted therapy: courses, visits, readiness "
            "and messages. Errors are problem documents (RFC 9457).",
            "contact": {"name": "Whoever runs the service for the clinic"},
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"key": []}, {"session": []}],
        "servers": [{"url": "/", "description": "Where this document came from."}],
        "components": {
            "securitySchemes": {
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "__Host-afterglow",
                    "description": "A signed-in browser; what changes something also sends "
                    "X-CSRF-Token, as GET /api/v1/session tells it.",
                },
                "operator": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The key of whoever runs the service: Bearer op_...",
                },
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key: Authorization: Bearer ag_...",
                },
            }
        },
    },
}

DESCRIBED = Door(Asks.NOTHING, "How to call it stands in the open; nobody's data does.")


class ProblemApi(Api):
    """An Api that leaves errors to api/errors.py, and says so in its description."""

    ERROR_SCHEMA = errors.ProblemSchema

    def _register_error_handlers(self) -> None:
        """Errors have one home already."""

    def _register_pagination_header(self) -> None:
        """Pages are told of in their bodies: see api/pages.py."""

    def _register_responses(self) -> None:
        """Answers that many doors have: problems, in their own media type."""
        named = {**describing.REFUSALS, "DEFAULT_ERROR": "What else may be said; see `type`."}
        for name, said in {**named, "UNPROCESSABLE_ENTITY": "See `errors`."}.items():
            content = {errors.MEDIA_TYPE: {"schema": errors.ProblemSchema}}
            told = {"description": said, "content": content}
            self.spec.components.response(name, told, lazy=True)


def init_app(app: Flask) -> None:
    """Mount every resource, the guards, the one error handler, health and the docs."""
    app.config.update(SPEC)
    guards.init_app(app)
    errors.init_app(app)
    health.init_app(app)
    app.register_blueprint(problems.blueprint)
    app.after_request(preconditions.add_etag)
    operating.init_app(app)
    quota.init_app(app, app.config["REQUESTS_PER_MINUTE"])
    api = ProblemApi(app)
    for resource in RESOURCES:
        api.register_blueprint(resource.blueprint)
    docs = get_swaggerui_blueprint(
        "/api/docs", "/api/openapi.json", config={"app_name": "Afterglow", "validatorUrl": None}
    )
    app.register_blueprint(docs)
    doors.mark_of_others(app.view_functions, DESCRIBED, "swagger_ui.show", "api-docs.openapi_json")
