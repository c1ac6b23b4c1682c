"""What PostgreSQL guarantees, asked of its own catalog: a table that forgets something fails."""

import os
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import psycopg
import pytest

from database import migrating
from database.access import Access, Unreachable, connect, refuse_unsafe_role
from database.scratch import scratch
from models import Base
from tests.factories import World

ROOT = Path(__file__).parents[2]

OF_NO_CLINIC = {
    *("worker", "send_bucket", "restoration", "alembic_version"),
    *("tenancy", "operator_key", "operator_event"),
}
"""Reviewed: the workers' own tables belong to no clinic, the migration's mark neither. Nor does
what whoever runs the service keeps: on what terms a clinic is here outlives it."""

UNIQUE_ACROSS_CLINICS = {
    "uq__api_key__secret_hash",
    "uq__patient_link__token_hash",
    "uq__calendar_feed__token_hash",
    "uq__user_session__token_hash",
    "uq__account_token__token_hash",
}
"""Reviewed: hashes of 256 random bits give nobody away, and must find their clinic."""

APPEND_ONLY = {
    "appointment_event",
    "override",
    "clearance",
    "consent",
    "consent_text",
    "observation",
    "questionnaire_response",
    "health_event",
    "screen",
    "screen_decision",
    "reconciliation",
    "medicine_ruling",
    "eligibility",
    "departure",
    "instrument_wording",
    "audit_event",
    "audit_head",
    "operator_event",
    "wording",
    "cadence_override",
    "channel_consent",
    "receipt",
    "readiness_snapshot",
    "message_archive",
    "webhook_event",
    "webhook_attempt",
}


@pytest.fixture
def owner(database: Access) -> Iterator[psycopg.Connection]:
    with connect(database.owner) as connection:
        yield connection


def names(owner: psycopg.Connection, query: str, *told: object) -> set[str]:
    return {str(row[0]) for row in owner.execute(query, told or None).fetchall()}


def tables(owner: psycopg.Connection) -> set[str]:
    return names(
        owner,
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') "
        "AND relnamespace = 'public'::regnamespace",
    )


def test_every_table_is_behind_row_level_security(owner: psycopg.Connection) -> None:
    forgot = names(
        owner,
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') "
        "AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version' "
        "AND NOT (relrowsecurity AND relforcerowsecurity)",
    )
    assert forgot == set()
    guarded = names(
        owner,
        "SELECT tablename FROM pg_policies WHERE policyname = 'clinic' "
        "AND qual LIKE '%afterglow.clinic%' AND with_check LIKE '%afterglow.clinic%'",
    )
    assert tables(owner) - guarded == OF_NO_CLINIC


def test_a_backup_may_read_every_table(owner: psycopg.Connection) -> None:
    """Also those that a function makes: whoever forgets it would have an empty table restored."""
    owner.execute("SELECT keep_message_month('2031-05-01+00')")
    readable = names(owner, "SELECT tablename FROM pg_policies WHERE policyname = 'backed_up'")
    assert tables(owner) - readable == {"alembic_version"}
    owner.execute("DROP TABLE message_archive_2031_05")


def test_nobody_but_the_owner_itself_reads_as_a_backup_does(
    database: Access, committed_world: World
) -> None:
    with connect(database.owner) as connection:
        connection.execute("SET afterglow.backup = 'on'")
        assert connection.execute("SELECT count(*) FROM patient").fetchone() == (1,)
    for url in (database.service, database.worker):
        with connect(url) as connection:
            connection.execute("SET afterglow.backup = 'on'")
            assert connection.execute("SELECT count(*) FROM patient").fetchone() == (0,)


def test_every_row_belongs_to_a_clinic(owner: psycopg.Connection) -> None:
    tenanted = names(
        owner,
        "SELECT table_name FROM information_schema.columns WHERE column_name = 'clinic_id' "
        "AND table_schema = 'public' AND is_nullable = 'NO'",
    )
    assert tables(owner) - tenanted == OF_NO_CLINIC


def test_foreign_keys_stay_within_the_clinic(owner: psycopg.Connection) -> None:
    loose = names(
        owner,
        """
        SELECT conname FROM pg_constraint c WHERE contype = 'f'
           AND NOT EXISTS (SELECT FROM unnest(conkey, confkey) AS k(here, there)
                             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.here
                             JOIN pg_attribute b ON b.attrelid = c.confrelid AND b.attnum = k.there
                            WHERE a.attname = 'clinic_id' AND b.attname = 'clinic_id')
        """,
    )
    assert loose == set()


