"""Tenants: on what terms clinics are here, who runs the service, and how a clinic ends.

Revision ID: 0041_tenants
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.tenancy import (
    CLINIC,
    guard,
    let_backups_read,
    of_clinic,
    operator,
    reference,
    service,
    worker,
)

revision = "0041_tenants"
down_revision = "0040_keys_of_clinics"
branch_labels = None
depends_on = None
phase = "expand"

STATES = ("active", "suspended", "closed", "shredding", "shredded")
DEFINER = "SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp"
FOR_OPERATORS = (
    "admit_operator(bytea, timestamptz)",
    "see_clinic(uuid)",
    "found_clinic(jsonb, jsonb, timestamptz)",
    "invite_admin(uuid, jsonb, timestamptz)",
    "limit_tenancy(uuid, integer, jsonb, jsonb, timestamptz)",
    "move_tenancy(uuid, integer, text, jsonb, jsonb, timestamptz)",
)
"""All that the operators' role can do beside reading the tenancies and its own trail."""
INTERNAL = (
    "begin_tenancy()",
    "append_operator_event(timestamptz, text, text, text, uuid, jsonb, jsonb)",
    "note_operators_act(uuid, text, jsonb, jsonb, timestamptz)",
    "hold_tenancy(uuid, integer)",
)


def upgrade() -> None:
    """Make the tables, and the functions that alone write them."""
    _tables()
    _archives()
    _refusing()
    _trail()
    _beginning()
    _limits()
    _admitting()
    _seeing()
    _founding()
    _changing()
    _moving()
    _shredding()
    _signed_versions_go_with_their_clinic()
    _grants()


def downgrade() -> None:
    """Forget it. Whoever is suspended or closed is open again."""
    _signed_versions_never_go()
    for table in ("site", "user_account"):
        op.execute(f"DROP TRIGGER keeps_within_limits ON {table}")
    op.execute("DROP TRIGGER keeps_within_limits_again ON user_account")
    op.execute("DROP TRIGGER begins_tenancy ON clinic")
    for function in (
        "shred_some(uuid, integer, timestamptz)",
        "keep_within_limits()",
        "tenancy_status(uuid)",
        *FOR_OPERATORS,
        *INTERNAL,
        "refuse(text, text)",
    ):
        op.execute(f"DROP FUNCTION {function}")
    for table in ("archive_part", "archive", "operator_event", "operator_key", "tenancy"):
        op.drop_table(table)
    op.execute(f"REVOKE ALL ON SCHEMA public FROM {operator()}")


