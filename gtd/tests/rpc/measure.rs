//! Measurements, run by hand: `cargo test --release -p gtd --test rpc -- --ignored --nocapture measure`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::common::{Daemon, request};
use serde_json::json;

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn round_trips_on_an_open_connection() {
    let daemon = Daemon::start();
    for (what, line) in [
        ("sync method", request(&json!(1), "daemon.status", json!({}))),
        ("async method that yields", request(&json!(1), "daemon.shutdown", json!({}))),
    ] {
        let socket = daemon.socket.clone();
        let mut times = tokio::task::spawn_blocking(move || {
            let stream = UnixStream::connect(&socket).unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut writer = stream;
            let line = line + "\n";
            let mut reply = String::new();
            let mut times = Vec::new();
            for round in 0..21_000 {
                reply.clear();
                let begun = Instant::now();
                writer.write_all(line.as_bytes()).unwrap();
                reader.read_line(&mut reply).unwrap();
                if round >= 1000 {
                    times.push(begun.elapsed());
                }
            }
            times
        })
        .await
        .unwrap();
        times.sort_unstable();
        let [p50, p99] = [50, 99].map(|percent| percentile(&times, percent));
        println!("{what}: p50 {p50:?}, p99 {p99:?}, least {:?}, of {}", times[0], times.len());
    }
    let mut client = daemon.connect().await;
    let lines: String =
        (0..200_000).map(|id| request(&json!(id), "daemon.status", json!({})) + "\n").collect();
    let begun = Instant::now();
    let mut writer = client.writer;
    let writing = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut writer, lines.as_bytes()).await.map(|()| writer)
    });
    let mut line = String::new();
    for _ in 0..200_000 {
        line.clear();
        tokio::io::AsyncBufReadExt::read_line(&mut client.reader, &mut line).await.unwrap();
    }
    writing.await.unwrap().unwrap();
    println!("pipelined: {:.0} requests a second", 200_000.0 / begun.elapsed().as_secs_f64());
}
