"""The pages. Words and forms only: every rule is asked of scheduler/, as the API asks it."""

from flask import Flask

from web import patient


def init_app(app: Flask) -> None:
    """Mount the pages."""
    app.register_blueprint(patient.blueprint)
