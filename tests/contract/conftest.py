"""The service, as the tests of its parts have it."""

from tests.integration.conftest import app, clock

__all__ = ["app", "clock"]
