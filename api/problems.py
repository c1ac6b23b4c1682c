"""Problems: every code that an answer may carry, what it means, and what to do about it.

The `type` of a problem document is the address of its page here: `/problems/<code>`. The same
words are docs/problems.md; a test holds that no code is without them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, abort, make_response, render_template
from flask.typing import ResponseReturnValue

from api.errors import STATUS
from scheduler.doors import public

blueprint = Blueprint("problems", __name__, url_prefix="/problems", template_folder="templates")


@dataclass(frozen=True, slots=True)
class Problem:
    """A code, and what a person who meets it wants to know."""

    code: str
    status: int
    meaning: str
    advice: str

    @property
    def title(self) -> str:
        """As the document has it."""
        return self.code.replace("-", " ").capitalize()


_UNREADABLE = {
    "malformed": (
        400,
        "The request cannot be read: it is not JSON, nests too deep, or names a key twice.",
        "Send one JSON document in UTF-8, nested 32 deep at most, each key once, no NaN.",
    ),
    "malformed-idempotency-key": (
        400,
        "The Idempotency-Key is not one.",
        "Use 8 to 200 letters, digits and -_.: for it, new for each thing you want done.",
    ),
    "bad-request": (
        400,
        "The request does not follow HTTP.",
        "Look at how your client writes headers and lengths.",
    ),
    "unauthenticated": (
        401,
        "There is no valid key with the request: none, an unknown one, or one that ended.",
        "Send `Authorization: Bearer ag_...`; ask an admin of the clinic for a key.",
    ),
    "forbidden": (
        403,
        "The key works, but its permissions do not reach this door.",
        "Ask an admin for a key with this permission.",
    ),
    "address-not-allowed": (
        403,
        "The key works, but not from this network.",
        "Call from a network that the key names, or let an admin change its `networks`.",
    ),
    "method-not-allowed": (
        405,
        "This cannot be done to this address.",
        "The Allow header lists what can.",
    ),
    "still-running": (
        409,
        "The first request with this Idempotency-Key is still running.",
        "Wait as long as Retry-After says and send the same again: you get the first one's answer.",
    ),
    "request-too-large": (
        413,
        "The body is larger than 256 KiB.",
        "Send less at once; whole lists go through /imports.",
    ),
    "unsupported-media-type": (
        415,
        "The body is not said to be JSON.",
        "Send `Content-Type: application/json`.",
    ),
    "invalid": (
        422,
        "A field or parameter is missing, unknown, or not of its kind.",
        "`errors` points at each, and says what is wanted.",
    ),
    "idempotency-key-reused": (
        422,
        "This Idempotency-Key was used for another request.",
        "Use a new key for a new request; the old one only repeats the old request.",
    ),
    "unknown-reference": (
        422,
        "The request names something that is not in this clinic.",
        "Read it first; another clinic's things cannot be told from nothing.",
    ),
    "precondition-required": (
        428,
        "A change must say what the caller last saw.",
        "Read the thing, and send its ETag in If-Match.",
    ),
    "quota-exceeded": (
        429,
        "This caller, or all callers of the clinic together, asked too often in a minute.",
        "Wait as long as Retry-After says. RateLimit tells with each answer what is left.",
    ),
    "does-not-open": (
        500,
        "Something that is asked for is sealed, and does not open: it was changed in the database, "
        "or its key is gone. Nothing was changed by the request.",
        "Send `instance` to whoever runs the service: `seal.stuck` in the logs says where it is.",
    ),
    "internal": (
        500,
        "Something went wrong here. Nothing was changed.",
        "Send `instance` to whoever runs the service; it finds the fault in the logs.",
    ),
    "busy": (
        503,
        "Too much at once, or the database is away. Nothing is half done.",
        "Send the same again after Retry-After, with the same Idempotency-Key.",
    ),
}
"""What is not a rule's no: status, meaning, advice."""

