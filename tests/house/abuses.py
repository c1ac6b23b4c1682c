"""What is tried against the service, what it answers, and which test holds that.

`python -m tests.house.abuses` prints docs/abuses.md.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

HEAD = """# What is tried against it, and what it answers

Every line is an attack that services like this one have met, or that somebody would think of, and
the tests that try it: against a real PostgreSQL, through the door that an attacker would take.
Unless a line says otherwise the answer is a problem document (docs/problems.md) without a stack
trace and without a person in it, whoever was turned away is on the trail (docs/audit.md), and
nothing has changed. The numbers are names: tests carry them, and they stay.

Above all lines stands one test that is made of the service's own map of routes
(`tests/integration/test_matrix.py`): every route, asked by every role, by nobody, and with every
id once the clinic's own, once another clinic's, once nobody's. Another clinic's is answered as
nobody's is, byte for byte and by the same statements. A route that nobody told the test of fails
it; a route that does not say what it asks for keeps the service from starting
(`scheduler/doors.py`).

"""


@dataclass(frozen=True, slots=True)
class Abuse:
    """An attack, its answer, and its tests as `file::Class::test` below tests/."""

    number: int
    attack: str
    answer: str
    tests: tuple[str, ...]


MATRIX = "integration/test_matrix.py::"
PAGES = "integration/test_matrix_of_pages.py::"
HERE = "integration/test_abuses.py::"
IDENTITY = "integration/test_identity.py::"
TRIES = "integration/test_sign_in_tries.py::"
CONTRACT = "integration/test_api_contract.py::TestWhatCannotBeRead::"

ABUSES = (
    Abuse(
        1,
        "Read, change or remove another clinic's visit by its id",
        "404, as for an id of nobody, in every byte and in time",
        (f"{MATRIX}test_every_door_by_every_role",),
    ),
    Abuse(
        2,
        "Name another clinic's patient, room, practitioner in a body or a query",
        "As for an id of nobody: 404 or 422; composite foreign keys stand behind it",
        (f"{MATRIX}test_every_id_in_a_query_or_a_body",),
    ),
    Abuse(
        4,
        "`X-Tenant-Id`, another Host, `tenant_id` or `clinic_id` in a query or a body",
        "Headers are ignored, the rest is 422: the credential alone names the clinic",
        (
            f"{HERE}TestAbuse4AnotherClinic::test_a_header_names_no_clinic",
            f"{HERE}TestAbuse4AnotherClinic::test_neither_does_a_query_or_a_body",
        ),
    ),
    Abuse(
        5,
        "Fields that are not the caller's: `id`, `version`, `is_admin`, `clinic_id`",
        "422, naming the field, at every door that takes a body",
        (f"{MATRIX}test_abuse_5_no_door_takes_a_field_that_it_does_not_know",),
    ),
    Abuse(
        6,
        "The front desk reads what is clinical: by lists, files, the trail",
        "The field is null or the door is shut; the trail never holds it",
        (
            "integration/test_incidents.py::TestReading::test_the_desk_sees_that_something_was_noted",
            "integration/test_incidents.py::TestReading::test_nor_does_it_read_what_was_noted_of_an_incident",
            "integration/test_incidents.py::TestReading::test_nor_what_was_measured",
            "integration/test_incidents.py::TestTrail::test_what_went_wrong_stands_in_no_trail",
            "integration/test_screening.py::TestScreens::test_the_audit_trail_holds_no_finding",
            "integration/test_keys.py::TestReasons::test_who_may_not_read_about_patients_reads_no_reasons",
        ),
    ),
    Abuse(
        7,
        "A role calls every door that is not its own",
        "403, whatever the id",
        (
            f"{MATRIX}test_every_door_by_every_role",
            f"{MATRIX}test_a_narrowed_key_opens_its_own_doors_alone",
            "house/test_doors.py::test_each_door_opens_to_whom_it_is_written_for",
        ),
    ),
    Abuse(
        8,
        "A patient's link, used for another visit",
        "There is no such address: the link is the visit. What is of another visit is not there",
        (
            f"{PAGES}test_a_visitor_sees_nothing_of_another_visit",
            "integration/test_consents.py::TestCopies::test_a_page_of_another_course_does_not_offer_it",
        ),
    ),
    Abuse(
        9,
        "A change without If-Match, with `*`, with a weak or an old ETag",
        "428, 428, 412, 412",
        (
            "integration/test_api_appointments.py::TestPreconditions::test_a_change_names_what_was_last_seen",
            f"{MATRIX}test_abuse_9_every_change_names_what_was_seen",
        ),
    ),
    Abuse(
        10,
        "Two change the same thing at once, having seen the same",
        "One 200, the others 412; nothing is lost",
        (f"{HERE}TestAbuse10TwoEditors::test_one_of_them_wins_and_nothing_is_lost",),
    ),
    Abuse(
        11,
        "A request repeated, changed under its key, or sent eight times at once",
        "The same answer, 422, done once. Without a key it is a request of its own: a booking "
        "cannot be doubled all the same, for its time is taken",
        (
            "integration/test_api_appointments.py::TestIdempotency::test_a_repeated_request_gets_the_same_answer_and_books_once",
            "integration/test_api_appointments.py::TestIdempotency::test_one_key_is_for_one_request",
            "integration/test_api_appointments.py::TestIdempotency::test_a_key_must_be_one",
            f"{HERE}TestAbuse11TheSameAtOnce::test_it_is_done_once",
        ),
    ),
    Abuse(
        13,
        "Fifty book one time at once",
        "One 201, 49 times 409; one visit, one set of messages",
        ("faults/test_rush.py::test_of_fifty_at_once_exactly_one_wins",),
    ),
    Abuse(
        14,
        "Fifty book several people and rooms at once, named in any order",
        "No overlap, nothing taken in part, no 5xx",
        (
            "faults/test_rush.py::test_of_fifty_at_once_exactly_one_wins",
            "faults/test_acceptances.py::test_fifty_collide_and_each_course_wins_or_loses_whole",
        ),
    ),
    Abuse(
        15,
        "Confirm a hold that ran out; confirm one eight times at once",
        "409; one transition and one message",
        (
            f"{HERE}TestAbuse15Confirming::test_a_hold_that_ran_out_is_gone",
            f"{HERE}TestAbuse15Confirming::test_twice_at_once_it_is_confirmed_once",
        ),
    ),
    Abuse(
        17,
        "One patient, at one time, in two rooms",
        "409",
        (
            f"{HERE}test_abuse_17_nobody_is_in_two_rooms_at_one_time",
            "integration/test_booking.py::TestBook::test_no_patient_is_in_two_visits_at_once",
            "integration/test_groups.py::TestPlaces::test_a_patient_is_never_in_two_places",
        ),
    ),
    Abuse(
        18,
        "Hold a thousand times and book none",
        "409 `too-many-holds` beyond what the clinic allows a caller, and when the next one ends; "
        "holds run out. Not 429: to ask again later helps only once a hold has ended",
        (
            "integration/test_waitlist.py::TestHolds::test_a_caller_holds_so_many_at_most",
            "integration/test_waitlist.py::TestOverHttp::test_a_hold_too_many_is_told_plainly",
            "faults/test_waitlist.py::test_of_many_holds_at_once_a_caller_gets_as_many_as_the_clinic_allows",
        ),
    ),
    Abuse(
        19,
        "A wall time that the change of clocks skips",
        "422, naming the times beside it",
        (
            "integration/test_working_time.py::TestByHand::test_a_time_that_clocks_skip_is_refused_with_its_neighbours",
        ),
    ),
    Abuse(
        21,
        "A reminder due in the hour that is skipped or comes twice, the worker begun anew within",
        "Said once, at its instant",
        ("faults/test_clock_changes.py::test_each_is_said_once_and_at_its_instant",),
    ),
    Abuse(
        22,
        "Zones `localtime`, `../../etc/passwd`, `posix/...`, `UTC+25`, unknown",
        "422",
        (f"{CONTRACT}test_zones_are_names_of_places",),
    ),
    Abuse(
        23,
        "Times without an offset, of weeks, in basic form, with second 60, as numbers",
        "422",
        (
            f"{HERE}test_abuse_23_what_is_no_instant_is_refused",
            "integration/test_api_appointments.py::TestBook::test_points_at_what_cannot_be_read",
        ),
    ),
    Abuse(
        25,
        "An end before its start; lengths of zero, less, 25 hours, a milliard minutes",
        "422",
        (
            f"{HERE}TestAbuse25Lengths::test_of_working_time",
            f"{HERE}TestAbuse25Lengths::test_of_a_closure",
        ),
    ),
    Abuse(
        27,
        "Pages of 0, -1, a milliard; page 10^26; SQL as an order",
        "422",
        (
            f"{CONTRACT}test_pages_have_bounds",
            f"{CONTRACT}test_a_cursor_belongs_to_its_list",
            f"{HERE}test_abuse_27_pages_are_asked_for_in_one_way",
        ),
    ),
    Abuse(
        28,
        "NUL in a text, in JSON, in an address, in a form",
        "422 or 404, never 500",
        (
            f"{CONTRACT}test_is_refused_and_never_a_fault_of_ours",
            f"{HERE}TestAbuse28Nul::test_in_an_address",
            f"{HERE}TestAbuse28Nul::test_in_the_form_of_signing_in",
        ),
    ),
    Abuse(
        30,
        "Letters that reorder others, hide, look alike, heap up",
        "Those that reorder are 422; the rest is kept in NFC as people write it",
        (
            f"{HERE}TestAbuse30Letters::test_that_reorder_others_are_refused",
            f"{HERE}TestAbuse30Letters::test_of_other_kinds_are_kept_as_people_write_them",
        ),
    ),
    Abuse(
        31,
        "A body of 300 KB, also without a length; one very long word",
        "413 before it is read; 422",
        (
            f"{CONTRACT}test_is_refused_and_never_a_fault_of_ours",
            f"{HERE}TestAbuse31Size::test_in_pieces_without_a_length_it_is_as_much_too_large",
            f"{HERE}TestAbuse31Size::test_a_word_of_a_hundred_thousand_letters_is_refused",
        ),
    ),
    Abuse(
        33,
        "A body of another kind, or of none that is told: XML, a form, text",
        "415",
        (f"{CONTRACT}test_only_json_is_read", f"{HERE}test_abuse_33_what_is_not_json_is_not_read"),
    ),
    Abuse(
        34,
        "A method that is not there, TRACE, one smuggled in a header",
        "405 with Allow, on every address; the header is ignored",
        (
            f"{MATRIX}test_abuse_34_no_address_has_another_method",
            f"{CONTRACT}test_a_method_cannot_be_smuggled",
        ),
    ),
    Abuse(
        35,
        "SQL in a search, a filter, a cursor, a header",
        "Letters in a search; 422 in a filter; no effect in a header",
        (
            f"{HERE}TestAbuse35Sql::test_in_a_search_it_is_letters",
            f"{HERE}TestAbuse35Sql::test_in_a_filter_it_is_refused",
            f"{HERE}TestAbuse35Sql::test_in_a_header_it_has_no_effect",
        ),
    ),
    Abuse(
        36,
        "A name that a spreadsheet would run: `=`, `+`, `-`, `@`, tab",
        "A quote before it, in every file; taken away when it is read back",
        (
            "integration/test_bulk.py::TestExports::test_a_name_is_never_a_formula_and_comes_back_as_it_was",
            "integration/test_reports.py::TestCsv::test_a_name_is_never_a_formula",
        ),
    ),
    Abuse(
        37,
        "A name that writes a header of a mail, plainly or as an encoded word",
        "422, and what comes otherwise is encoded: no other header, no other body",
        (
            "integration/test_delivery.py::test_names_cannot_write_headers",
            "integration/test_api_messages.py::TestWordings::test_a_header_cannot_be_written",
            f"{CONTRACT}test_is_refused_and_never_a_fault_of_ours",
        ),
    ),
    Abuse(
        38,
        "A clinic's words as a template: `{{7*7}}`, `{% for %}`, `${x}`",
        "Said as they stand, or 422 where they are kept; nothing is worked out",
        (
            f"{HERE}test_abuse_38_what_looks_like_a_template_is_said_as_it_stands",
            f"{HERE}test_abuse_38_what_asks_for_anything_else_is_refused",
        ),
    ),
    Abuse(
        39,
        "Markup in a name or a note",
        "Text, on pages and in mails; the policy of pages lets no script in",
        (
            f"{HERE}TestAbuse39Markup::test_it_is_text_on_the_patients_page",
            f"{HERE}TestAbuse39Markup::test_it_is_text_in_a_mail",
            "integration/test_consents.py::TestOnThePage::test_what_was_typed_stays_and_is_escaped",
        ),
    ),
    Abuse(
        41,
        "A webhook to 127.1, 2130706433, ::ffff:127.0.0.1, 169.254.169.254, 100.64/10",
        "422",
        (
            "integration/test_webhooks_over_rest.py::TestAddressesThatAreRefused::test_inside_or_not_over_https_or_no_address",
        ),
    ),
    Abuse(
        43,
        "A name that leads elsewhere when it counts, a redirect inside, other ports and schemes",
        "The address that was looked at is the one that is spoken to; no redirect is followed",
        (
            "integration/test_webhooks_over_rest.py::TestAddressesThatAreRefused::test_a_name_counts_by_every_address_it_has",
            "integration/test_webhooks.py::TestAddresses::test_a_name_that_leads_inside_when_it_counts_is_not_followed",
            "integration/test_webhooks.py::TestAddresses::test_public_addresses_are_spoken_to_over_https_at_443_alone",
            "integration/test_webhooks.py::TestReceiversThatMeanNoGood::test_a_redirect_is_a_no_and_is_not_followed",
            "integration/test_feeds.py::test_a_redirect_is_looked_at_like_the_first_address",
        ),
    ),
    Abuse(
        44,
        "A receiver that drips, answers a gigabyte, redirects for ever",
        "Ten seconds and 64 KB; it counts as a failure",
        (
            "integration/test_webhooks.py::TestReceiversThatMeanNoGood::test_none_is_waited_for_longer_than_ten_seconds_in_all",
            "integration/test_webhooks.py::TestReceiversThatMeanNoGood::test_no_more_than_64_kb_of_an_answer_are_read",
            "integration/test_feeds.py::test_a_server_that_drips_is_not_waited_for",
        ),
    ),
    Abuse(
        45,
        "A call in the name of the provider of text messages: unsigned, changed, told again",
        "403; what is told again counts once, by its id. Its signature holds no time, so nothing "
        "is too old: told again it changes nothing, however late",
        (
            "integration/test_text_messages.py::TestReplies::test_without_the_right_signature_nothing_is_heard",
            "integration/test_text_messages.py::TestReplies::test_a_reply_told_twice_counts_once",
            "integration/test_text_messages.py::TestReceipts::test_words_in_any_order_settle_it",
            f"{PAGES}test_a_call_that_nobody_signed_is_not_heard",
        ),
    ),
    Abuse(
        47,
        "Another site makes a browser send a form, JSON as text, a GET",
        "403, 415; no GET changes anything",
        (
            f"{IDENTITY}TestAbuse47OtherSites::test_a_cookie_counts_for_changes_only_from_a_page_of_ours",
            f"{IDENTITY}TestAbuse47OtherSites::test_signing_somebody_in_from_elsewhere_is_refused",
            f"{IDENTITY}TestAbuse47OtherSites::test_a_form_of_another_session_does_nothing",
            f"{MATRIX}test_abuse_47_no_get_changes_anything",
            f"{CONTRACT}test_only_json_is_read",
        ),
    ),
    Abuse(
        48,
        "A session's cookie that was set before signing in",
        "Another one after it, and after every step",
        (
            f"{IDENTITY}TestAbuse48Fixation::test_a_preset_cookie_is_not_taken_up_and_the_id_is_new_at_every_step",
            f"{IDENTITY}TestAbuse48Fixation::test_step_up_renews_it_too",
        ),
    ),
    Abuse(
        49,
        "A session after signing out, a closed account, another password, idle, old",
        "401 everywhere at once",
        (
            f"{IDENTITY}TestAbuse49EndedSessions::test_after_signing_out",
            f"{IDENTITY}TestAbuse49EndedSessions::test_after_a_closed_account_or_other_roles",
            f"{IDENTITY}TestAbuse49EndedSessions::test_everywhere_else_after_another_password",
            f"{IDENTITY}TestAbuse49EndedSessions::test_after_being_idle_as_long_as_the_clinic_says",
            f"{IDENTITY}TestAbuse49EndedSessions::test_after_twelve_hours_however_busy",
        ),
    ),
    Abuse(
        51,
        "A thousand stolen passwords, from one address or from many",
        "429, each time twice as late; the owner still comes in",
        (
            f"{TRIES}TestAbuse51Stuffing::test_a_thousand_tries_from_one_address_come_to_a_few",
            f"{TRIES}TestAbuse51Stuffing::test_tries_at_one_account_from_many_addresses_come_to_a_few_and_its_owner_comes_in",
        ),
    ),
    Abuse(
        52,
        "A code of an app used again, two steps off, guessed",
        "Refused; 429",
        (
            f"{TRIES}TestAbuse52SecondFactors::test_a_code_is_taken_once",
            f"{TRIES}TestAbuse52SecondFactors::test_one_step_before_or_after_is_near_enough",
            f"{TRIES}TestAbuse52SecondFactors::test_guessing_is_slowed_at_the_page_and_at_the_api",
        ),
    ),
    Abuse(
        53,
        "An invitation used again, for an account that is there, with a host of the caller's",
        "It works once, touches no account, and leads to our own host",
        (
            "integration/test_account_links.py::TestLinksByMail::test_an_invitation_lets_its_reader_choose_a_password_once",
            "integration/test_accounts.py::TestAccounts::test_abuse_53_it_never_touches_an_account_that_is_there",
            "integration/test_account_links.py::TestLinksByMail::test_abuse_53_the_links_host_is_ours_whatever_the_request_says",
        ),
    ),
    Abuse(
        54,
        "A link guessed, cut short, in other case, run out, taken back",
        "The same page with 404, by the same statements. A token has 256 random bits, so nobody "
        "is slowed who guesses: people who share an address would pay for it",
        (
            f"{HERE}TestAbuse54Links::test_what_is_no_link_looks_like_one_that_was",
            f"{PAGES}test_a_token_that_is_none_opens_nothing",
        ),
    ),
    Abuse(
        55,
        "A date of birth guessed, behind one link or behind many",
        "Five wrong ones shut a link; after twenty from one address each waits, 429",
        (
            f"{HERE}TestAbuse55BirthDates::test_five_wrong_ones_shut_a_link",
            f"{HERE}TestAbuse55BirthDates::test_behind_many_links_they_are_slowed",
        ),
    ),
    Abuse(
        57,
        "A token of another site: `alg` none, HS for RS, wrong audience, issuer, kid, run out",
        "Not let in",
        (
            "integration/test_providers.py::TestAbuse57Tokens::test_with_a_wrong_claim_opens_nothing",
            "integration/test_providers.py::TestAbuse57Tokens::test_signed_in_a_wrong_way_opens_nothing",
        ),
    ),
    Abuse(
        60,
        "The trail changed, shortened, its clock set back, rewritten by who may do everything",
        "No role of ours can; the check names the first line that is wrong, and an alarm is raised",
        (
            "integration/test_chain.py::TestTheChain::test_abuse_60_no_role_of_ours_touches_it",
            "integration/test_chain.py::TestTheChain::test_abuse_60_names_the_first_line_that_is_wrong",
            "integration/test_chain.py::TestTheChain::test_abuse_60_a_tail_that_was_rewritten_is_found_by_a_head_that_was_kept",
            "integration/test_chain.py::TestTheChain::test_abuse_60_a_clock_that_was_set_back_is_found",
            "integration/test_chain.py::TestTheChain::test_abuse_60_raises_an_alarm",
        ),
    ),
)


def page() -> str:
    """The whole page."""
    lines = ["| # | what is tried | what is answered | held by |", "|---|---|---|---|"]
    for one in ABUSES:
        held = "<br>".join(_link(test) for test in one.tests)
        lines.append(f"| {one.number} | {one.attack} | {one.answer} | {held} |")
    return HEAD + "\n".join(lines) + "\n"


def unheld() -> list[str]:
    """The tests that are named and are not there, or that do not run."""
    return [
        test
        for one in ABUSES
        for test in one.tests
        if test.partition("::")[2] not in _tests(ROOT / "tests" / test.partition("::")[0])
    ]


def _tests(path: Path) -> set[str]:
    return set(_within(ast.parse(path.read_text()).body, "")) if path.exists() else set()


def _within(body: list[ast.stmt], inside: str) -> Iterator[str]:
    """The tests that pytest collects from a file, but for those that are always left out."""
    for one in body:
        if isinstance(one, ast.ClassDef) and one.name.startswith("Test"):
            yield from _within(one.body, f"{one.name}::")
        elif isinstance(one, ast.FunctionDef) and one.name.startswith("test_"):
            marks = " ".join(map(ast.unparse, one.decorator_list))
            if "mark.skip" not in marks and "xfail" not in marks:
                yield inside + one.name


def _link(test: str) -> str:
    path, _, name = test.partition("::")
    told = name.rpartition("::")[2].removeprefix("test_").replace("_", " ")
    return f"[{told}](../tests/{path})"


if __name__ == "__main__":
    sys.stdout.write(page())
