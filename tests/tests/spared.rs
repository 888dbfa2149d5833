//! What `[stop] spare` names lives on with everything below it, and is never taken for left over.

use gtd_tests::people::{YOUNG, item, sweep_all};
use gtd_tests::{CHANGE, Process, QUICK, Setup, wait_until};
use serde_json::json;

#[test]
fn what_was_spared_is_let_live_with_everything_below_it() {
    let line = "cp /bin/sh {J}/keepme; {J}/keepme -c 'trap \"\" HUP; sleep 3000 & echo $! > {J}/server; \
                while [ ! -e {J}/go ]; do sleep 0.05; done' & \
                exec sleep 3001";
    let agent = json!({"provider": "script", "command": "/bin/sh", "args": ["-c", line]});
    let setup = Setup::new().toml(YOUNG).toml("[stop]\nspare = [\"keepme\"]\n");
    let town = setup.command("w", agent).role("witness", "w").rigs(&["a"]).no_refineries().up();
    town.wait_all_running();
    let file = town.journal_dir().join("server");
    let number = || std::fs::read_to_string(&file).ok()?.trim_end().parse().ok();
    assert!(wait_until(QUICK, || number().is_some()));
    let server = Process::of(number().unwrap()).unwrap();
    let keeper = Process::of(server.parent().unwrap()).unwrap();
    town.call("witness.stop", json!({"rig": "a"}));
    assert!(wait_until(CHANGE, || town.agent("a/witness")["state"] == "stopped"));
    // Written down at once: its daemon may be killed before it looks for anything.
    let noted = || {
        let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
        let sql = "SELECT count(*) FROM facts WHERE key = 'spared'";
        conn.query_row(sql, [], |row| row.get::<_, i64>(0)).is_ok_and(|many| many == 1)
    };
    assert!(wait_until(QUICK, noted));
    for process in [keeper, server] {
        // Old enough to be swept.
        let found = || item(&town, process)["age_ms"].as_u64().is_some_and(|age| age > 1_500);
        assert!(wait_until(QUICK, found), "{:#}", item(&town, process));
        assert_eq!(item(&town, process)["verdict"], "unproved", "{:#}", item(&town, process));
    }
    sweep_all(&town);
    assert!(keeper.alive() && server.alive());
    // It ends, and what it started goes on, as a server does that was started in the background; also for the next
    // daemon, and whatever the configuration says by then.
    std::fs::write(town.journal_dir().join("go"), "").unwrap();
    assert!(wait_until(QUICK, || server.parent() != Some(keeper.pid)));
    sweep_all(&town);
    let lived = server.alive();
    town.kill_daemon();
    town.start();
    sweep_all(&town);
    let lived = lived && server.alive();
    server.kill();
    assert!(lived);
    let swept: Vec<_> = town.events(0).into_iter().filter(|event| event["kind"] == "sweep.killed").collect();
    assert!(swept.is_empty(), "{swept:#?}");
}
