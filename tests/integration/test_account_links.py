"""Links that let somebody choose a password; the worker writes the mails and makes them."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

import cli
from database import access
from database.scratch import SECRET as SHELL
from identity import accounts
from models import UserAccount, enter_clinic
from models.vocabulary import Role, UserStatus
from notifications.channels.smtp import Server, SmtpChannel
from notifications.delivery import Delivery
from tests.factories import SUNDAY_NOON, World
from tests.fakes import MailServer, mail_server
from tests.integration.conftest import Clock
from tests.staff import ANOTHER, OURS, Person, make_user, user_of


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def delivery(server: MailServer, worker_engine: Engine, clock: Clock) -> Iterator[Delivery]:
    clock.now = SUNDAY_NOON
    made = Delivery(
        lambda: access.connect(worker_engine.url),
        [SmtpChannel(Server(host="127.0.0.1", port=server.port, security="none"))],
        clock,
        "https://clinic.example",
    )
    yield made
    made.close()


class TestLinksByMail:
    """The worker writes the mail and makes the link; so this runs on a database of all."""

    def mailed(self, delivery: Delivery, server: MailServer) -> str:
        """The path that the last mail leads to."""
        delivery.sweep()
        body = server.mails[-1].get_body(("plain",))
        assert body is not None
        found = re.search(r"https://clinic\.example(/\S+)", body.get_content())
        assert found
        return found.group(1)

    @pytest.fixture
    def ann(self, app: Flask, committed: Session, committed_world: World, clock: Clock) -> Person:
        return Person.at(app, committed_world, clock)

    def invite(self, session: Session, world: World) -> UserAccount:
        enter_clinic(session, world.clinic_id)
        told = accounts.Invitation(email="Ann@example.com", name="Ann Example", roles=[Role.ADMIN])
        user = accounts.invite(session, told, SUNDAY_NOON)
        session.commit()
        return user

    def choose(self, ann: Person, path: str, password: str = ANOTHER) -> Any:
        assert ann.get(path).headers["Location"] == "/sign-in/new-password"
        ann.get("/sign-in/new-password")
        return ann.post("/sign-in/new-password", password=password, again=password)

    def test_an_invitation_lets_its_reader_choose_a_password_once(
        self,
        ann: Person,
        committed: Session,
        committed_world: World,
        delivery: Delivery,
        server: MailServer,
    ) -> None:
        self.invite(committed, committed_world)
        path = self.mailed(delivery, server)
        assert ann.password(ANOTHER).status_code == 422
        assert ann.get(path).status_code == 303  # a scanner follows it first
        assert self.choose(ann, path, "password12345").status_code == 422

        chosen = self.choose(ann, path)

        assert chosen.headers["Location"] == f"/sign-in/{committed_world.clinic_id}"
        assert ann.password(ANOTHER).headers["Location"] == "/sign-in/second-factor"
        thief = Person.at(ann.client.application, committed_world, ann.clock)
        assert thief.get(path).status_code == 404
        assert (
            thief.post("/sign-in/new-password", password=ANOTHER, again=ANOTHER).status_code == 422
        )
        assert thief.get("/sign-in/new-password").status_code == 404
        assert ann.password(ANOTHER).status_code == 303

    def test_an_endless_link_is_nobodys(self, ann: Person) -> None:
        """Nor is it kept: a browser would not take it, and we would hear of it each time."""
        answer = ann.get("/sign-in/new-password/" + "x" * 100_000)
        assert answer.status_code == 404
        assert "Set-Cookie" not in answer.headers

    def test_abuse_53_the_links_host_is_ours_whatever_the_request_says(
        self,
        ann: Person,
        committed: Session,
        committed_world: World,
        delivery: Delivery,
        server: MailServer,
    ) -> None:
        enter_clinic(committed, committed_world.clinic_id)
        make_user(committed)
        ann.client.post(
            f"/sign-in/{committed_world.clinic_id}/forgot",
            data={"email": "ann@example.com"},
            headers={**OURS, "Host": "evil.example", "X-Forwarded-Host": "evil.example"},
        )
        path = self.mailed(delivery, server)

        assert "evil" not in server.mails[-1].as_string()
        assert self.choose(ann, path).status_code == 303
        assert ann.password().status_code == 422
        assert ann.password(ANOTHER).headers["Location"] == "/sign-in/code"
        delivery.sweep()
        assert server.mails[-1]["Subject"] == "Your account was changed"

    def test_whoever_has_no_account_gets_the_same_answer_and_no_mail(
        self,
        ann: Person,
        committed: Session,
        committed_world: World,
        delivery: Delivery,
        server: MailServer,
    ) -> None:
        enter_clinic(committed, committed_world.clinic_id)
        make_user(committed)
        path = f"/sign-in/{committed_world.clinic_id}/forgot"
        told = [
            ann.post(path, email=email)
            for email in ("bob@example.com", "ann@example.com", "ann@example.com")
        ]

        assert told[0].data == told[1].data == told[2].data
        delivery.sweep()
        assert [mail["To"] for mail in server.mails] == ["Ann Example <ann@example.com>"] * 2
        assert ann.post(path, email="ann@example.com").status_code == 200
        assert ann.post(path, email="ann@example.com").status_code == 429

    @pytest.mark.parametrize("how", ["late", "closed", "invited-again"])
    def test_a_link_that_has_run_out_or_was_taken_back(
        self,
        ann: Person,
        committed: Session,
        committed_world: World,
        delivery: Delivery,
        server: MailServer,
        clock: Clock,
        how: str,
    ) -> None:
        user = self.invite(committed, committed_world)
        path = self.mailed(delivery, server)
        ann.get(path)
        if how == "late":
            clock.now += timedelta(days=3)
        elif how == "closed":
            accounts.change(committed, user, {"status": UserStatus.DISABLED}, clock.now)
        else:
            accounts.invite_again(committed, user, clock.now)
        committed.commit()

        chosen = ann.post("/sign-in/new-password", password=ANOTHER, again=ANOTHER)
        assert chosen.status_code == 422
        assert ann.get(path).status_code == 404
        assert ann.password(ANOTHER).status_code == 422
        if how == "invited-again":
            assert self.choose(ann, self.mailed(delivery, server)).status_code == 303

    def test_the_worker_sees_no_secret(
        self, committed: Session, committed_world: World, worker_engine: Engine
    ) -> None:
        with worker_engine.connect() as connection:
            for column in ("password_hash", "totp_secret"):
                with pytest.raises(Exception, match="permission denied"):
                    connection.execute(text(f"SELECT {column} FROM user_account"))
                connection.rollback()


def test_the_first_admin_is_invited_from_a_shell(
    database: access.Access,
    committed: Session,
    committed_world: World,
    delivery: Delivery,
    server: MailServer,
    tmp_path: Path,
) -> None:
    owner = database.owner.render_as_string(hide_password=False).replace("+psycopg", "")
    told = {"DATABASE_URL": owner, "AFTERGLOW_SECRET": SHELL, "AFTERGLOW_VAR": str(tmp_path)}
    asked = ["create-admin", "Ann Example", "--email", "Ann@example.com"]

    made = CliRunner().invoke(cli.main, asked, env=told)

    assert (made.exit_code, made.output[:3]) == (0, "ag_"), made.output
    enter_clinic(committed, committed_world.clinic_id)
    assert (user_of(committed).roles, user_of(committed).status) == (["admin"], "invited")
    again = CliRunner().invoke(cli.main, asked, env=told)
    assert again.exit_code == 2
    assert "has an account" in again.output
