"""The pages. Words and forms only: every rule is asked of scheduler/, as the API asks it."""

from flask import Flask

from scheduler import doors
from scheduler.doors import Asks, Door
from web import (
    accesses,
    account,
    consent,
    elsewhere,
    escorting,
    feeds,
    hooks,
    passkeys,
    patient,
    questions,
    signing_in,
    stopping,
    summing,
)

PAGES = (
    patient,
    questions,
    consent,
    summing,
    accesses,
    escorting,
    stopping,
    hooks,
    feeds,
    signing_in,
    account,
    passkeys,
    elsewhere,
)

LOOKS = Door(Asks.NOTHING, "How pages look and what their buttons do is the same for everybody.")


def init_app(app: Flask) -> None:
    """Mount the pages."""
    for page in PAGES:
        app.register_blueprint(page.blueprint)
    doors.mark_of_others(app.view_functions, LOOKS, "patient.static")
