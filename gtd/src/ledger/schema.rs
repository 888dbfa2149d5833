//! The tables, and how older ones become today's. A migration that was released is never edited: a new one
//! is appended.

use rusqlite::Connection;

use super::error::LedgerError;

/// Marks a file as ours in its header: `gtdb`.
pub(super) const APPLICATION_ID: i32 = 0x6774_6462;

/// One step from the version before to `version`.
pub(super) struct Migration {
    /// The version that the file has afterwards; steps are numbered from 1 without holes.
    pub version: i32,
    /// What makes it so.
    pub sql: &'static str,
}

/// All steps, in order.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, sql: include_str!("schema/v1.sql") },
    Migration { version: 2, sql: include_str!("schema/v2.sql") },
    Migration { version: 3, sql: include_str!("schema/v3.sql") },
    Migration { version: 4, sql: include_str!("schema/v4.sql") },
];

/// The version that this program writes.
pub(super) fn current(migrations: &[Migration]) -> i32 {
    migrations.last().map_or(0, |last| last.version)
}

/// The file's version; 0 when it has no tables yet.
pub(super) fn version(conn: &Connection) -> Result<i32, LedgerError> {
    Ok(conn.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

/// Brings the file to the newest version, in one transaction: it has all the steps or none.
pub(super) fn migrate(conn: &mut Connection, migrations: &[Migration]) -> Result<(), LedgerError> {
    let from = version(conn)?;
    if from >= current(migrations) {
        return Ok(());
    }
    let tx = conn.transaction()?;
    for step in migrations.iter().filter(|step| step.version > from) {
        tx.execute_batch(step.sql)?;
        tx.pragma_update(None, "user_version", step.version)?;
    }
    tx.commit()?;
    Ok(())
}
