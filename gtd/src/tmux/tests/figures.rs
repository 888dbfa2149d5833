//! Measurements, to be run by hand: `cargo test -p gtd --release --lib tmux::tests::figures -- --ignored --nocapture`.

use super::*;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures and proves nothing"]
async fn control_against_processes() {
    let place = Place::new();
    let (rig, server) = Rig::up(&place, place.config()).await;
    let known = rig.driver.meant(&server).unwrap();
    let mut count = 0;
    for target in [10, 100, 250] {
        let before = Instant::now();
        let mut births = tokio::task::JoinSet::new();
        let wanted = target - count;
        while count < target {
            let driver = rig.driver.clone();
            births.spawn(async move { driver.new_session(sleeper(&format!("s{count}"))).await.unwrap() });
            count += 1;
        }
        let made = births.join_all().await;
        println!("{target} sessions: {:?} for each of {wanted} births together", before.elapsed() / wanted);
        let ask = crate::tmux::quote::CommandList::new(["display-message", "-p", "x"]);
        let mut times: [Vec<Duration>; 4] = Default::default();
        for _ in 0..200 {
            let before = Instant::now();
            rig.driver.run(&known, &ask).await.unwrap();
            times[0].push(before.elapsed());
            let before = Instant::now();
            rig.driver.list().await.unwrap();
            times[1].push(before.elapsed());
        }
        for _ in 0..50 {
            let before = Instant::now();
            rig.driver.inner.run_plain(&known, &ask).await.unwrap();
            times[2].push(before.elapsed());
        }
        for one in made.iter().take(20) {
            let before = Instant::now();
            rig.driver.capture(&server, &one.pane, 20).await.unwrap();
            times[3].push(before.elapsed());
        }
        for (what, times) in ["message, control", "list, control", "message, process", "capture, control"]
            .iter()
            .zip(&mut times)
        {
            times.sort();
            println!(
                "  {what}: median {:?}, p99 {:?}",
                times[times.len() / 2],
                times[times.len() * 99 / 100]
            );
        }
        let before = Instant::now();
        let mut asks = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let (driver, known, ask) = (rig.driver.clone(), known.clone(), ask.clone());
            asks.spawn(async move { driver.run(&known, &ask).await.unwrap() });
        }
        asks.join_all().await;
        println!("  200 messages pipelined: {:?}", before.elapsed());
    }
    rig.driver.close().await;
}