def _tables() -> None:
    """They belong to no clinic: a tenancy outlives its own, and operators have none."""
    status = sa.Enum(
        *STATES, name="tenancystatus", native_enum=False, create_constraint=True, length=32
    )
    op.create_table(
        "tenancy",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("status", status, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("set_by", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("shred_after", sa.DateTime(timezone=True), nullable=True),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("most_users", sa.Integer(), nullable=True),
        sa.Column("most_sites", sa.Integer(), nullable=True),
        sa.Column("gone", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk__tenancy")),
        sa.CheckConstraint("requests_per_minute >= 1", name=op.f("ck__tenancy__requests_are_some")),
        sa.CheckConstraint("most_users >= 1", name=op.f("ck__tenancy__users_are_some")),
        sa.CheckConstraint("most_sites >= 1", name=op.f("ck__tenancy__sites_are_some")),
        sa.CheckConstraint(
            "status <> 'closed' OR shred_after IS NOT NULL",
            name=op.f("ck__tenancy__closed_until_a_time"),
        ),
    )
    op.create_table(
        "operator_key",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_on", sa.Date(), nullable=True),
        _created_at(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk__operator_key")),
        sa.UniqueConstraint("secret_hash", name="uq__operator_key__secret_hash"),
    )
    _operator_event()
    for table in ("tenancy", "operator_key", "operator_event"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY owned ON {table} TO CURRENT_USER USING (true) WITH CHECK (true)")
        let_backups_read(table)


def _operator_event() -> None:
    outcome = sa.Enum(
        *("success", "denied", "failure"),
        name="auditoutcome",
        native_enum=False,
        create_constraint=True,
        length=32,
    )
    op.create_table(
        "operator_event",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("entity_id", sa.Uuid(), nullable=True),
        sa.Column("facts", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("outcome", outcome, server_default=sa.text("'success'"), nullable=False),
        sa.Column("permission", sa.String(), nullable=True),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("request_id", sa.Uuid(), nullable=True),
        sa.Column("agent_hash", sa.LargeBinary(), nullable=True),
        sa.Column("form", sa.SmallInteger(), nullable=False),
        sa.Column("previous_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk__operator_event")),
        sa.UniqueConstraint("sequence", name=op.f("uq__operator_event__sequence")),
    )


def _archives() -> None:
    op.create_table(
        "archive",
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.String(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        *of_clinic("archive"),
        sa.ForeignKeyConstraint(
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__archive__clinic_id")
        ),
        sa.CheckConstraint(
            "done BETWEEN 0 AND total", name=op.f("ck__archive__done_is_part_of_it")
        ),
        sa.CheckConstraint(
            "num_nonnulls(bytes, sha256, ended_at, expires_at) IN (0, 4)",
            name=op.f("ck__archive__ended_whole"),
        ),
    )
    op.create_index(
        "ix__archive__open",
        "archive",
        ["clinic_id", "id"],
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "archive_part",
        sa.Column("archive_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        *of_clinic("archive_part"),
        reference("archive_part", "archive_id", "archive", ondelete="CASCADE"),
        sa.UniqueConstraint(
            "clinic_id",
            "archive_id",
            "number",
            name=op.f("uq__archive_part__clinic_id_archive_id_number"),
        ),
    )
    everything = "SELECT, INSERT, UPDATE, DELETE"
    guard("archive", service_may=everything, worker_may="")
    guard("archive_part", service_may="SELECT, INSERT, DELETE", worker_may="")


def _refusing() -> None:
    """Let the database say no as the rules do: a code that has a page, and a sentence."""
    op.execute(
        """
        CREATE FUNCTION refuse(code text, detail text) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION USING ERRCODE = 'AG001', MESSAGE = code, DETAIL = detail;
        END $$
        """
    )


def _trail() -> None:
    """Write what operators do: in their own chain, and in the clinic's, for it to see.

    A line is hashed as a clinic's is (migration 0034), with no clinic, patient or role.
    """
    op.execute(
        """
        CREATE FUNCTION append_operator_event(
            new_at timestamptz, new_actor text, new_action text, new_entity text,
            new_entity_id uuid, new_facts jsonb, origin jsonb
        ) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
        DECLARE
            last record;
            link bytea;
            number integer;
            moment timestamptz;
            new_id uuid := public.id_by_time();
            told text;
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended('audit of operators', 0));
            SELECT sequence, hash INTO last FROM public.operator_event
             ORDER BY sequence DESC LIMIT 1;
            number := coalesce(last.sequence, 0) + 1;
            link := coalesce(last.hash, ''::bytea);
            moment := clock_timestamp();
            SELECT string_agg(
                       coalesce(octet_length(convert_to(part, 'UTF8')) || ':' || part, '-'),
                       ',' ORDER BY place)
              INTO told
              FROM unnest(ARRAY[
                  NULL, new_id::text, number::text, extract(epoch FROM new_at)::text,
                  extract(epoch FROM moment)::text, new_actor, new_action, new_entity,
                  new_entity_id::text, NULL, new_facts::text, 'success',
                  NULL, origin->>'permission', origin->>'address',
                  origin->>'request_id', origin->>'agent_hash'
              ]) WITH ORDINALITY AS parts(part, place);
            INSERT INTO public.operator_event (
                id, sequence, at, created_at, actor, action, entity, entity_id, facts, permission,
                address, request_id, agent_hash, form, previous_hash, hash)
            VALUES (
                new_id, number, new_at, moment, new_actor, new_action, new_entity, new_entity_id,
                new_facts, origin->>'permission', origin->>'address',
                (origin->>'request_id')::uuid, decode(origin->>'agent_hash', 'hex'), 2, link,
                sha256(link || convert_to(told, 'UTF8')));
        END $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION note_operators_act(
            about uuid, what text, facts jsonb, origin jsonb, moment timestamptz
        ) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
        DECLARE
            end_of_trail record;
        BEGIN
            PERFORM set_config('afterglow.clinic', about::text, true);
            PERFORM public.append_audit_event(
                public.id_by_time(), moment, origin->>'actor', what, 'clinic', about, NULL, facts,
                origin || '{"role": "operator"}');
            SELECT sequence, encode(hash, 'hex') AS hash INTO end_of_trail
              FROM public.audit_event WHERE clinic_id = about ORDER BY sequence DESC LIMIT 1;
            PERFORM public.append_operator_event(
                moment, origin->>'actor', what, 'clinic', about,
                facts || jsonb_build_object('clinics_line', end_of_trail.sequence,
                                            'clinics_head', end_of_trail.hash), origin);
            PERFORM set_config('afterglow.clinic', '', true);
        END $$
        """
    )


def _beginning() -> None:
    """Give every clinic a tenancy, however it comes to be here."""
    op.execute(
        f"""
        CREATE FUNCTION begin_tenancy() RETURNS trigger
        LANGUAGE plpgsql {DEFINER} AS $$
        BEGIN
            INSERT INTO public.tenancy (id, name, status, since, set_by)
            VALUES (NEW.clinic_id, NEW.name, 'active', now(), 'here');
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER begins_tenancy AFTER INSERT ON clinic "
        "FOR EACH ROW EXECUTE FUNCTION begin_tenancy()"
    )
    op.execute(
        "INSERT INTO tenancy (id, name, status, since, set_by) "
        "SELECT clinic_id, name, 'active', created_at, 'here' FROM clinic"
    )
    op.execute(
        f"""
        CREATE FUNCTION tenancy_status(clinic uuid) RETURNS text
        LANGUAGE sql STABLE {DEFINER} AS $$
            SELECT status FROM public.tenancy WHERE id = clinic
        $$
        """
    )


def _limits() -> None:
    """Let no clinic have more accounts or sites than it may, whichever way they are made."""
    op.execute(
        """
        CREATE FUNCTION keep_within_limits() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
        DECLARE
            most integer;
            there bigint;
        BEGIN
            SELECT CASE TG_TABLE_NAME WHEN 'site' THEN most_sites ELSE most_users END
              INTO most FROM public.tenancy WHERE id = NEW.clinic_id;
            IF most IS NULL THEN
                RETURN NEW;
            END IF;
            PERFORM pg_advisory_xact_lock(
                hashtextextended('most ' || TG_TABLE_NAME || NEW.clinic_id, 0));
            IF TG_TABLE_NAME = 'site' THEN
                SELECT count(*) INTO there FROM public.site WHERE clinic_id = NEW.clinic_id;
            ELSE
                SELECT count(*) INTO there FROM public.user_account
                 WHERE clinic_id = NEW.clinic_id AND status <> 'disabled';
            END IF;
            IF there >= most THEN
                PERFORM public.refuse('limit-reached', format(
                    'This clinic may have %s %s.', most,
                    CASE TG_TABLE_NAME WHEN 'site' THEN 'sites' ELSE 'accounts' END));
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER keeps_within_limits BEFORE INSERT ON site "
        "FOR EACH ROW EXECUTE FUNCTION keep_within_limits()"
    )
    op.execute(
        "CREATE TRIGGER keeps_within_limits BEFORE INSERT ON user_account "
        "FOR EACH ROW EXECUTE FUNCTION keep_within_limits()"
    )
    op.execute(
        "CREATE TRIGGER keeps_within_limits_again BEFORE UPDATE ON user_account "
        "FOR EACH ROW WHEN (OLD.status = 'disabled' AND NEW.status <> 'disabled') "
        "EXECUTE FUNCTION keep_within_limits()"
    )


def _admitting() -> None:
    op.execute(
        f"""
        CREATE FUNCTION admit_operator(shown bytea, moment timestamptz)
        RETURNS TABLE (id uuid, name text, prefix text)
        LANGUAGE plpgsql {DEFINER} AS $$
        BEGIN
            UPDATE public.operator_key k SET last_used_on = (moment AT TIME ZONE 'UTC')::date
             WHERE k.secret_hash = shown AND k.revoked_at IS NULL AND k.expires_at > moment
               AND k.last_used_on IS DISTINCT FROM (moment AT TIME ZONE 'UTC')::date;
            RETURN QUERY SELECT k.id, k.name::text, k.prefix::text FROM public.operator_key k
             WHERE k.secret_hash = shown AND k.revoked_at IS NULL AND k.expires_at > moment;
        END $$
        """
    )


def _seeing() -> None:
    """Show what a clinic is called and how big it is as a tenant: nothing about its patients."""
    op.execute(
        f"""
        CREATE FUNCTION see_clinic(clinic uuid)
        RETURNS TABLE (called text, email text, phone text, time_zone text,
                       users bigint, sites bigint, last_active_on date)
        LANGUAGE plpgsql {DEFINER} AS $$
        BEGIN
            PERFORM set_config('afterglow.clinic', clinic::text, true);
            RETURN QUERY
            SELECT c.name::text, c.email::text, c.phone::text, c.time_zone::text,
                   (SELECT count(*) FROM public.user_account u
                     WHERE u.clinic_id = clinic AND u.status <> 'disabled'),
                   (SELECT count(*) FROM public.site s WHERE s.clinic_id = clinic),
                   (SELECT (max(e.at) AT TIME ZONE 'UTC')::date FROM public.audit_event e
                     WHERE e.clinic_id = clinic)
              FROM public.clinic c WHERE c.clinic_id = clinic;
            PERFORM set_config('afterglow.clinic', '', true);
        END $$
        """
    )


def _founding() -> None:
    """Make a clinic with nothing in it; let its first admin be written to until somebody has come.

    Nobody is invited from outside later: an operator who could invite an admin could invite
    themselves, and read.
    """
    op.execute(
        f"""
        CREATE FUNCTION found_clinic(told jsonb, origin jsonb, moment timestamptz) RETURNS uuid
        LANGUAGE plpgsql {DEFINER} AS $$
        DECLARE
            made uuid := public.id_by_time();
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended('found a clinic', 0));
            PERFORM FROM public.clinic c WHERE lower(c.name) = lower(told->>'name');
            IF FOUND THEN
                PERFORM public.refuse('already-exists', 'A clinic is called so already.');
            END IF;
            PERFORM set_config('afterglow.clinic', made::text, true);
            INSERT INTO public.clinic (clinic_id, name, email, phone, time_zone, emergency_text)
            VALUES (made, told->>'name', told->>'email', told->>'phone', told->>'time_zone',
                    coalesce(told->>'emergency_text', ''));
            UPDATE public.tenancy
               SET since = moment, set_by = origin->>'actor',
                   requests_per_minute = (told->>'requests_per_minute')::integer,
                   most_users = (told->>'most_users')::integer,
                   most_sites = (told->>'most_sites')::integer
             WHERE id = made;
            PERFORM public.note_operators_act(
                made, 'create', jsonb_build_object('name', told->>'name'), origin, moment);
            RETURN made;
        END $$
        """
    )
    op.execute(
        f"""
        CREATE FUNCTION invite_admin(about uuid, origin jsonb, moment timestamptz)
        RETURNS void LANGUAGE plpgsql {DEFINER} AS $$
        BEGIN
            IF (public.hold_tenancy(about, NULL)).status <> 'active' THEN
                PERFORM public.refuse('wrong-status', 'This clinic is not active.');
            END IF;
            PERFORM set_config('afterglow.clinic', about::text, true);
            IF EXISTS (SELECT FROM public.user_account WHERE clinic_id = about
                          AND (password_hash IS NOT NULL OR status <> 'invited'))
               OR EXISTS (SELECT FROM public.api_key WHERE clinic_id = about)
               OR EXISTS (SELECT FROM public.patient WHERE clinic_id = about) THEN
                PERFORM public.refuse('wrong-status',
                    'This clinic has begun: its own admins invite, nobody from outside.');
            END IF;
            PERFORM public.note_operators_act(
                about, 'update', '{{"invited": "admin"}}', origin, moment);
        END $$
        """
    )


def _changing() -> None:
    op.execute(
        """
        CREATE FUNCTION hold_tenancy(about uuid, seen integer) RETURNS tenancy
        LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
        DECLARE
            held public.tenancy;
        BEGIN
            SELECT * INTO held FROM public.tenancy WHERE id = about FOR UPDATE;
            IF NOT FOUND THEN
                PERFORM public.refuse('not-found', 'There is no such clinic.');
            END IF;
            IF held.version <> seen THEN
                PERFORM public.refuse('stale',
                    'This clinic was changed in the meantime. Read it again.');
            END IF;
            RETURN held;
        END $$
        """
    )
    op.execute(
        f"""
        CREATE FUNCTION limit_tenancy(
            about uuid, seen integer, told jsonb, origin jsonb, moment timestamptz
        ) RETURNS void
        LANGUAGE plpgsql {DEFINER} AS $$
        DECLARE
            held public.tenancy := public.hold_tenancy(about, seen);
        BEGIN
            IF held.status IN ('shredding', 'shredded') THEN
                PERFORM public.refuse('wrong-status', 'This clinic is gone.');
            END IF;
            UPDATE public.tenancy
               SET requests_per_minute = CASE WHEN told ? 'requests_per_minute'
                       THEN (told->>'requests_per_minute')::integer ELSE requests_per_minute END,
                   most_users = CASE WHEN told ? 'most_users'
                       THEN (told->>'most_users')::integer ELSE most_users END,
                   most_sites = CASE WHEN told ? 'most_sites'
                       THEN (told->>'most_sites')::integer ELSE most_sites END,
                   version = version + 1
             WHERE id = about;
            PERFORM public.note_operators_act(
                about, 'update', jsonb_build_object('limits', told), origin, moment);
        END $$
        """
    )


def _moving() -> None:
    """The life cycle. What may follow on what stands here and nowhere else."""
    op.execute(
        f"""
        CREATE FUNCTION move_tenancy(
            about uuid, seen integer, act text, told jsonb, origin jsonb, moment timestamptz
        ) RETURNS void
        LANGUAGE plpgsql {DEFINER} AS $$
        DECLARE
            held public.tenancy := public.hold_tenancy(about, seen);
            called text;
            becomes text := CASE act
                WHEN 'suspend' THEN CASE WHEN held.status = 'active' THEN 'suspended' END
                WHEN 'resume' THEN CASE WHEN held.status = 'suspended' THEN 'active' END
                WHEN 'close' THEN
                    CASE WHEN held.status IN ('active', 'suspended') THEN 'closed' END
                WHEN 'reopen' THEN CASE WHEN held.status = 'closed' THEN 'active' END
                WHEN 'shred' THEN CASE WHEN held.status = 'closed' THEN 'shredding' END END;
        BEGIN
            IF becomes IS NULL THEN
                PERFORM public.refuse('wrong-status',
                    format('A clinic that is %s cannot be told to %s.', held.status, act));
            END IF;
            PERFORM set_config('afterglow.clinic', about::text, true);
            SELECT name INTO called FROM public.clinic WHERE clinic_id = about;
            IF held.status = 'active' AND NOT coalesce((told->>'during_visits')::boolean, false)
            THEN
                PERFORM FROM public.appointment
                  WHERE clinic_id = about AND status IN ('arrived', 'checked-in')
                    AND starts_at > moment - interval '24 hours';
                IF FOUND THEN
                    PERFORM public.refuse('visits-under-way',
                        'Somebody is at the clinic for a visit now.');
                END IF;
            END IF;
            IF act = 'shred' AND moment < held.shred_after THEN
                PERFORM public.refuse('too-early', 'It may still be reopened.');
            END IF;
            IF act = 'shred' AND told->>'name' IS DISTINCT FROM called THEN
                PERFORM public.refuse('unfit', 'The clinic is not called so.');
            END IF;
            UPDATE public.tenancy
               SET status = becomes, since = moment, set_by = origin->>'actor',
                   reason = told->>'reason', name = called,
                   resumed_at = CASE WHEN becomes = 'active' THEN moment ELSE resumed_at END,
                   shred_after = CASE act WHEN 'close' THEN (told->>'shred_after')::timestamptz
                                          WHEN 'reopen' THEN NULL ELSE shred_after END,
                   version = version + 1
             WHERE id = about;
            PERFORM public.note_operators_act(
                about, CASE act WHEN 'shred' THEN 'delete' ELSE 'update' END,
                jsonb_strip_nulls(jsonb_build_object(
                    'name', called, 'from', held.status, 'to', becomes, 'reason', told->>'reason',
                    'shred_after', told->>'shred_after',
                    'during_visits', told->'during_visits')),
                origin, moment);
        END $$
        """
    )


def _shredding() -> None:
    """Delete some rows of a clinic whose shredding was ordered; the worker calls until none is left.

    Each call is a transaction. It finds its tables in the catalogue, so that none is forgotten:
    those that keep the keys of encrypted fields first, then one to which no row refers any more.
    Rows are deleted newest first. With the last row goes the clinic, and the tenancy says so.
    """
    op.execute(
        f"""
        CREATE FUNCTION shred_some(about uuid, at_most integer, moment timestamptz) RETURNS bigint
        LANGUAGE plpgsql {DEFINER} AS $$
        DECLARE
            keys CONSTANT text[] := ARRAY['clinic_key'];
            held public.tenancy;
            one record;
            is_there boolean;
            left_over oid[] := '{{}}';
            chosen record;
            deleted bigint;
            own_links text;
        BEGIN
            SELECT * INTO held FROM public.tenancy WHERE id = about FOR UPDATE;
            IF held.status IS DISTINCT FROM 'shredding' THEN
                RETURN 0;
            END IF;
            PERFORM set_config('afterglow.clinic', about::text, true);
            SELECT format('UPDATE public.clinic SET %s WHERE clinic_id = $1 AND num_nonnulls(%s) > 0',
                          string_agg(format('%I = NULL', a.attname), ', '),
                          string_agg(quote_ident(a.attname), ', '))
              INTO own_links
              FROM pg_constraint k JOIN pg_attribute a
                ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
             WHERE k.contype = 'f' AND k.conrelid = 'public.clinic'::regclass
               AND a.attname <> 'clinic_id';
            EXECUTE own_links USING about;
            FOR one IN
                SELECT c.oid, c.relname FROM pg_class c JOIN pg_attribute a
                    ON a.attrelid = c.oid AND a.attname = 'clinic_id' AND NOT a.attisdropped
                 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
                   AND NOT c.relispartition AND c.relname <> 'clinic' ORDER BY c.relname
            LOOP
                EXECUTE format('SELECT EXISTS (SELECT FROM public.%I WHERE clinic_id = $1)',
                               one.relname) INTO is_there USING about;
                IF is_there THEN
                    left_over := left_over || one.oid;
                END IF;
            END LOOP;
            IF cardinality(left_over) = 0 THEN
                DELETE FROM public.clinic WHERE clinic_id = about;
                UPDATE public.tenancy
                   SET status = 'shredded', since = moment, version = version + 1 WHERE id = about;
                PERFORM public.append_operator_event(
                    moment, held.set_by, 'delete', 'clinic', about,
                    jsonb_build_object('name', held.name, 'to', 'shredded', 'rows', held.gone),
                    '{{}}');
                RETURN 1;
            END IF;
            SELECT c.oid, c.relname, EXISTS (
                       SELECT FROM pg_constraint k WHERE k.contype = 'f'
                          AND k.conrelid = c.oid AND k.confrelid = c.oid) AS refers_to_itself
              INTO STRICT chosen
              FROM pg_class c
             WHERE c.oid = ANY (left_over)
               AND NOT EXISTS (SELECT FROM pg_constraint k
                                WHERE k.contype = 'f' AND k.confrelid = c.oid
                                  AND k.conrelid <> c.oid AND k.conrelid = ANY (left_over))
             ORDER BY c.relname <> ALL (keys), c.relname LIMIT 1;
            EXECUTE format(
                'DELETE FROM public.%1$I WHERE clinic_id = $1 AND id IN ('
                'SELECT id FROM public.%1$I WHERE clinic_id = $1 ORDER BY id DESC LIMIT $2)',
                chosen.relname)
              USING about, CASE WHEN NOT chosen.refers_to_itself THEN at_most END;
            GET DIAGNOSTICS deleted = ROW_COUNT;
            UPDATE public.tenancy
               SET gone = gone || jsonb_build_object(
                   chosen.relname, coalesce((gone->>chosen.relname)::bigint, 0) + deleted)
             WHERE id = about;
            RETURN deleted;
        END $$
        """
    )


def _signed_versions_go_with_their_clinic() -> None:
    """A signed version never changes, and goes only when all of its clinic does."""
    op.execute(
        """
        CREATE OR REPLACE FUNCTION refuse_change_of_signed_version() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog AS $$
        BEGIN
            IF TG_OP = 'DELETE' THEN
                PERFORM FROM public.tenancy
                  WHERE id = OLD.clinic_id AND status = 'shredding';
                IF FOUND THEN
                    RETURN OLD;
                END IF;
            END IF;
            IF OLD.signed_at IS NOT NULL THEN
                RAISE EXCEPTION 'a signed protocol version never changes'
                    USING ERRCODE = 'restrict_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )


def _signed_versions_never_go() -> None:
    op.execute(
        """
        CREATE OR REPLACE FUNCTION refuse_change_of_signed_version() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog AS $$
        BEGIN
            IF OLD.signed_at IS NOT NULL THEN
                RAISE EXCEPTION 'a signed protocol version never changes'
                    USING ERRCODE = 'restrict_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )


def _grants() -> None:
    """Who may do which of it. The operators' role may touch no table of a clinic at all."""
    op.execute(f"GRANT USAGE ON SCHEMA public TO {operator()}")
    for function in (
        *INTERNAL,
        *FOR_OPERATORS,
        "tenancy_status(uuid)",
        "shred_some(uuid, integer, timestamptz)",
    ):
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
    for function in FOR_OPERATORS:
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {operator()}")
    op.execute(f"GRANT EXECUTE ON FUNCTION tenancy_status(uuid) TO {service()}")
    op.execute(f"GRANT EXECUTE ON FUNCTION shred_some(uuid, integer, timestamptz) TO {worker()}")
    op.execute(f"CREATE POLICY own ON tenancy FOR SELECT TO {service()} USING (id = {CLINIC})")
    op.execute(f"CREATE POLICY seen ON tenancy FOR SELECT TO {worker()}, {operator()} USING (true)")
    op.execute(f"CREATE POLICY seen ON operator_event FOR SELECT TO {operator()} USING (true)")
    op.execute(f"GRANT SELECT ON tenancy TO {service()}, {worker()}, {operator()}")
    op.execute(f"GRANT SELECT ON operator_event TO {operator()}")


def _created_at() -> sa.Column[Any]:
    return sa.Column(
        "created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
    )