def test_no_tables_refer_to_each_other_in_a_circle(owner: psycopg.Connection) -> None:
    """Or there would be none to begin with where all of a clinic is deleted: it lets go first."""
    told = owner.execute(
        "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint"
        " WHERE contype = 'f' AND connamespace = 'public'::regnamespace AND conrelid <> confrelid"
        " AND conrelid <> 'clinic'::regclass"
    ).fetchall()
    behind: dict[str, set[str]] = {}
    for table, other in told:
        behind.setdefault(table, set()).add(other)
    assert list(TopologicalSorter(behind).static_order())  # raises CycleError, which names them


def test_uniqueness_ends_at_the_clinic(owner: psycopg.Connection) -> None:
    wide = names(
        owner,
        """
        SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
          JOIN pg_class t ON t.oid = i.indrelid
         WHERE i.indisunique AND t.relnamespace = 'public'::regnamespace
           AND t.relname <> ALL (%s)
           AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid
                              AND a.attname = 'clinic_id' AND a.attnum = ANY(i.indkey))
        """,
        list(OF_NO_CLINIC),
    )
    assert wide == UNIQUE_ACROSS_CLINICS


def test_beside_every_range_stand_its_bounds_with_an_index(owner: psycopg.Connection) -> None:
    ranged = names(
        owner,
        "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' "
        "AND data_type = 'tstzrange'",
    )
    assert ranged == {"slot"}
    indexed = names(
        owner,
        "SELECT tablename FROM pg_indexes WHERE indexdef ~ 'btree .*clinic_id.*starts_at'",
    )
    assert ranged <= indexed


def test_double_booking_is_a_constraint(owner: psycopg.Connection) -> None:
    [definition] = names(
        owner,
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conname = 'ex__slot__no_overlap'",
    )
    assert definition == "EXCLUDE USING gist (schedule_id WITH =, lane WITH =, during WITH &&)"


def test_history_cannot_be_rewritten(owner: psycopg.Connection, database: Access) -> None:
    for role in (url.username for url in database.processes):
        may = names(
            owner,
            "SELECT table_name FROM information_schema.role_table_grants "
            f"WHERE grantee = '{role}' AND privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE')",
        )
        assert may & APPEND_ONLY == set()


def test_what_may_be_deleted_is_told_with_how_long_it_is_kept(
    owner: psycopg.Connection, database: Access
) -> None:
    page = (ROOT / "docs" / "retention.md").read_text()
    rows = [row.split("|")[2] for row in page.splitlines() if row.startswith("| ")]
    told = set(re.findall(r"`([a-z_]+)`", " ".join(rows)))
    may: set[str] = set()
    for role in (url.username for url in database.processes):
        may |= names(
            owner,
            "SELECT table_name FROM information_schema.role_table_grants "
            f"WHERE grantee = '{role}' AND privilege_type IN ('DELETE', 'TRUNCATE')",
        )
    assert told == may


def test_functions_that_run_as_their_owner_are_few_and_fix_their_path(
    owner: psycopg.Connection,
) -> None:
    found = owner.execute(
        "SELECT proname, proconfig::text FROM pg_proc WHERE prosecdef "
        "AND pronamespace = 'public'::regnamespace ORDER BY proname"
    ).fetchall()
    assert [name for name, _ in found] == [
        "admit_operator",
        "append_audit_event",
        "begin_tenancy",
        "count_messages",
        "count_webhook_deliveries",
        "forget_webhook_events",
        "found_clinic",
        "hold_records",
        "invite_admin",
        "keep_message_month",
        "limit_tenancy",
        "mark_visit",
        "masters_in_use",
        "move_tenancy",
        "name_no_patient",
        "only_clinic",
        "part2_ids",
        "part2_patients",
        "part2_visits",
        "see_clinic",
        "shred_some",
        "tell_webhooks",
        "tenancy_status",
        "unname_patient",
    ]
    assert all("search_path" in settings for _, settings in found)


def test_the_processes_roles_are_harmless_and_the_owner_is_refused(database: Access) -> None:
    for url in database.processes:
        with connect(url) as connection:
            refuse_unsafe_role(connection)
    with connect(database.owner) as connection, pytest.raises(Unreachable, match="row-level"):
        refuse_unsafe_role(connection)


def test_migrations_go_up_down_and_up_and_make_what_the_models_say() -> None:

    with scratch(os.environ.get("DATABASE_URL"), migrated=False) as ways:
        migrating.upgrade(ways.owner)
        migrating.downgrade(ways.owner)
        migrating.upgrade(ways.owner)

        assert migrating.drift(ways.owner, Base.metadata) == []
        assert migrating.current(ways.service) == migrating.head()
