//! Room on the disk, and what fills it.

use std::path::Path;

use super::super::{Found, Hint, World};

/// Without a configuration that can be used; its default.
const MIN_FREE: u64 = 500 << 20;
/// Event files may have so many bytes with those that were rotated; each is cut at a tenth of it.
const EVENTS_BYTES: u64 = 512 << 20;

pub(super) fn disk(world: &World) -> Found {
    let root = world.layout.root();
    let disk = match rustix::fs::statvfs(root) {
        Ok(disk) => disk,
        Err(error) => {
            return Found::unknown(format!("the disk of {} cannot be asked: {error}", root.display()));
        }
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let wanted = world.config.as_ref().map_or(MIN_FREE, |config| config.start.min_free_disk.0);
    let mib = |bytes: u64| bytes >> 20;
    let found = if free < wanted {
        Found::error(format!("{} MiB are free, and nothing is started below {}", mib(free), mib(wanted)))
            .hint(Hint::ConfigShow)
    } else if disk.f_files > 0 && disk.f_favail == 0 {
        Found::error("no further file can be made: all inodes are in use").hint(Hint::ConfigShow)
    } else if free / 2 < wanted {
        Found::warning(format!("{} MiB are free, and nothing is started below {}", mib(free), mib(wanted)))
            .hint(Hint::ConfigShow)
    } else {
        Found::ok(format!("{} MiB are free", mib(free)))
    };
    found.with("free_bytes", free).with("wanted_bytes", wanted).with("free_inodes", disk.f_favail)
}

pub(super) fn logs(world: &World) -> Found {
    let bound = world.config.as_ref().map_or(300 << 20, |config| {
        config.daemon.log_max_bytes.0.saturating_mul(u64::from(config.daemon.log_files) + 1)
    });
    let root = world.layout.root();
    let logs = size(&world.layout.daemon_dir(), "gtd.log");
    let events = size(root, ".events.jsonl").saturating_add(size(root, ".feed.jsonl"));
    let mut wrong = Vec::new();
    if logs > bound.saturating_add(bound / 10) {
        wrong.push(format!("daemon/gtd.log* have {} MiB, and may have {}", logs >> 20, bound >> 20));
    }
    if events > EVENTS_BYTES {
        wrong.push(format!(".events.jsonl and .feed.jsonl have {} MiB", events >> 20));
    }
    let found = match wrong.first() {
        None => Found::ok(format!("{} MiB of log, {} MiB of events", logs >> 20, events >> 20)),
        Some(first) => {
            Found::warning(first.clone()).details(wrong.iter().skip(1).cloned()).hint(Hint::ConfigShow)
        }
    };
    found.with("log_bytes", logs).with("event_bytes", events)
}

/// Bytes of the files of a directory whose names begin so.
fn size(dir: &Path, prefix: &str) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let ours = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    ours.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}
