"""The frame: a message's text as HTML that reads well on a phone and to a screen reader.

Made from the plain text, so that the two never differ: a paragraph is a paragraph, a link that
stands alone is a button. Styles stand in the tags, because many clients drop style sheets; no
picture and nothing from another host is ever asked for.
"""

import re
from html import escape

_LINK = re.compile(r"https?://\S+")
_BODY = "margin:0;padding:24px 12px;background:#f4f2ee;color:#1f2a2e;font:17px/1.5 sans-serif"
_CARD = "max-width:34em;margin:0 auto;padding:24px;background:#ffffff;border-radius:12px"
_BUTTON = (
    "display:inline-block;padding:12px 22px;background:#1d5c63;color:#ffffff;"
    "border-radius:8px;text-decoration:none;font-weight:bold"
)
_SMALL = "max-width:34em;margin:16px auto 0;font-size:14px;color:#4a5559"


def html(
    title: str,
    body: str,
    button: str,
    footer: tuple[str, str, str] | None,
    language: str,
) -> str:
    """Write `body` as HTML. `footer`: why it came, how to have no more, and where."""
    paragraphs = "\n".join(_paragraph(part, button) for part in body.split("\n\n") if part.strip())
    small = ""
    if footer is not None:
        why, stop, link = map(escape, footer)
        small = f'<p style="{_SMALL}">{why} <a href="{link}" style="color:#1d5c63">{stop}</a></p>\n'
    return (
        f'<!doctype html>\n<html lang="{escape(language)}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n</head>\n<body style="{_BODY}">\n'
        f'<main style="{_CARD}">\n{paragraphs}\n</main>\n{small}</body>\n</html>\n'
    )


def _paragraph(told: str, button: str) -> str:
    told = told.strip()
    if _LINK.fullmatch(told):
        return f'<p><a href="{escape(told)}" style="{_BUTTON}">{escape(button)}</a></p>'
    return "<p>" + "<br>\n".join(_line(line) for line in told.split("\n")) + "</p>"


def _line(told: str) -> str:
    """A line, with its links as links."""
    parts, last = [], 0
    for found in _LINK.finditer(told):
        parts.append(escape(told[last : found.start()]))
        parts.append(f'<a href="{escape(found.group())}">{escape(found.group())}</a>')
        last = found.end()
    return "".join([*parts, escape(told[last:])])
