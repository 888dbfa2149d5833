//! An agent that does what its arguments say, and writes down that it lived.
//!
//! `scripted-agent JOURNAL_DIR STEP…`; the steps are done in order, then it idles:
//! `ignore:TERM,HUP,INT` · `fork:KIND` (`plain`, `group`, `setsid`, `double`, `bare`, `daemon`, each of which
//! ignores TERM and HUP and outlives its parent if it is let) · `print:TEXT` · `flood:LINES` · `env` (its
//! environment into `JOURNAL_DIR/env-RIG-ROLE`) · `after:MS` · `exit:CODE` · `die:SIGNAL` · `echo` (says what is
//! typed) · `obey` (while idle, ends with the code in `JOURNAL_DIR/exit-RIG-ROLE` and takes the file away)
//! · `when:FILE` (waits until the file exists)
//! · `unless:FILE` (skips the next step when the file exists) · `report:STATE` · `lines` (writes down the lines it
//! reads) · `input:PROMPT` (an input line, see `typist`) · `reports` (and tells of its turns).
//!
//! `scripted-agent child KIND JOURNAL_DIR` is what `fork` starts.

use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};
use std::time::Duration;

use gtd_tests::journal::{self, Entry, What};
use gtd_tests::procs::Process;
use gtd_tests::typist;
use nix::sys::signal::{Signal, raise};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["child", kind, dir] => child(kind, Path::new(dir)),
        [dir, steps @ ..] => agent(&PathBuf::from(dir), steps),
        [] => {
            eprintln!("scripted-agent: no journal directory given");
            exit(2);
        }
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn address() -> String {
    let worker = variable("GT_POLECAT");
    if variable("GT_RIG").is_empty() {
        return variable("GT_ROLE");
    }
    if worker.is_empty() {
        return format!("{}/{}", variable("GT_RIG"), variable("GT_ROLE"));
    }
    format!("{}/polecats/{worker}", variable("GT_RIG"))
}

fn note(dir: &Path, what: What, detail: String) {
    let entry = Entry {
        what,
        process: Process::own(),
        instance: variable("GT_INSTANCE"),
        agent: address(),
        cwd: std::env::current_dir().unwrap_or_default(),
        at_ns: journal::now_ns(),
        detail,
    };
    if let Err(error) = journal::append(dir, &entry) {
        eprintln!("scripted-agent: journal: {error}");
    }
}

fn agent(dir: &Path, steps: &[&str]) {
    // The time is taken first: it is what benchmarks measure to.
    note(dir, What::Start, String::new());
    let _lock = lock(dir);
    println!("scripted agent {} ready, instance {}", address(), variable("GT_INSTANCE"));
    let mut obey = false;
    let mut echo = false;
    let mut skip = false;
    let mut reports = false;
    for step in steps {
        if std::mem::take(&mut skip) {
            continue;
        }
        let (verb, rest) = step.split_once(':').unwrap_or((step, ""));
        match verb {
            "ignore" => rest.split(',').for_each(ignore),
            "fork" => fork(rest, dir),
            "print" => println!("{rest}"),
            "flood" => flood(rest.parse().unwrap_or(1000)),
            "env" => write_environment(dir),
            "when" => {
                while !Path::new(rest).exists() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            "after" => std::thread::sleep(Duration::from_millis(rest.parse().unwrap_or(0))),
            "exit" => exit(rest.parse().unwrap_or(1)),
            "die" => die(rest),
            "echo" => echo = true,
            "obey" => obey = true,
            "idle" => {}
            "unless" => skip = Path::new(rest).exists(),
            "report" => drop(typist::report(rest)),
            "reports" => reports = true,
            "lines" => typist::lines(dir, &address()),
            "input" => {
                if let Err(error) = typist::input(dir, &address(), rest, reports) {
                    note(dir, What::Note, format!("input: {error}"));
                }
            }
            _ => note(dir, What::Note, format!("not understood: {step}")),
        }
    }
    idle(dir, obey, echo);
}

/// One agent per role and directory: the lock is inherited by the agent's children, so whoever is started
/// while any of them lives finds it taken.
fn lock(dir: &Path) -> Option<std::fs::File> {
    let name = format!(".scripted-agent-{}.lock", variable("GT_ROLE"));
    let mut file =
        std::fs::OpenOptions::new().create(true).read(true).write(true).truncate(false).open(name).ok()?;
    let taken = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err();
    let mut holder = String::new();
    let _ = file.read_to_string(&mut holder);
    if taken {
        note(dir, What::Violation, format!("the place is held since {}", holder.trim()));
        return None;
    }
    let _ = file.set_len(0);
    let _ = file.rewind();
    let _ = write!(file, "{}", Process::own());
    let _ = rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty());
    Some(file)
}

