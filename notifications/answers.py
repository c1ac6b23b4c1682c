"""Answers: what a patient's text message means.

Only a whole message counts as a keyword; anything longer is for people to read. The words that
stop messages are the law's (CANCEL and END among them), which is why no question of ours may be
answered with one of them.
Source: facts 6c of the clinical study (47 CFR 64.1200, carriers' rules); words of crisis are
cautious on purpose: a false alarm costs a call.
"""

import re

from models.vocabulary import MessageKind, ReplyMeaning

STOP = frozenset(
    {
        *("stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit", "revoke"),
        *("optout", "opt out", "opt-out", "remove", "baja", "parar", "alto", "cancelar"),
    }
)
START = frozenset({"start", "unstop", "subscribe", "alta", "empezar"})
HELP = frozenset({"help", "info", "ayuda"})
YES = frozenset({"1", "yes", "y", "yes.", "ok", "si", "sí", "confirm", "c"})
NO = frozenset({"no", "n", "no thanks", "no, gracias", "no gracias"})
OTHER_TIME = frozenset({"2", "move", "change", "otra hora"})

_CRISIS = re.compile(
    r"suicid|kill (my|him|her|them)self|kill me\b|end (it all|my life)|want to die|wanna die|"
    r"don'?t want to (live|be alive|be here)|hurt (my|him|her)self|self.?harm|cut(ting)? myself|"
    r"no reason to live|better off dead|overdos|can'?t breathe|chest pain|emergency|"
    r"matarme|quiero morir|no quiero vivir|hacerme daño|no puedo respirar|sobredosis|urgencia",
    re.IGNORECASE,
)


def read(body: str, asked: MessageKind | None, *, opted_out: bool) -> ReplyMeaning:
    """Tell what `body` means as an answer to what was asked last; None if nothing was."""
    if _CRISIS.search(body):
        return ReplyMeaning.CRISIS
    told = " ".join(body.casefold().split()).strip(" .!\"'")
    if told in STOP:
        return ReplyMeaning.STOP
    if told in START or (opted_out and told in {"yes", "y"}):
        return ReplyMeaning.START
    if told in HELP:
        return ReplyMeaning.HELP
    is_safety = asked is MessageKind.SAFETY_CHECK
    if asked in {MessageKind.OFFER, MessageKind.OFFER_GONE} and told in YES | OTHER_TIME | NO:
        return ReplyMeaning.ACCEPT if told in YES else ReplyMeaning.DECLINE
    if told in YES:
        return ReplyMeaning.WELL if is_safety else ReplyMeaning.CONFIRM
    if told in OTHER_TIME:
        return ReplyMeaning.CALL_ME if is_safety else ReplyMeaning.MOVE
    return ReplyMeaning.OTHER
