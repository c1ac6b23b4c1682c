"""Reports over REST: figures of a clinic by period and site, as JSON and as CSV.

What each figure means stands beside it here, in the description, and in docs/reports.md.
"""

from collections.abc import Callable
from typing import Any

from flask import Response, jsonify
from marshmallow import Schema, fields

from api import tables
from api.blueprint import Blueprint
from api.caller import now, requires
from api.errors import ProblemSchema
from api.fields import Day, Id
from models import db
from scheduler import reports
from scheduler.periods import By, Period
from scheduler.permissions import Permission
from scheduler.reports import Asked, Of, Report

blueprint = Blueprint("reports", __name__, url_prefix="/api/v1/reports", description="Figures.")


def _number(means: str) -> fields.Integer:
    return fields.Integer(metadata={"description": means})


def _maybe(means: str, kind: type[fields.Number[Any]] = fields.Float) -> fields.Number[Any]:
    return kind(allow_none=True, metadata={"description": means})


class FigureQuery(Schema):
    """Which days, where, and how they are put together."""

    from_ = Day(data_key="from", required=True, metadata={"description": "The first day."})
    to = Day(
        required=True,
        metadata={"description": "The day after the last; at most 400 days after the first."},
    )
    site_id = Id(load_default=None, metadata={"description": "One site; all if left out."})
    by = fields.Enum(
        By,
        by_value=True,
        load_default=By.TOTAL,
        metadata={"description": "Weeks begin on Mondays; what juts out is cut off."},
    )
    format = tables.asked_format("json", "csv")


class FigureSchema(Schema):
    """What a row is about: days at a site, by the site's own calendar."""

    period_from = Day(metadata={"description": "Its first day."})
    period_to = Day(metadata={"description": "The day after its last."})
    site = fields.String(
        allow_none=True, metadata={"description": "Null: of no site, by the clinic's calendar."}
    )
    site_id = Id(allow_none=True)


class UtilisationSchema(FigureSchema):
    """How much of the time for which a room or a role is open is booked."""

    of = fields.Enum(Of, by_value=True)
    name = fields.String(metadata={"description": "The room, or the role."})
    open_minutes = _number("Opening hours less closures, as they stand now, times lanes.")
    booked_minutes = _number("Time that visits and group sessions hold, lane by lane.")
    turnover_minutes = _number("Time after them that nobody else can have.")
    share = _maybe("booked / open; null where nothing was open.")
    share_with_turnover = _maybe("(booked + turnover) / open.")


class NoShowSchema(FigureSchema):
    """Who did not come, of the visits that start in the period."""

    kind = fields.String()
    kept = _number("The patient came.")
    no_shows = _number("The patient did not.")
    late_cancellations = _number(
        "Cancelled nearer to the start than the protocol's notice, or than 24 hours."
    )
    early_cancellations = _number("Cancelled before that. Moved visits are not cancelled.")
    still_booked = _number("Nothing was noted yet.")
    no_show_share = _maybe("no_shows / (kept + no_shows + late_cancellations).")
    late_cancellation_share = _maybe("late_cancellations / the same.")


class IntegrationWindowSchema(FigureSchema):
    """What became of the integrations that the protocol puts within a window after a dose."""

    doses = _number("Doses that were given in the period.")
    in_time = _number("All that hangs on the dose took place within its window.")
    outside = _number("All of it took place, some of it outside.")
    missing = _number("Some of it did not, and its window is over.")
    pending = _number("Some of it did not yet, and may still.")
    not_asked = _number("Nothing hangs on it, or all of it was skipped.")
    share = _maybe("in_time / (in_time + outside + missing).")


class ReportedDeliverySchema(FigureSchema):
    """What became of messages, counted where and when they were due."""

    kind = fields.String()
    channel = fields.String()
    state = fields.String()
    number = _number("Messages.")
    late_p50_seconds = _maybe("From due to sent: the median; negative if sent before.")
    late_p99_seconds = _maybe("From due to sent: 99 of 100 are no later.")


class ReadinessFigureSchema(FigureSchema):
    """Who was ready 48 hours before the start, as it was noted then."""

    kind = fields.String()
    visits = _number("Booked visits that were looked at then.")
    ready_for_arrival = _number("Of them, no gate of booking or arrival was unsettled.")
    ready_for_dose = _number("Of them, no gate up to the dose was.")
    not_noted = _number("Visits that nobody looked at within an hour of then.")
    share_for_arrival = _maybe("ready_for_arrival / visits.")
    share_for_dose = _maybe("ready_for_dose / visits.")


class FirstDoseSchema(FigureSchema):
    """How long it takes to a course's first dose, counted where and when that was given."""

    courses = _number("Courses whose first dose was given in the period.")
    referred = _number("Of them, those whose day of referral is known.")
    days_from_referral_p50 = _maybe("The median, in days.", fields.Integer)
    days_from_referral_p90 = _maybe("Nine of ten took no longer.", fields.Integer)
    days_from_opening_p50 = _maybe("The same since the course was opened.", fields.Integer)
    days_from_opening_p90 = _maybe("The same since the course was opened.", fields.Integer)


def _mount(name: str, row: type[Schema], report: Report) -> Callable[..., Any]:
    schema, columns = row(), list(row._declared_fields)
    shape = type(
        row.__name__.replace("Schema", "ReportSchema"),
        (Schema,),
        {
            "__doc__": f"A report. {row.__doc__}",
            "items": fields.List(fields.Nested(row), required=True),
        },
    )

    def read(asked: dict[str, Any]) -> Response:
        period = Period(asked["from_"], asked["to"], asked["by"])
        found = reports.lines(db.session(), report, Asked(period, asked["site_id"], now()))
        told: Any = schema.dump(found, many=True)
        if tables.wants_csv(asked["format"]):
            return tables.answer(name, columns, told)
        answer = jsonify({"items": told})
        answer.headers["Vary"] = "Accept"
        return answer

    more = "A part of the period with nothing to count has no row. As CSV by `Accept: text/csv`."
    read.__doc__ = f"{row.__doc__}\n\n{more}"
    read.__name__ = f"report_{name.replace('-', '_')}"
    view = blueprint.response(200, shape, description=row.__doc__)(read)
    view = blueprint.alt_response(422, schema=ProblemSchema, description="unfit")(view)
    view = blueprint.arguments(FigureQuery, location="query")(view)
    view = requires(Permission.REPORTS_READ)(view)
    mounted: Callable[..., Any] = blueprint.route(f"/{name}", methods=["GET"])(view)
    return mounted


for _name, _row, _report in (
    ("utilisation", UtilisationSchema, reports.utilisation),
    ("no-shows", NoShowSchema, reports.no_shows),
    ("integration-window", IntegrationWindowSchema, reports.integration_window),
    ("deliveries", ReportedDeliverySchema, reports.deliveries),
    ("readiness", ReadinessFigureSchema, reports.readiness),
    ("time-to-first-dose", FirstDoseSchema, reports.time_to_first_dose),
):
    _mount(_name, _row, _report)
