//! A process that is killed while it writes loses nothing that it was told is written.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;

const DIR: &str = "GTD_TEST_LEDGER_DIR";

/// Not a test of its own: the process that is killed. Writes from eight tasks until then, and prints each
/// number after it was acknowledged.
#[test]
#[ignore = "run by the test below"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let ledger = open(Path::new(&dir)).ledger;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let ledger = ledger.clone();
            tasks.spawn(async move {
                // Bounded, in case the parent dies without killing it.
                for n in 0..50_000 {
                    let writes = vec![event("x", n), Write::Agent(agent("deacon")), event("y", n)];
                    let events = ledger.commit(writes).await.unwrap();
                    println!("\nack {} {}", events[0].seq, events[1].seq);
                }
            });
        }
        tasks.join_all().await;
    });
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_kill_in_the_middle_of_commits_loses_nothing_acknowledged() {
    let dir = scratch::dir();
    let mut highest = 0;
    for round in 1..=3 {
        let mut child = Killed(
            Command::new(std::env::current_exe().unwrap())
                .args(["--ignored", "--exact", "--nocapture", "ledger::tests::crash::child"])
                .env(DIR, dir.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let mut acknowledged = BTreeSet::new();
        for line in BufReader::new(child.0.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(seqs) = line.strip_prefix("ack ") {
                acknowledged.extend(seqs.split(' ').map(|seq| seq.parse::<u64>().unwrap()));
            }
            if acknowledged.len() == 400 * round {
                child.0.kill().unwrap();
            }
        }
        drop(child);

        assert!(acknowledged.first().unwrap() > &highest, "no number is used twice");
        let (ledger, state) = open_sound(dir.path(), Condition::Existing);
        let last = *acknowledged.last().unwrap();
        assert!(state.last_seq.0 >= last);
        assert_eq!(state.last_seq.0 % 2, 0, "a request is there whole or not at all");
        assert_eq!(state.agents, [agent("deacon")]);
        let mut since = Seq(highest);
        let mut found = BTreeSet::new();
        while found.last().is_none_or(|found| *found < last) {
            let page = ledger
                .events(EventQuery { since: Some(since), limit: Some(1_000), ..EventQuery::default() })
                .await
                .unwrap();
            assert!(page.gap.is_none() && !page.items.is_empty());
            found.extend(page.items.iter().map(|event| event.seq.0));
            since = page.next_since;
        }
        assert!(acknowledged.is_subset(&found));
        highest = state.last_seq.0;
        ledger.close().await;
    }
}
