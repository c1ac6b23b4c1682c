"""Words: what every kind of message says. Warm, plain, one thing to do, and nothing that betrays.

A mail is read over shoulders and kept for years. So no text names a drug, a dose, a diagnosis
or a kind of therapy; what to do stands behind the link. The greeting and the signature are
added in templates.py. `$visits` stands for a line for each visit where there are several.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from models.vocabulary import MessageKind as Kind
from models.vocabulary import Recipient


@dataclass(frozen=True, slots=True)
class Words:
    """One template: of a mail, its subject and body; and the same in a text message."""

    subject: str
    body: str
    sms: str = ""


_WHERE = "$day\n$time\n$site, $address"

PATIENT: Mapping[Kind, Words] = {
    Kind.CONFIRMATION: Words(
        "Your appointment on $day",
        "your appointment is booked:\n\n" + _WHERE + "\n\nEverything about it, and what to do "
        "before you come, is here:\n\n$link\n\nIf the time does not suit you, tell us on that "
        "page, or call $phone.",
        "$clinic: you are booked, $day, $time. $link Reply 1: I will come, 2: another time. "
        "STOP ends these texts.",
    ),
    Kind.PACKET: Words(
        "Getting ready for $day",
        "your appointment is in a few days:\n\n" + _WHERE + "\n\nWhat to expect, what to bring "
        "and what to do before is here. Reading it takes ten minutes, best done now:\n\n$link"
        "\n\nQuestions? Call $phone.",
        "$clinic: how to get ready for $day: $link",
    ),
    Kind.CHECKLIST_REQUEST: Words(
        "A few things before your appointment",
        "there are a few things to do before your appointment on $day. They take some minutes:"
        "\n\n$link\n\nQuestions? Call $phone.",
        "$clinic: a few things to do before $day: $link",
    ),
    Kind.CHECKLIST_NUDGE: Words(
        "Still to do before $day",
        "some things on your list for $day are still open. Without them we may have to find "
        "another time:\n\n$link\n\nIf something keeps you from it, call $phone. We will help.",
        "$clinic: some things are still open before $day: $link",
    ),
    Kind.OVERVIEW: Words(
        "Your week with us",
        "this is what is planned:\n\n" + _WHERE + "\n\nYour page:\n\n$link\n\nIf the time does "
        "not suit you, call $phone.",
        "$clinic: next for you: $day, $time. $link",
    ),
    Kind.REMINDER: Words(
        "Reminder: your appointment on $day",
        "we look forward to seeing you:\n\n" + _WHERE + "\n\nPlease check that your list is "
        "done:\n\n$link\n\nQuestions? Call $phone.",
        "$clinic: reminder, $day, $time. $link",
    ),
    Kind.CONFIRM_REQUEST: Words(
        "Will you come on $day?",
        "please tell us that you will come:\n\n$link\n\n" + _WHERE + "\n\nIf you cannot come, "
        "the same page lets you ask for another time.",
        "$clinic: will you come $day, $time? Reply 1: yes, 2: another time. $link",
    ),
    Kind.DAY_OF: Words(
        "See you on $day, $time",
        "see you soon:\n\n" + _WHERE + "\n\nPlease come 15 minutes early. Your page:\n\n$link"
        "\n\nRunning late? Call $phone.",
        "$clinic: see you $day, $time, 15 minutes early, please. $site, $address. Late? $phone",
    ),
    Kind.MOVED: Words(
        "Your appointment has a new time: $day",
        "your appointment was moved. The new time is:\n\n" + _WHERE + "\n\nThis replaces the "
        "time we told you before. Please look at your page again:\n\n$link\n\nIf the new time "
        "does not suit you, call $phone.",
        "$clinic: your appointment was moved to $day, $time. $link Does not suit? $phone",
    ),
    Kind.CANCELLATION: Words(
        "Your appointment on $day is cancelled",
        "your appointment on $day at $time is cancelled. You do not need to come."
        "\n\nTo find another time, call $phone.",
        "$clinic: your appointment on $day, $time is cancelled. You do not need to come. $phone",
    ),
    Kind.AFTERCARE: Words(
        "How are you today?",
        "thank you for coming. Take it slowly today, and leave the big decisions for another "
        "day.\n\nIf anything worries you, call $phone. Whom to call in an emergency stands on "
        "your page:\n\n$link",
        "$clinic: take it slowly today. Worried? Call $phone. $link",
    ),
    Kind.SAFETY_CHECK: Words(
        "Are you well? Please answer",
        "thank you for coming. Please tell us how you are today; one touch is enough:\n\n$link\n\n"
        "If we hear nothing we will call you. If anything worries you now, call $phone.",
        "$clinic: are you well? Reply 1: I am well, 2: please call me. $link",
    ),
    Kind.CHECK_BACK: Words(
        "Thinking of you",
        "how are you? A short note on what you noticed these days is worth keeping, and worth "
        "bringing along next time.\n\nIf you would like to talk sooner, call $phone.",
        "$clinic: how are you? A short note on these days is worth keeping. Talk? $phone",
    ),
    Kind.QUESTIONNAIRE_DUE: Words(
        "Some questions before we meet",
        "please answer some questions before $day. They take five minutes, and help us to see "
        "how things change:\n\n$link",
        "$clinic: some questions before $day, five minutes: $link",
    ),
    Kind.GATE_REOPENED: Words(
        "Before $day: something to settle once more",
        "something that was settled for your appointment on $day has to be settled once more. We "
        "will call you about it; you can also call us, $phone.\n\nYour page:\n\n$link",
        "$clinic: something has to be settled once more before $day. We will call you. $phone",
    ),
    Kind.VISIT_SUSPENDED: Words(
        "Before $day: please call us",
        "something for your appointment on $day, $time, is still open, so it cannot go ahead as "
        "it stands. Please look at your page, or call $phone before you come:\n\n$link\n\nWe "
        "keep the time for you until we have spoken.",
        "$clinic: $day, $time cannot go ahead as it stands: something is open. Please look, or "
        "call $phone before you come. $link",
    ),
    Kind.VISIT_RESUMED: Words(
        "All is settled: see you on $day",
        "what was open is settled, and your appointment goes ahead:\n\n" + _WHERE + "\n\nYour "
        "page:\n\n$link",
        "$clinic: all is settled, see you $day, $time. $link",
    ),
    Kind.TALK_AGAIN: Words(
        "Time to talk again",
        "we agreed to talk again about now. Please call $phone; we will find a time that suits "
        "you.",
        "$clinic: we agreed to talk again about now. Please call $phone to find a time.",
    ),
    Kind.OFFER: Words(
        "A time is free: $day",
        "a time that you may like has become free:\n\n" + _WHERE + "\n\nTo take it, or to let it "
        "go:\n\n$link\n\nPlease answer soon: others would like it too. Whatever you answer, you "
        "stay on our list until you have a time.",
        "$clinic: free for you: $day, $time. Reply 1: I take it, 2: no. Please answer soon. $link",
    ),
    Kind.OFFER_GONE: Words(
        "This time has gone: $day",
        "$day, $time, is not free any more: somebody was a little faster. You stay on our list, "
        "and we will write to you when another time is free.\n\nQuestions? Call $phone.",
        "$clinic: $day, $time has gone, somebody was faster. You stay on our list. $phone",
    ),
    Kind.NOTED: Words(
        "Thank you for your answer",
        "we have noted your answer. If something changes, call $phone.",
        "$clinic: thank you, noted. If something changes, call $phone.",
    ),
    Kind.DECLINED: Words(
        "We will look for another time",
        "your calendar told us that $day, $time, does not suit you, and has dropped it. We will "
        "call you to find another time; until then we keep this one for you.\n\nIf it suits you "
        "after all, call $phone.",
        "$clinic: noted, $day, $time does not suit you. We will call. $phone",
    ),
    Kind.OPTED_OUT: Words(
        "You will get no more e-mails from us",
        "we will not write to you by e-mail any more. What you need to know we will tell you in "
        "another way. If this was a mistake, call $phone.",
        "$clinic: you will get no more texts from us. Reply START to get them again. $phone",
    ),
    Kind.OPTED_IN: Words(
        "You will hear from us again",
        "from now on we will write to you by e-mail again. If this was a mistake, call $phone.",
        "$clinic: you will get our texts again. Message rates may apply. Reply STOP to end, "
        "HELP for help.",
    ),
    Kind.HELP: Words(
        "How to reach us",
        "you can reach us at $phone.",
        "$clinic: appointment messages. Call $phone. Reply STOP to end. Rates may apply.",
    ),
    Kind.EMERGENCY: Words(
        "Please call now",
        "$emergency\n\nSomebody from our team has been told and will call you.",
        "$emergency Somebody from our team has been told. $clinic $phone",
    ),
}

ESCORT: Mapping[Kind, Words] = {
    Kind.PICK_UP: Words(
        "Thank you for taking $patient home on $day",
        "$patient named you to take them home. Please be there at:\n\n$day\n$end_time\n$site, "
        "$address\n\nPlease tell us that you will come, or that you cannot:\n\n$link\n\nYou can "
        "also call $phone.",
        "$clinic: please take $patient home $day, $end_time, $site, $address. Tell us: $link",
    ),
    Kind.MOVED: Words(
        "A new time to take $patient home: $day",
        "the time at which $patient needs you has changed. It is now:\n\n$day\n$end_time\n$site, "
        "$address\n\nIf you cannot come, please call $phone.",
        "$clinic: new time to take $patient home: $day, $end_time. Cannot? $phone",
    ),
    Kind.CANCELLATION: Words(
        "You do not need to come on $day",
        "$patient does not need to be taken home on $day. Thank you for having been ready.",
        "$clinic: you do not need to take $patient home on $day. Thank you.",
    ),
}

STAFF: Mapping[Kind, Words] = {
    Kind.AGENDA: Words("Your day: $day", "today:\n\n$visits"),
    Kind.UNREADY: Words(
        "Not ready: $patient, $day",
        "the appointment of $patient on $day, $time, is not ready. Its readiness shows what is "
        "open, and who can settle it.",
    ),
    Kind.UNCONFIRMED: Words(
        "Not confirmed: $patient, $day",
        "$patient has not said that they will come on $day, $time. Please call; whether the "
        "appointment stands is for you to decide.",
    ),
    Kind.SAFETY_UNANSWERED: Words(
        "No answer yet: $patient",
        "$patient was asked how they are after $day and has not answered. Please call today.",
    ),
    Kind.CREDENTIAL_EXPIRING: Words(
        "A licence ends on $day",
        "$what ends on $day. Appointments after that day cannot be served under it.",
    ),
    Kind.INTEGRATION_UNBOOKED: Words(
        "Next appointment missing: $patient",
        "$patient was here on $day, and what belongs soon after is not booked, or not in time. The "
        "task in the list says what. Please find a time.",
    ),
    Kind.MESSAGE_FAILED: Words(
        "A message did not reach $patient",
        "something that $patient needs to know could not be delivered. What it is stands in "
        "the list of tasks. Please call.",
    ),
    Kind.CRISIS: Words(
        "Urgent: please call $patient now",
        "$patient has written something that may mean danger. The message stands in the inbox. "
        "Please call now.",
    ),
    Kind.GATE_REOPENED: Words(
        "Open: $patient, $day",
        "something for the appointment of $patient on $day, $time, is not settled any more, or "
        "waits for a decision. Its readiness shows what, and who can settle it.",
    ),
    Kind.VISIT_SUSPENDED: Words(
        "Suspended: $patient, $day",
        "the appointment of $patient on $day, $time, is not ready, and is suspended. It keeps its "
        "time. Please settle what is open, or call the patient and move or cancel it: its "
        "readiness shows what is open, and who can settle it.",
    ),
    Kind.VISIT_RESUMED: Words(
        "Goes ahead: $patient, $day",
        "what was open for the appointment of $patient on $day, $time, is settled. It goes ahead.",
    ),
    Kind.PAPERWORK_DUE: Words(
        "Still to be sent: $patient, $day",
        "something that is due after the appointment of $patient on $day is still open. Its "
        "checklist shows what, and until when.",
    ),
    Kind.ANSWERS_FLAGGED: Words(
        "Urgent: please look at what $patient answered",
        "$patient has answered something that a clinician must see today. The answers stand in "
        "the record, and a task in the list. Please look now.",
    ),
    Kind.INCIDENT: Words(
        "Urgent: something happened to $patient",
        "something happened to $patient that needs you now. What it is, and what to do, stands in "
        "the record, and a task in the list. Please look now.",
    ),
    Kind.BREAK_GLASS: Words(
        "A record was opened in an emergency",
        "somebody opened a patient's record in an emergency, with a reason. Who, whose and why "
        "stands in the list of such openings. Please look at it within a day.",
    ),
    Kind.WATCH_LATE: Words(
        "Please look after $patient now",
        "something that was to be looked at by now is not noted yet: $patient, at $site. Please "
        "look, and note it.",
    ),
}

USER: Mapping[Kind, Words] = {
    Kind.ACCOUNT_INVITATION: Words(
        "Your account with $clinic",
        "an account was made for you. To choose a password and come in:\n\n$link\n\nThe link "
        "works once, within three days. If you did not expect this, call $phone.",
    ),
    Kind.PASSWORD_RESET: Words(
        "Choose a new password",
        "somebody asked for a new password for your account. To choose one:\n\n$link\n\nThe "
        "link works once, within an hour. If it was not you, leave it: your password stays as it "
        "is.",
    ),
    Kind.ACCOUNT_CHANGED: Words(
        "Your account was changed",
        "how you sign in was changed: your password, or what you show beside it. If it was not "
        "you, call $phone at once.",
    ),
}

SEVERAL: Mapping[Kind, Words] = {
    Kind.CONFIRMATION: Words(
        "Your next $count appointments",
        "your appointments are booked:\n\n$visits\n\nEverything about them, and what to do "
        "before you come, is here:\n\n$link\n\nIf a time does not suit you, call $phone.",
        "$clinic: you are booked: $visits $link STOP ends these texts.",
    ),
    Kind.MOVED: Words(
        "$count of your appointments have new times",
        "some of your appointments were moved. The new times are:\n\n$visits\n\nThey replace the "
        "times we told you before. Please look at your page again:\n\n$link\n\nIf a new time "
        "does not suit you, call $phone.",
        "$clinic: your appointments were moved to: $visits $link Does not suit? $phone",
    ),
    Kind.CANCELLATION: Words(
        "$count of your appointments are cancelled",
        "these appointments are cancelled. You do not need to come:\n\n$visits\n\nTo find other "
        "times, call $phone.",
        "$clinic: these appointments are cancelled: $visits. You do not need to come. $phone",
    ),
    Kind.OVERVIEW: Words(
        "Your week with us",
        "this is what is planned:\n\n$visits\n\nYour page:\n\n$link\n\nIf a time does not suit "
        "you, call $phone.",
        "$clinic: next for you: $visits $link",
    ),
    Kind.REMINDER: Words(
        "Reminder: your next $count appointments",
        "we look forward to seeing you:\n\n$visits\n\nPlease check that your list is done:\n\n"
        "$link\n\nQuestions? Call $phone.",
        "$clinic: reminder: $visits $link",
    ),
}
"""For several visits in one message. Kinds that are not here are said one after the other."""

FRAME = {
    "greeting": "Hello $name,",
    "button": "Open your page",
    "why": "You get this because you have appointments with $clinic.",
    "unsubscribe": "No more e-mails of this kind",
    "also": "And also:",
    "mixed": "News about your appointments",
    "mixed_sms": "$clinic: there is news about your appointments: $link",
    "appointment": "Appointment at $clinic",
    "time": "$time ($city time)",
    "visit": "$day, $time, $site",
    "visit_today": "$time, $site, $patient",
}
"""The little words around."""


def words_for(kind: Kind, recipient: Recipient) -> Words:
    """The English words of a kind of message; KeyError if nothing of it is said to `recipient`."""
    return _BY_RECIPIENT[recipient][kind]


def kinds_to(recipient: Recipient) -> frozenset[Kind]:
    """What is ever said to `recipient`."""
    return frozenset(_BY_RECIPIENT[recipient])


_BY_RECIPIENT: Mapping[Recipient, Mapping[Kind, Words]] = {
    Recipient.PATIENT: PATIENT,
    Recipient.ESCORT: ESCORT,
    Recipient.PRACTITIONER: STAFF,
    Recipient.FRONT_DESK: STAFF,
    Recipient.USER: USER,
}
