"""The pages. Words and forms only: every rule is asked of scheduler/, as the API asks it."""

from flask import Flask

from web import accesses, consent, escorting, feeds, hooks, patient, questions, stopping, summing


def init_app(app: Flask) -> None:
    """Mount the pages."""
    for page in (patient, questions, consent, summing, accesses, escorting, stopping, hooks, feeds):
        app.register_blueprint(page.blueprint)
