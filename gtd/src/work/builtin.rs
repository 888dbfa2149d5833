//! The store of towns and rigs without a `.beads`: tables of the ledger.
//!
//! A change and its events are one commit. Where the ledger could not be used, or had to be made anew, it does
//! not know what there was, and says so instead of calling it absent.

use gtd_proto::{Address, Timestamp, WorkId};
use tokio::sync::Mutex;

use super::store::{Done, WorkStore};
use super::{CLOSED, Filter, HOOKED, Item, NewItem, OPEN, Unknown, Why, WorkError};
use crate::ledger::{Ledger, LedgerError, NewEvent, WorkQuery, WorkRow, WorkWrite, Write};

/// Items that are not closed, at most: some 100 MB when each is as long as it may be on average.
const OPEN_MAX: i64 = 100_000;
/// Priority unless given.
const PRIORITY: i64 = 2;
/// The statuses that an item of this store can have.
pub const STATUSES: &[&str] = &[OPEN, HOOKED, CLOSED];

/// Work items in the ledger.
#[derive(Debug)]
pub struct Builtin {
    ledger: Ledger,
    /// Why items may be missing that there were.
    lost: Option<String>,
    /// Those that are not closed are all there all the same.
    open_kept: bool,
    changing: Mutex<()>,
}

impl Builtin {
    /// The store of a ledger. `lost` says why the ledger may lack items that there were, if it may; `open_kept`
    /// that it lacks none of those that are not closed.
    #[must_use]
    pub fn new(ledger: Ledger, lost: Option<String>, open_kept: bool) -> Self {
        Self { ledger, lost, open_kept, changing: Mutex::new(()) }
    }

    fn unknown(&self, what: impl Into<String>, why: Why) -> Unknown {
        Unknown { store: "the built-in store".to_owned(), what: what.into(), why, stderr: String::new() }
    }

    /// What is not there may have been lost.
    fn complete(&self, what: &str) -> Result<(), Unknown> {
        self.in_file(what)?;
        match self.lost.clone() {
            Some(why) => Err(self.unknown(what, Why::Broken(why))),
            None => Ok(()),
        }
    }

    /// The same, of what is not closed.
    fn open_complete(&self, what: &str) -> Result<(), Unknown> {
        if self.open_kept { self.in_file(what) } else { self.complete(what) }
    }

    /// What is changed in memory would be gone when the file can be used again.
    fn in_file(&self, what: &str) -> Result<(), Unknown> {
        if self.ledger.info().in_memory {
            return Err(self.unknown(what, Why::Broken("the ledger's file cannot be used".to_owned())));
        }
        Ok(())
    }

    fn failed(&self, what: &str) -> impl Fn(LedgerError) -> Unknown {
        let what = what.to_owned();
        move |error| self.unknown(what.clone(), Why::Broken(error.to_string()))
    }

    async fn row(&self, id: &WorkId) -> Result<WorkRow, WorkError> {
        let what = format!("show {id}");
        match self.ledger.work_item(id).await.map_err(self.failed(&what))? {
            Some(row) => Ok(row),
            None => {
                self.complete(&what)?;
                Err(WorkError::NotFound(id.clone()))
            }
        }
    }

    async fn write(&self, what: &str, rows: Vec<WorkRow>, told: &[NewEvent]) -> Result<Done, WorkError> {
        self.in_file(what)?;
        let last = rows.last().cloned();
        let writes = rows.into_iter().map(|row| Write::Work(WorkWrite::Item(row)));
        let writes = writes.chain(told.iter().cloned().map(Write::Event)).collect();
        let events = self.ledger.commit(writes).await.map_err(self.failed(what))?;
        let item = last.map(item).ok_or_else(|| self.unknown(what, Why::Unreadable))?;
        Ok(Done { item, told: Some(events) })
    }
}

