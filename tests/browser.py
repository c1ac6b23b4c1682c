"""A real Chromium, headless. Where there is none, tests that need it are skipped, never in CI."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from email.message import EmailMessage

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.ui import WebDriverWait

Chrome = webdriver.Chrome


@contextmanager
def chromium(*, javascript: bool = False) -> Iterator[Chrome]:
    """A phone-sized browser that may talk to this machine alone."""
    binary = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have chromium and chromedriver.")
        pytest.skip("needs chromium and chromedriver on PATH")
    options = Options()
    options.binary_location = binary
    with tempfile.TemporaryDirectory(
        prefix="afterglow-chromium-", ignore_cleanup_errors=True
    ) as profile:
        for flag in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=390,844",
            f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
        ):
            options.add_argument(flag)
        if not javascript:
            options.add_experimental_option(
                "prefs", {"profile.managed_default_content_settings.javascript": 2}
            )
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        browser = webdriver.Chrome(options=options, service=Service(driver))
        try:
            yield browser
        finally:
            browser.quit()


def prove(browser: Chrome, born: date) -> None:
    """Give the date of birth that opens the patient's page."""
    for name in ("month", "day", "year"):
        browser.find_element(By.NAME, name).send_keys(str(getattr(born, name)))
    press(browser, "Go on")


def press(browser: Chrome, told: str) -> None:
    """Press the first such button, and wait for the next page.

    Asked in the midst of the change of pages, the driver may answer with an error of its own.
    """
    button = buttons(browser, told)[0]
    button.click()
    wait = WebDriverWait(browser, 20, ignored_exceptions=[WebDriverException])
    wait.until(staleness_of(button))


def buttons(browser: Chrome, told: str) -> list[WebElement]:
    """The buttons that say so."""
    return browser.find_elements(By.XPATH, f"//button[text()='{told}']")


def link_in(mail: EmailMessage, page: str = "p") -> str:
    """The address of the patient's page in a mail, or of the escort's: `e`."""
    body = mail.get_body(("plain",))
    assert body is not None
    found = re.search(rf"http://\S+/{page}/\S+", body.get_content())
    assert found
    return found.group()
