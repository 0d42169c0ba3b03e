"""The audit trail: one append-only table of decisions a kind, which is the state as well.

A case is where its latest decision put it. Each decision names the one
before it, what it found and what it left, and the database holds every row to that chain: two
decisions can't follow the same one, nothing follows a refund but what takes it back, and no amount
is above the order's total. So a refund can't be given twice, whoever writes here.
"""

from psycopg import Connection

from caspers_lib.console.decisions.values import GIVEN, TRANSITIONS, CaseKind

__all__ = ["LONGEST_REASON", "LONGEST_REPLY", "lock_case", "prepare_trail", "trail_sql"]

LONGEST_REASON = 2_000
LONGEST_REPLY = 4_000
_LONGEST_NAME = 320
_LONGEST_KEY = 100

_TABLE = """
CREATE TABLE IF NOT EXISTS {trail} (
    case_id text NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    order_id text NOT NULL,
    action text NOT NULL,
    status_before text NOT NULL,
    status text NOT NULL,
    amount_before_usd numeric(12, 2) NOT NULL,
    amount_usd numeric(12, 2) NOT NULL,
    suggested_usd numeric(12, 2),
    order_total_usd numeric(12, 2),
    reason text NOT NULL CHECK (length(reason) <= {longest_reason}),
    reply text CHECK (length(reply) <= {longest_reply}),
    person text NOT NULL CHECK (person <> '' AND length(person) <= {longest_name}),
    person_before text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    key text NOT NULL UNIQUE CHECK (key <> '' AND length(key) <= {longest_key}),
    asked text NOT NULL,
    version_before integer GENERATED ALWAYS AS (nullif(version - 1, 0)) STORED,
    PRIMARY KEY (case_id, version),
    CONSTRAINT link UNIQUE (case_id, version, status, amount_usd, person),
    CONSTRAINT follows_the_one_before
        FOREIGN KEY (case_id, version_before, status_before, amount_before_usd, person_before)
        REFERENCES {trail} (case_id, version, status, amount_usd, person),
    CONSTRAINT begins_pending CHECK (
        version > 1 OR (status_before = 'pending' AND amount_before_usd = 0 AND person_before = '')
    ),
    CONSTRAINT money_where_it_is_given CHECK ((status IN ({money})) = (amount_usd > 0)),
    CONSTRAINT not_above_the_total CHECK (
        amount_usd = 0
        OR (
            order_total_usd IS NOT NULL
            AND order_total_usd <> 'NaN'
            AND amount_usd <= order_total_usd
        )
    ),
    CONSTRAINT two_people CHECK (action <> 'second_approval' OR person <> person_before),
    CONSTRAINT second_approves_the_same CHECK (
        action <> 'second_approval' OR amount_usd = amount_before_usd
    )
)
"""

# Of a trail that an older console made, these are made anew.
_CONSTRAINTS = """
ALTER TABLE {trail}
    DROP CONSTRAINT IF EXISTS is_a_transition,
    ADD CONSTRAINT is_a_transition CHECK ((status_before, action, status) IN ({transitions})),
    DROP CONSTRAINT IF EXISTS undone_by_who_decided,
    ADD CONSTRAINT undone_by_who_decided CHECK (action <> 'undo' OR person = person_before)
"""

_IS_READY = """
    SELECT EXISTS (
        SELECT FROM pg_constraint
        WHERE conrelid = to_regclass(%s) AND conname = 'undone_by_who_decided'
    )
"""

_APPEND_ONLY = """
CREATE OR REPLACE FUNCTION console.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The audit trail % is append-only.', TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {trail}
    FOR EACH STATEMENT EXECUTE FUNCTION console.refuse_change();
CREATE INDEX IF NOT EXISTS {noun}_decisions_by_time ON {trail} (decided_at)
"""


def trail_sql(kind: CaseKind) -> str:
    """The statements that make a kind's trail; they can be run again.

    Args:
        kind: what is decided about.

    Returns:
        SQL for PostgreSQL 15 and later, separated by semicolons.
    """
    transitions = ", ".join(f"('{a}', '{b}', '{c}')" for a, b, c in sorted(TRANSITIONS))
    money = ", ".join(f"'{status}'" for status in ("waiting", *GIVEN))
    table = _TABLE.format(
        trail=kind.trail,
        money=money,
        longest_reason=LONGEST_REASON,
        longest_reply=LONGEST_REPLY,
        longest_name=_LONGEST_NAME,
        longest_key=_LONGEST_KEY,
    )
    rest = _APPEND_ONLY.format(trail=kind.trail, noun=kind.noun)
    constraints = _CONSTRAINTS.format(trail=kind.trail, transitions=transitions)
    return f"CREATE SCHEMA IF NOT EXISTS console;\n{table};\n{constraints};\n{rest}"


def lock_case(connection: Connection, kind: CaseKind, case_id: str) -> None:
    """Let nobody else record a decision about a case until the transaction ends.

    Args:
        connection: to the kind's database, in a transaction.
        kind: the case's.
        case_id: the case.

    Raises:
        psycopg.Error: the server can't answer.
    """
    lock = f"{kind.trail} {case_id}"
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (lock,))


def prepare_trail(connection: Connection, kind: CaseKind) -> None:
    """Make a kind's trail, or bring an older one up to date.

    Args:
        connection: to the kind's database, whose role may create a schema.
        kind: what is decided about.

    Raises:
        psycopg.Error: the role may not create it, or the server can't be reached.
    """
    with connection.transaction():
        [(is_ready,)] = connection.execute(_IS_READY.encode(), (kind.trail,)).fetchall()
        if not is_ready:
            # Two consoles that start together would make the same things.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('caspers console'))")
            connection.execute(trail_sql(kind).encode())
