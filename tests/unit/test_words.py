"""The words of messages: every kind, in every language, on every channel."""

import re
from itertools import product
from string import Template
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.vocabulary import Channel, MessageKind, Recipient, ReplyMeaning
from notifications import answers, gsm, languages, mail, paper, templates
from notifications.templates import Links
from notifications.words import FRAME, SEVERAL, Words, kinds_to, words_for
from web.words import ACCESSES, CHANGED, KINDS, LOOKED, SUMMARY, WHO

SAID = [(kind, recipient) for recipient in Recipient for kind in sorted(kinds_to(recipient))]
LINKS = Links({UUID(int=1): "https://clinic.example/p/" + "x" * 43}, "https://clinic.example/u/x")


def texts() -> list[str]:
    words = [words_for(kind, recipient) for kind, recipient in SAID] + list(SEVERAL.values())
    told = {text for one in words for text in (one.subject, one.body, one.sms) if text}
    pages = {*ACCESSES.values(), *LOOKED.values(), *CHANGED.values(), *WHO.values()}
    pages |= {*SUMMARY.values(), *KINDS.values(), *paper.WORDS.values()}
    return sorted(told | set(FRAME.values()) | pages)


@pytest.mark.parametrize("language", [code for code in languages.LOCALES if code != "en"])
def test_every_text_is_translated_and_asks_for_the_same(language: str) -> None:
    for told in texts():
        translated = languages.translate(language, told)
        if re.sub(r"\$\w+|[ ,()]", "", told) not in {"", "time"}:
            assert translated != told, told
        theirs = set(Template(translated).get_identifiers())
        assert theirs == set(Template(told).get_identifiers()), told


def test_the_pages_betray_nothing_either() -> None:
    pages = (SUMMARY, KINDS, ACCESSES, LOOKED, CHANGED, WHO)
    said = [told for words in pages for told in words.values()]
    for told, language in product(said, languages.LOCALES):
        assert templates.betrays(languages.translate(language, told)) == []


@pytest.mark.parametrize(("kind", "recipient"), SAID)
def test_every_kind_can_be_said(kind: MessageKind, recipient: Recipient) -> None:
    for language, channel in product(languages.LOCALES, Channel):
        if channel is Channel.SMS and not words_for(kind, recipient).sms:
            continue
        letter = templates.sample(kind, recipient, channel, language)
        said = templates.render([letter], LINKS)
        told = said.subject + said.body + said.html
        assert "$" not in told
        assert templates.betrays(said.subject + said.body) == []
        if channel is Channel.SMS:
            length = gsm.measure(said.body)
            assert (length.alphabet, length.segments <= templates.MOST_SEGMENTS) == ("GSM-7", True)
        else:
            assert said.subject
            assert mail.build([letter], said, letter.starts_at).startswith(b"Subject: ")


def test_the_html_says_what_the_text_says() -> None:
    letter = templates.sample(MessageKind.CONFIRMATION, Recipient.PATIENT, Channel.EMAIL, "en")
    said = templates.render([letter], LINKS)

    plain = re.sub(r"<[^>]+>", " ", said.html)
    for line in said.body.split("\n-- \n")[0].splitlines():
        if line and not line.startswith("https://"):
            assert line.replace("&", "&amp;") in plain
    assert 'lang="en"' in said.html
    assert "src=" not in said.html
    assert '<a href="https://clinic.example/p/' in said.html


@pytest.mark.parametrize(
    ("words", "field", "told"),
    [
        (Words("Hello", "Your ketamine visit $link"), "body", "betray"),
        (Words("Su terapia", "Hola $link"), "subject", "betray"),
        (Words("Hello", "$nam $link"), "body", "placeholder"),
        (Words("Hello", "$ $link"), "body", "placeholder"),
        (Words("Hello", "Come!"), "body", "$link"),
        (Words("", "Come! $link"), "subject", "subject"),
        (Words("a\nb", "Come! $link"), "subject", "line"),
    ],
)
def test_a_clinics_own_words_are_looked_at(words: Words, field: str, told: str) -> None:
    letter = templates.sample(MessageKind.CONFIRMATION, Recipient.PATIENT, Channel.EMAIL, "en")

    assert any(told in detail for detail in templates.faults(letter, words)[field])
    assert templates.faults(letter, Words("Hello", "Come on $day: $link")) == {}


def test_a_text_message_may_not_be_long() -> None:
    letter = templates.sample(MessageKind.CONFIRMATION, Recipient.PATIENT, Channel.SMS, "en")

    assert templates.faults(letter, Words("", "", "$link " + "Ж" * 140))["body"]
    assert templates.faults(letter, Words("", "", "$link " + "a" * 140)) == {}


class TestGsm:
    @pytest.mark.parametrize(
        ("told", "alphabet", "segments"),
        [
            ("a" * 160, "GSM-7", 1),
            ("a" * 161, "GSM-7", 2),
            ("a" * 306, "GSM-7", 2),
            ("€" * 80, "GSM-7", 1),
            ("€" * 81, "GSM-7", 2),
            ("a" * 152 + "€" + "a" * 10, "GSM-7", 2),
            ("ż" * 70, "UCS-2", 1),
            ("ż" * 71, "UCS-2", 2),
            ("🙂" * 35, "UCS-2", 1),
            ("🙂" * 36, "UCS-2", 2),
            ("", "GSM-7", 1),
        ],
    )
    def test_counts_as_carriers_do(self, told: str, alphabet: str, segments: int) -> None:
        length = gsm.measure(told)
        assert (length.alphabet, length.segments) == (alphabet, segments)

    def test_writes_plainly_what_can_be(self) -> None:
        assert gsm.plain("Dígale “sí” mañana…") == 'Digale "si" mañana...'
        assert gsm.plain("Ж żółć") == "Ж żółć"

    @given(st.text())
    def test_plain_never_takes_more(self, told: str) -> None:
        plain = gsm.plain(told)
        if plain != told:
            assert gsm.measure(plain).alphabet == "GSM-7"


@pytest.mark.parametrize(
    ("body", "asked", "meaning"),
    [
        ("1", None, ReplyMeaning.CONFIRM),
        ("Yes", None, ReplyMeaning.CONFIRM),
        ("1", MessageKind.SAFETY_CHECK, ReplyMeaning.WELL),
        ("2", MessageKind.SAFETY_CHECK, ReplyMeaning.CALL_ME),
        ("2", MessageKind.CONFIRM_REQUEST, ReplyMeaning.MOVE),
        ("CANCEL", MessageKind.CONFIRM_REQUEST, ReplyMeaning.STOP),
        ("Stop!", None, ReplyMeaning.STOP),
        ("I cannot stop thinking of it", None, ReplyMeaning.OTHER),
        ("cancel my appointment please", None, ReplyMeaning.OTHER),
        ("stop, I want to die", None, ReplyMeaning.CRISIS),
        ("12", None, ReplyMeaning.OTHER),
        ("", None, ReplyMeaning.OTHER),
    ],
)
def test_only_a_whole_message_is_a_keyword(
    body: str, asked: MessageKind | None, meaning: ReplyMeaning
) -> None:
    assert answers.read(body, asked, opted_out=False) is meaning


def test_no_question_of_ours_asks_for_a_word_that_stops() -> None:
    for kind, recipient in SAID:
        sms = words_for(kind, recipient).sms
        for asked in re.findall(r"Reply (\S+?):", sms):
            assert answers.read(asked, None, opted_out=False) is not ReplyMeaning.STOP
