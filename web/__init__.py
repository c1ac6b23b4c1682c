"""The pages. Words and forms only: every rule is asked of scheduler/, as the API asks it."""

from flask import Flask

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


def init_app(app: Flask) -> None:
    """Mount the pages."""
    for page in PAGES:
        app.register_blueprint(page.blueprint)
