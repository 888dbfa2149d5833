//! What is asked for twice with the same key, from the command line, is done once: the way out where an answer was lost.

use gtd_tests::Setup;

#[test]
fn what_is_asked_for_twice_with_a_key_is_done_once() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let twice = |typed: &[&str], key: &str| {
        let once = || town.gtctl(&[typed, &["--once", key, "--json"]].concat()).ok().json()["result"].clone();
        let (first, second) = (once(), once());
        assert_eq!(first["id"], second["id"], "{typed:?}");
        first["id"].as_str().unwrap_or_default().to_owned()
    };
    let count = |typed: &[&str]| {
        let listed = town.gtctl(&[typed, &["--json"]].concat()).ok().json();
        listed["result"]["items"].as_array().unwrap().len()
    };
    let work = twice(&["work", "create", "Fix the parser", "--rig", "alpha"], "a");
    assert_eq!(count(&["work", "list"]), 1);
    twice(&["convoy", "create", "The parser", &work], "b");
    assert_eq!(count(&["convoy", "list"]), 1);
    twice(&["mail", "send", "mayor/", "Done"], "c");
    assert_eq!(count(&["mail", "inbox", "mayor/"]), 1);
    // Also by a daemon that was not there the first time.
    town.gtctl(&["daemon", "restart"]).ok();
    twice(&["mail", "send", "mayor/", "Done"], "c");
    assert_eq!(count(&["mail", "inbox", "mayor/"]), 1);
    // A plan is none of the two, and another request may not borrow the key.
    town.gtctl(&["mail", "send", "mayor/", "Done", "--once", "d", "--dry-run"]).ok();
    twice(&["mail", "send", "mayor/", "Done"], "d");
    assert_eq!(count(&["mail", "inbox", "mayor/"]), 2);
    let other = town.gtctl(&["work", "create", "x", "--once", "d"]);
    assert_eq!(other.code, 2, "{other:?}");
}