fn idle(dir: &Path, obey: bool, echo: bool) {
    if echo {
        let mut line = String::new();
        while std::io::stdin().read_line(&mut line).is_ok_and(|n| n > 0) {
            println!("heard {}", line.trim_end());
            line.clear();
        }
    }
    let order = dir.join(format!("exit-{}", address().replace('/', "-")));
    loop {
        // An order that is still being written is none yet.
        if obey
            && let Some(code) = std::fs::read_to_string(&order).ok().and_then(|text| text.trim().parse().ok())
        {
            let _ = std::fs::remove_file(&order);
            exit(code);
        }
        let pause = if obey { Duration::from_millis(5) } else { Duration::from_secs(3600) };
        std::thread::sleep(pause);
    }
}

fn signal_named(name: &str) -> Option<Signal> {
    format!("SIG{}", name.trim_start_matches("SIG")).parse().ok()
}

/// Blocks the signal in this thread, the only one, and for its children: to the sender it is the same as an
/// ignored one, and it needs no unsafe call.
fn ignore(name: &str) {
    if let Some(signal) = signal_named(name) {
        let mut set = nix::sys::signal::SigSet::empty();
        set.add(signal);
        let _ = set.thread_block();
    }
}

fn die(name: &str) {
    let signal = signal_named(name).unwrap_or(Signal::SIGKILL);
    let _ = std::io::stdout().flush();
    // No core files.
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    let _ = raise(signal);
    exit(99);
}

fn flood(lines: u64) {
    let out = std::io::stdout();
    let mut out = out.lock();
    for n in 0..lines {
        if writeln!(out, "flood {n} {}", "~".repeat(120)).is_err() {
            return;
        }
    }
}

fn write_environment(dir: &Path) {
    let text: String = std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
    let name = format!("env-{}", address().replace('/', "-"));
    let partial = dir.join(format!(".{name}.{}", std::process::id()));
    if std::fs::write(&partial, text).is_ok() {
        let _ = std::fs::rename(&partial, dir.join(name));
    }
}

fn fork(kind: &str, dir: &Path) {
    let own = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let mut command = Command::new(own);
    command.args(["child", kind]).arg(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if kind == "group" {
        command.process_group(0);
    }
    if matches!(kind, "bare" | "daemon") {
        command.env_clear();
    }
    match command.spawn() {
        Ok(mut started) => {
            // Those that fork again end their first process.
            if matches!(kind, "double" | "daemon") {
                let _ = started.wait();
            }
        }
        Err(error) => note(dir, What::Note, format!("fork {kind}: {error}")),
    }
    // The agent is ready when its children are there: each has written itself down.
    for _ in 0..2000 {
        let here = journal::read(dir)
            .iter()
            .any(|entry| entry.what == What::Child && entry.detail == kind && entry.process.alive());
        if here {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn child(kind: &str, dir: &Path) {
    let again = |kind: &str| {
        let own = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        let _ = Command::new(own).args(["child", kind]).arg(dir).spawn();
        exit(0);
    };
    let kind = match kind {
        "double" => again("double-2"),
        "daemon" => {
            let _ = rustix::process::setsid();
            again("daemon-2")
        }
        "double-2" => "double",
        "daemon-2" => {
            let _ = std::env::set_current_dir("/");
            "daemon"
        }
        "setsid" => {
            let _ = rustix::process::setsid();
            "setsid"
        }
        other => other,
    };
    for name in ["TERM", "HUP", "INT"] {
        ignore(name);
    }
    note(dir, What::Child, kind.to_owned());
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
