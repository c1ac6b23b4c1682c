"""What is sealed opens where it was sealed, with its key, and nowhere else."""

import secrets
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import cases
from vault import BadMaster, CannotOpen, Masters, Place, Ring, WrongMaster, is_sealed, number_of
from vault import masters as master_keys
from vault.masters import Master
from vault.sealing import Key

CLINIC, ROW = uuid4(), uuid4()
PLACE = Place(CLINIC, "patient", "email", ROW)
KEY = Key(1, secrets.token_bytes(32))

ELSEWHERE = {
    "another clinic": PLACE._replace(clinic=uuid4()),
    "another table": PLACE._replace(table="escort"),
    "another column": PLACE._replace(column="phone"),
    "another row": PLACE._replace(row=uuid4()),
}


def ring(index_key: bytes) -> Ring:
    return Ring(CLINIC, {1: KEY}, KEY, index_key)


@cases(100)
@given(st.binary(), st.uuids(), st.uuids(), st.integers(1, 999_999_999))
def test_what_is_sealed_opens(told: bytes, clinic: UUID, row: UUID, number: int) -> None:
    key, place = Key(number, secrets.token_bytes(32)), Place(clinic, "screen", "answers", row)
    made = key.seal(place, told)
    assert is_sealed(made)
    assert number_of(made) == number
    assert key.open(place, made) == told


@cases(100)
@given(st.text())
def test_nothing_that_people_write_is_taken_for_sealed(told: str) -> None:
    assert not is_sealed(told)


@cases(100)
@given(st.data())
def test_one_changed_letter_does_not_open(data: st.DataObject) -> None:
    made = KEY.seal(PLACE, b"a" * 30)
    head = made.rindex(".") - 16  # of nonce and text; the last letter has bits that say nothing
    at = data.draw(st.integers(head, len(made) - 2).filter(lambda n: made[n] != "."))
    one, another = data.draw(st.sampled_from([("a", "b"), ("X", "Y"), ("-", "_")]))
    other = another if made[at] == one else one  # what is drawn may not depend on the nonce
    with pytest.raises(CannotOpen, match=r"patient\.email of row"):
        KEY.open(PLACE, made[:at] + other + made[at + 1 :])


@pytest.mark.parametrize("where", ELSEWHERE)
def test_it_opens_nowhere_else(where: str) -> None:
    with pytest.raises(CannotOpen, match="stood elsewhere"):
        KEY.open(ELSEWHERE[where], KEY.seal(PLACE, b"secret"))


def test_it_opens_with_no_other_key() -> None:
    with pytest.raises(CannotOpen):
        Key(1, secrets.token_bytes(32)).open(PLACE, KEY.seal(PLACE, b"secret"))


def test_no_two_seals_are_the_same() -> None:
    assert len({KEY.seal(PLACE, b"secret") for _ in range(100)}) == 100


def test_the_blind_index_is_the_same_for_the_same_in_one_clinic_only() -> None:
    here, there = ring(secrets.token_bytes(32)), ring(secrets.token_bytes(32))
    assert here.blind("email", "a@example.com") == here.blind("email", "a@example.com")
    assert here.blind("email", "a@example.com") != here.blind("phone", "a@example.com")
    assert here.blind("email", "a@example.com") != here.blind("email", "b@example.com")
    assert here.blind("email", "a@example.com") != there.blind("email", "a@example.com")


def test_a_master_wraps_for_one_purpose() -> None:
    master = Master(secrets.token_bytes(32))
    wrapped = master.wrap(b"clinic|1|data", b"k" * 32)
    assert master.unwrap(b"clinic|1|data", wrapped) == b"k" * 32
    with pytest.raises(WrongMaster, match="was changed"):
        master.unwrap(b"clinic|1|index", wrapped)


def test_a_master_that_is_not_here_is_named() -> None:
    here, gone = (master_keys.read(master_keys.made()).first for _ in range(2))
    with pytest.raises(
        WrongMaster, match=f"wrapped with master {gone.name}, and here is {here.name}"
    ):
        Masters((here,)).called(gone.name)
    assert here.key.hex() not in repr(here)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("", "there are 0 keys"),
        ("secret!", "not base64"),
        ("c2VjcmV0", "32 random bytes"),
        ("A" * 43 + "=", "32 random bytes"),
        (" ".join(master_keys.made() for _ in range(3)), "there are 3 keys"),
    ],
)
def test_a_bad_master_is_refused(told: str, why: str) -> None:
    with pytest.raises(BadMaster, match=why):
        master_keys.read(told)


def test_two_masters_are_read_from_lines_or_commas() -> None:
    new, old = master_keys.made(), master_keys.made()
    assert master_keys.read(f"{new}\n{old}\n") == master_keys.read(f"{new},{old}")
    assert len(master_keys.read(f"{new},{old}").all) == 2
