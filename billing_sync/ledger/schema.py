"""The ledger's tables, as numbered steps that are valid SQL for SQLite and PostgreSQL alike.

A step is never edited once a release has it: a change is the next step.
"""

from sqlalchemy import Connection, inspect, text

from metering.errors import UserError

_FIRST = """
CREATE TABLE invoice (
    id TEXT PRIMARY KEY, customer TEXT NOT NULL, period TEXT NOT NULL, currency TEXT NOT NULL,
    plan TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    external TEXT NOT NULL DEFAULT '', number TEXT NOT NULL DEFAULT '');
CREATE TABLE request (
    id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, state TEXT NOT NULL, payload TEXT NOT NULL,
    first_sent BIGINT NOT NULL, last_sent BIGINT NOT NULL, saw_5xx INTEGER NOT NULL DEFAULT 0,
    external TEXT NOT NULL DEFAULT '');
CREATE TABLE carry (
    customer TEXT NOT NULL, currency TEXT NOT NULL, micro BIGINT NOT NULL, invoice TEXT NOT NULL,
    PRIMARY KEY (customer, currency));
CREATE TABLE parked (
    customer TEXT NOT NULL, period TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (customer, period));
"""

_SECOND = """
ALTER TABLE invoice ADD COLUMN changed BIGINT NOT NULL DEFAULT 0;
ALTER TABLE invoice ADD COLUMN status TEXT NOT NULL DEFAULT '';
ALTER TABLE invoice ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
CREATE INDEX invoice_of ON invoice (customer, period);
CREATE INDEX invoice_in ON invoice (state);
ALTER TABLE parked ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
CREATE TABLE person (
    customer TEXT PRIMARY KEY, external TEXT NOT NULL, how TEXT NOT NULL,
    stopped TEXT NOT NULL DEFAULT '', since BIGINT NOT NULL);
CREATE TABLE meter_hour (
    customer TEXT NOT NULL, meter TEXT NOT NULL, hour BIGINT NOT NULL, revision INTEGER NOT NULL,
    quantity TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    sent_at BIGINT NOT NULL DEFAULT 0, at_meter TEXT NOT NULL DEFAULT '0',
    PRIMARY KEY (customer, meter, hour));
CREATE INDEX hour_in ON meter_hour (state);
CREATE TABLE correction (
    id TEXT PRIMARY KEY, customer TEXT NOT NULL, currency TEXT NOT NULL, micro BIGINT NOT NULL,
    description TEXT NOT NULL, invoice TEXT NOT NULL DEFAULT '', since BIGINT NOT NULL);
CREATE INDEX correction_of ON correction (customer);
CREATE TABLE hold (
    customer TEXT NOT NULL, period TEXT NOT NULL, since BIGINT NOT NULL,
    PRIMARY KEY (customer, period));
CREATE TABLE claim (customer TEXT PRIMARY KEY, holder TEXT NOT NULL, until BIGINT NOT NULL);
CREATE TABLE subscription (
    id TEXT PRIMARY KEY, customer TEXT NOT NULL, account TEXT NOT NULL, currency TEXT NOT NULL,
    started BIGINT NOT NULL, anchor BIGINT NOT NULL, trial_end BIGINT NOT NULL, ended BIGINT NOT NULL);
CREATE TABLE subscribed (
    id TEXT NOT NULL, starts BIGINT NOT NULL, price TEXT NOT NULL, PRIMARY KEY (id, starts));
CREATE TABLE mark (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE action (
    id TEXT PRIMARY KEY, at BIGINT NOT NULL, actor TEXT NOT NULL, command TEXT NOT NULL,
    subject TEXT NOT NULL, reason TEXT NOT NULL);
"""

_THIRD = """
ALTER TABLE invoice ADD COLUMN told BIGINT NOT NULL DEFAULT 0;
"""

STEPS = (_FIRST, _SECOND, _THIRD)
SCHEMA = len(STEPS)


def upgrade(connection: Connection, place: str) -> None:
    """Bring a ledger to this program's schema, in the caller's transaction; refuse a newer one."""
    held = version(connection)
    if held > SCHEMA:
        raise UserError(
            f"the ledger {place} has schema {held}, this program knows {SCHEMA}",
            hint="install the newer version again; an older one cannot read what it wrote",
        )
    if held == SCHEMA:
        return
    connection.execute(text("CREATE TABLE IF NOT EXISTS ledger_schema (version INTEGER NOT NULL)"))
    for step in STEPS[held:]:
        for statement in filter(None, (part.strip() for part in step.split(";\n"))):
            connection.execute(text(statement.rstrip(";")))
    connection.execute(text("DELETE FROM ledger_schema"))
    connection.execute(text("INSERT INTO ledger_schema VALUES (:version)"), {"version": SCHEMA})


def version(connection: Connection) -> int:
    """The schema of a ledger; the first one did not write it down in a table."""
    tables = inspect(connection).get_table_names()
    if "ledger_schema" in tables:
        return int(connection.execute(text("SELECT max(version) FROM ledger_schema")).scalar_one())
    return 1 if "invoice" in tables else 0