impl WorkStore for Builtin {
    fn kind(&self) -> &'static str {
        "builtin"
    }

    fn key(&self) -> &str {
        "builtin"
    }

    fn source(&self) -> String {
        "ledger".to_owned()
    }

    fn changing(&self) -> &Mutex<()> {
        &self.changing
    }

    async fn hooks(&self) -> Result<Vec<Item>, Unknown> {
        let query = WorkQuery { status: Some(HOOKED.to_owned()), ..WorkQuery::default() };
        let rows = self.ledger.work_items(query).await.map_err(self.failed("list hooks"))?;
        self.open_complete("list hooks")?;
        Ok(rows.into_iter().map(item).collect())
    }

    async fn item(&self, id: &WorkId) -> Result<Option<Item>, Unknown> {
        match self.row(id).await {
            Ok(row) => Ok(Some(item(row))),
            Err(WorkError::Unknown(unknown)) => Err(unknown),
            Err(_) => Ok(None),
        }
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Item>, WorkError> {
        if let Some(status) = filter.status.as_deref().filter(|status| !STATUSES.contains(status)) {
            let why =
                format!("{status:?} is no status of the built-in store, which has {}", STATUSES.join(", "));
            return Err(WorkError::Invalid { path: "/status", why });
        }
        let query =
            WorkQuery { status: filter.status.clone(), assignee: filter.assignee.clone(), since: None };
        let rows = self.ledger.work_items(query).await.map_err(self.failed("list"))?;
        match filter.status.as_deref() {
            Some(CLOSED) => self.complete("list")?,
            _ => self.open_complete("list")?,
        }
        Ok(rows.into_iter().map(item).collect())
    }

    async fn changes(&self, since: Timestamp) -> Result<Vec<Item>, Unknown> {
        let query = WorkQuery { since: Some(since), ..WorkQuery::default() };
        let rows = self.ledger.work_items(query).await.map_err(self.failed("list changes"))?;
        self.complete("list changes")?;
        Ok(rows.into_iter().map(item).collect())
    }

    async fn create(&self, new: &NewItem) -> Result<Done, WorkError> {
        let (number, open) = self.ledger.work_numbers().await.map_err(self.failed("create"))?;
        if open >= OPEN_MAX {
            let why = format!("{open} items are open; close some before more are made");
            return Err(self.unknown("create", Why::Refused(why)).into());
        }
        let id = format!("{}-{}", new.prefix, base36(number));
        let id = WorkId::new(id).map_err(|why| WorkError::Invalid {
            path: "/rig",
            why: format!("{why}; it is the rig's prefix"),
        })?;
        let now = Timestamp::now();
        let row = WorkRow {
            number,
            id,
            title: new.title.clone(),
            description: new.description.clone(),
            status: OPEN.to_owned(),
            assignee: None,
            priority: new.priority.map_or(PRIORITY, i64::from),
            created_at: now,
            created_by: new.by.clone(),
            updated_at: now,
            hooked_at: None,
            closed_at: None,
            closed_why: None,
        };
        self.write("create", vec![row], &[]).await
    }

    async fn hook(
        &self,
        id: &WorkId,
        agent: &Address,
        release: &[WorkId],
        told: &[NewEvent],
    ) -> Result<Done, WorkError> {
        let mut rows = Vec::new();
        for other in release {
            rows.push(released(self.row(other).await?));
        }
        let row = self.row(id).await?;
        let now = Timestamp::now();
        rows.push(WorkRow {
            status: HOOKED.to_owned(),
            assignee: Some(agent.to_string()),
            hooked_at: Some(now),
            updated_at: now,
            ..row
        });
        self.write(&format!("hook {id}"), rows, told).await
    }

    async fn unhook(&self, id: &WorkId, _: &Address, told: &[NewEvent]) -> Result<Done, WorkError> {
        let row = released(self.row(id).await?);
        self.write(&format!("unhook {id}"), vec![row], told).await
    }

    async fn close(&self, id: &WorkId, reason: &str, told: &[NewEvent]) -> Result<Done, WorkError> {
        let row = self.row(id).await?;
        let now = Timestamp::now();
        let row = WorkRow {
            status: CLOSED.to_owned(),
            hooked_at: None,
            closed_at: Some(now),
            closed_why: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
            updated_at: now,
            ..row
        };
        self.write(&format!("close {id}"), vec![row], told).await
    }

    async fn agent_state(&self, agent: &Address) -> Result<Option<String>, WorkError> {
        let found = self.ledger.work_agent_state(agent).await;
        Ok(found.map_err(self.failed("tell the state of an agent"))?)
    }

    async fn set_agent_state(&self, agent: &Address, state: &str) -> Result<(), WorkError> {
        let write =
            WorkWrite::AgentState { agent: agent.clone(), state: state.to_owned(), at: Timestamp::now() };
        self.in_file("keep the state of an agent")?;
        let done = self.ledger.commit(vec![Write::Work(write)]).await;
        done.map(drop).map_err(|error| self.failed("keep the state of an agent")(error).into())
    }
}

fn released(row: WorkRow) -> WorkRow {
    WorkRow { status: OPEN.to_owned(), assignee: None, hooked_at: None, updated_at: Timestamp::now(), ..row }
}

fn item(row: WorkRow) -> Item {
    Item {
        id: row.id,
        title: row.title,
        description: row.description,
        status: row.status,
        assignee: row.assignee,
        priority: Some(row.priority),
        created_at: Some(row.created_at),
        updated_at: Some(row.updated_at),
        hooked_at: row.hooked_at,
        closed_at: row.closed_at,
        record: false,
    }
}

/// A number in digits and small letters.
fn base36(number: i64) -> String {
    let mut rest = u64::try_from(number).unwrap_or(0);
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(rest % 36).unwrap_or(0);
        digits.push(char::from_digit(digit, 36).unwrap_or('0'));
        rest /= 36;
        if rest == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::base36;

    #[test]
    fn numbers_become_short_ids() {
        let shown: Vec<String> = [0, 1, 35, 36, 46_655, 46_656].into_iter().map(base36).collect();
        assert_eq!(shown, ["0", "1", "z", "10", "zzz", "1000"]);
    }
}
