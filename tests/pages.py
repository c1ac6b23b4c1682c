"""A patient who follows the link of a mail and presses buttons, over real HTTP."""

import re
from email.message import EmailMessage

import requests


class Page:
    """One patient's page, opened from a mail."""

    def __init__(self, mail: EmailMessage, born: str = "1980-05-17") -> None:
        body = mail.get_body(("plain",))
        assert body is not None
        found = re.search(r"http://\S+/p/\S+", body.get_content())
        assert found is not None, body.get_content()
        self.base = found.group().rsplit("/p/", 1)[0]
        self.browser = requests.Session()
        self.told = self.browser.get(found.group(), timeout=30)
        year, month, day = born.split("-")
        self.press("birth-date", year=year, month=month, day=day)

    def press(self, button: str, **told: str) -> requests.Response:
        """Send the form of a button; what is shown then."""
        form = re.search(r'name="form" value="([^"]+)"', self.told.text)
        assert form is not None, self.told.text
        told = {"form": form.group(1), **told}
        answer = self.browser.post(f"{self.base}/p/{button}", data=told, timeout=60)
        self.told = answer
        return answer
