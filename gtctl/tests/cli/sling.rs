//! `gtctl sling` with a title: what would be refused is refused before there is an item of work.

use gtd_proto::{ErrorKind, RpcError, State};

use crate::common::Town;
use crate::common::fake::{Fake, Reply};
use crate::common::values::{self, answer, canned};

/// A worker in this state; its hook holds what the canned answers say.
fn worker(town: &Town, state: State) -> Fake {
    let all = canned(town);
    Fake::start(&town.socket(), move |method, params| match method {
        "polecat.start" => answer(values::change(values::agent("alpha/polecats/nux", state))),
        "polecat.spawn" => {
            Reply::Error(RpcError::new(ErrorKind::WorkNotFound, "there is no work item typo").hint("before"))
        }
        _ => all(method, params),
    })
}

fn made(fake: &Fake) -> bool {
    fake.calls().iter().any(|(method, _)| method == "work.create")
}

#[test]
fn no_work_is_made_for_a_worker_that_runs() {
    for extra in [&[][..], &["--dry-run"], &["--force", "--yes"]] {
        let town = Town::with_endpoint();
        let fake = worker(&town, State::Running);
        let run = town.gtctl(&[&["sling", "Fix it", "alpha/polecats/nux"], extra].concat()).expect(1);
        assert!(run.err.starts_with("error: alpha/polecats/nux runs already\n"), "{}", run.err);
        assert!(run.err.contains("gtctl work create 'Fix it' --rig alpha"), "{}", run.err);
        assert!(!made(&fake));
    }
}

#[test]
fn no_work_is_made_for_a_hook_that_holds_some() {
    let town = Town::with_endpoint();
    let fake = worker(&town, State::Stopped);
    let run = town.gtctl(&["sling", "Fix it", "alpha/polecats/nux"]).expect(1);
    assert!(run.err.contains("the hook of alpha/polecats/nux holds al-k3x already"), "{}", run.err);
    assert!(!made(&fake));
    town.gtctl(&["sling", "Fix it", "alpha/polecats/nux", "--force", "--yes"]).expect(0);
    assert!(made(&fake));
}

#[test]
fn a_title_of_one_word_is_told_from_an_id() {
    let town = Town::with_endpoint();
    let _fake = worker(&town, State::Stopped);
    for (word, quoted) in [("typo", "typo"), ("parser!", "'parser!'")] {
        let run = town.gtctl(&["sling", word, "alpha"]).expect(1);
        let hint = format!("where that is a title: gtctl sling --new {quoted} alpha\n");
        assert!(run.err.ends_with(&hint), "{}", run.err);
    }
    let run = town.gtctl(&["sling", "", "alpha"]).expect(1);
    assert!(run.err.ends_with("hint: gtctl work list\n"), "{}", run.err);
}