_AFTER_REFUSAL = {
    "already-exists": "Choose another, or change the one that is there.",
    "at-capacity": "Choose another day or clinician, or give a reason for the cap in `reasons`.",
    "bad-calendar": "`errors` says which lines cannot be used, and why; mend or drop them.",
    "clinic-closed": "An admin takes out an archive: POST /archives. Reopening is the operator's.",
    "clinic-suspended": "Ask whoever runs the service for you.",
    "course-closed": "Open a new course for the patient.",
    "hold-expired": "Look for openings again; the time may still be free.",
    "key-ended": "Make a new key.",
    "limit-reached": "Disable or remove one, or ask whoever runs the service for more.",
    "may-not-override": "`who` names the roles that may; one of them gives the reason.",
    "no-opening": "Ask GET /openings what is free; a reason may open hours and caps.",
    "not-found": "Look at the id; it may be of another clinic, which cannot be told from nothing.",
    "not-open": "Choose a time within opening hours, or give a reason for `hours` in `reasons`.",
    "not-qualified": "Choose somebody whose licence holds on the day, or renew it first.",
    "not-ready": "`gates` lists what is open, since when, and who can settle it.",
    "not-signed": "Let a prescriber sign the version, or use one that is signed.",
    "not-own-page": "Send `X-CSRF-Token` as GET /session tells it, from our page; or use a key.",
    "not-proven": "Look at what you typed; a code is taken once, so wait for the next.",
    "nonexistent-local-time": "Take one of the two times that are told: before the gap, or after.",
    "off-grid": "Start on a multiple of five minutes, or of the clinic's own grid.",
    "offer-gone": "Look at GET /offers for what still stands.",
    "proposal-closed": "Ask for a new proposal.",
    "proposal-lost": "`lost` says which steps, and `proposals` are fresh ones to accept.",
    "rule-broken": "`rules` lists each; a reason in `reasons` passes over it where its role may.",
    "session-full": "Choose another session, or put the patient on the waitlist.",
    "slot-taken": "`openings` are free times nearby; book one of them.",
    "stale": "Read the thing again, look at what changed, and repeat with its new ETag.",
    "starts-in-the-past": "Choose a time ahead.",
    "step-already-booked": "Move the visit that is there instead.",
    "step-up-needed": "POST /session/step-up with a code or a passkey, then repeat.",
    "step-skipped": "Take the skipping back first: POST .../unskip.",
    "legal-hold": "Wait until the hold is lifted: POST .../release, with a reason.",
    "too-early": "Come back at the time that the answer names.",
    "too-late": "Move the visit first, to a time ahead.",
    "too-many-tries": "Wait as long as Retry-After says.",
    "too-many-holds": "Book or let go of some of the held times.",
    "too-many-webhooks": "Remove one that is not needed, or let one ask for more types.",
    "too-young": "The protocol is not for this patient; nobody may pass over it.",
    "understaffed": "Assign more staff to the session, or let fewer begin.",
    "unfit": "`field` names what does not fit, `detail` says why.",
    "unfit-assignment": "Take the assignments of an opening as they are, or leave them out.",
    "visits-under-way": "Wait until they have left, or say `during_visits` and why.",
    "weak-password": "Take some words that have no link, or a random password of a manager.",
    "wrong-status": "Read the visit: somebody may have moved it on already.",
}


def _catalog() -> Mapping[str, Problem]:
    told = {code: Problem(code, *rest) for code, rest in _UNREADABLE.items()}
    for refusal, status in STATUS.items():
        meaning = " ".join((refusal.__doc__ or "").split())
        advice = _AFTER_REFUSAL[refusal.code]
        told[refusal.code] = Problem(refusal.code, status, meaning, advice)
    return dict(sorted(told.items()))


CATALOG = _catalog()
"""By code, in the order of the alphabet."""


@blueprint.route("/", methods=["GET"])
@public("What an answer means is told to who got one.")
def list_problems() -> ResponseReturnValue:
    """Show all of them."""
    return _page(*CATALOG.values())


@blueprint.route("/<code>", methods=["GET"])
@public("What an answer means is told to who got one.")
def read_problem(code: str) -> ResponseReturnValue:
    """Show one: where the `type` of a problem document leads."""
    if code not in CATALOG:
        abort(404)
    return _page(CATALOG[code])


def _page(*problems: Problem) -> ResponseReturnValue:
    answer = make_response(render_template("problems.html", problems=problems))
    answer.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Cache-Control"] = "public, max-age=86400"
    return answer
