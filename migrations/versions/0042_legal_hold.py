"""Legal hold: nothing of a clinic is shredded while somebody may ask for it in court.

Revision ID: 0042_legal_hold
"""

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import operator

revision = "0042_legal_hold"
down_revision = "0041_tenants"
branch_labels = None
depends_on = None
phase = "expand"

HOLD = "hold_records(uuid, integer, jsonb, jsonb, timestamptz)"


def upgrade() -> None:
    """Let operators place a hold and lift it; let no clinic under one be shredded."""
    op.add_column("tenancy", sa.Column("held_since", sa.DateTime(timezone=True)))
    op.add_column("tenancy", sa.Column("held_by", sa.String()))
    op.add_column("tenancy", sa.Column("hold_reason", sa.String()))
    op.create_check_constraint(
        "held_by_somebody_for_a_reason",
        "tenancy",
        "num_nulls(held_since, held_by, hold_reason) IN (0, 3)",
    )
    op.create_check_constraint(
        "held_is_kept", "tenancy", "held_since IS NULL OR status NOT IN ('shredding', 'shredded')"
    )
    _keeping()
    _holding()


def downgrade() -> None:
    """Forget how to hold; refused while a hold stands."""
    op.execute(
        """
        DO $$ BEGIN
            IF EXISTS (SELECT FROM tenancy WHERE held_since IS NOT NULL) THEN
                RAISE EXCEPTION 'a legal hold stands: lift it first';
            END IF;
        END $$
        """
    )
    op.execute(f"DROP FUNCTION {HOLD}")
    op.execute("DROP TRIGGER keeps_what_is_held ON tenancy")
    op.execute("DROP FUNCTION keep_what_is_held()")
    op.drop_constraint("held_is_kept", "tenancy")
    op.drop_constraint("held_by_somebody_for_a_reason", "tenancy")
    for column in ("hold_reason", "held_by", "held_since"):
        op.drop_column("tenancy", column)


def _keeping() -> None:
    """Refuse in words what the constraint refuses, whichever way a clinic comes to be shredded."""
    op.execute(
        """
        CREATE FUNCTION keep_what_is_held() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
            PERFORM public.refuse('legal-hold',
                'The records of this clinic are under a legal hold: it is not shredded.');
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER keeps_what_is_held BEFORE UPDATE ON tenancy FOR EACH ROW "
        "WHEN (NEW.held_since IS NOT NULL AND NEW.status IN ('shredding', 'shredded')) "
        "EXECUTE FUNCTION keep_what_is_held()"
    )


def _holding() -> None:
    op.execute(
        """
        CREATE FUNCTION hold_records(
            about uuid, seen integer, told jsonb, origin jsonb, moment timestamptz
        ) RETURNS void
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        DECLARE
            held public.tenancy := public.hold_tenancy(about, seen);
            stands boolean := (told->>'stands')::boolean;
        BEGIN
            IF held.status IN ('shredding', 'shredded') THEN
                PERFORM public.refuse('wrong-status', 'This clinic is gone.');
            END IF;
            IF stands = (held.held_since IS NOT NULL) THEN
                PERFORM public.refuse('wrong-status', CASE WHEN stands
                    THEN 'Its records are under a legal hold already.'
                    ELSE 'Its records are under no legal hold.' END);
            END IF;
            UPDATE public.tenancy
               SET held_since = CASE WHEN stands THEN moment END,
                   held_by = CASE WHEN stands THEN origin->>'actor' END,
                   hold_reason = CASE WHEN stands THEN told->>'reason' END,
                   version = version + 1
             WHERE id = about;
            PERFORM public.note_operators_act(
                about, 'update',
                jsonb_build_object('legal_hold', stands, 'reason', told->>'reason'),
                origin, moment);
        END $$
        """
    )
    op.execute(f"REVOKE ALL ON FUNCTION {HOLD} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {HOLD} TO {operator()}")
