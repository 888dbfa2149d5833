//! A program in `bd`'s place: replays what the real one answered, and misbehaves on demand.
//!
//! What it does is in `stand-in.json` beside the path that it was called by, because its environment is not
//! its caller's. Each call is a line of `calls.jsonl` there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

fn main() {
    let mut args: Vec<String> = std::env::args().collect();
    let me = PathBuf::from(args.remove(0));
    let home = me.parent().expect("a program lies in a directory");
    let cwd = std::env::current_dir().expect("a current directory");
    let env: serde_json::Map<String, Value> = std::env::vars().map(|(k, v)| (k, json!(v))).collect();
    let call = json!({"cwd": cwd, "args": args, "pid": std::process::id(), "env": env});
    let mut log =
        std::fs::OpenOptions::new().create(true).append(true).open(home.join("calls.jsonl")).expect("a log");
    // In one piece: others write there too.
    log.write_all(format!("{call}\n").as_bytes()).expect("a line in the log");
    let text = std::fs::read_to_string(home.join("stand-in.json")).expect("stand-in.json");
    let does: Value = serde_json::from_str(&text).expect("stand-in.json is JSON");
    let args = plain(args);
    let verb = args.first().cloned().unwrap_or_default();
    if verb != "version" {
        misbehave(&does, home);
    }
    if let Some(path) = does["items"].as_str().filter(|_| verb == "list" || verb == "show") {
        return items(path, &args);
    }
    let recording =
        std::fs::read_to_string(does["recording"].as_str().expect("a recording")).expect("a recording");
    let lines: Vec<Value> =
        recording.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    let note = does["swap"][&verb].as_str();
    let last = |path: &str| path.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default().to_owned();
    let here = last(&cwd.to_string_lossy());
    let fits = |line: &&Value| {
        let recorded = strings(&line["args"]);
        match note {
            Some(note) => recorded.get(1) == Some(&verb) && line["note"] == note,
            None => {
                let place = verb == "version" || last(line["cwd"].as_str().unwrap_or_default()) == here;
                place && same(&plain(recorded.into_iter().skip(1).collect()), &args)
            }
        }
    };
    // The same question was asked at several times: the answers come in their order, the last one again and again.
    let seen: usize = std::fs::read_to_string(home.join("calls.jsonl"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| plain(strings(&line["args"])) == args)
        .count();
    let found: Vec<&Value> = lines.iter().filter(fits).collect();
    let Some(line) = found.get(seen.saturating_sub(1).min(found.len().saturating_sub(1))) else {
        eprintln!("stand-in: no recording of {args:?} in {here}");
        std::process::exit(97);
    };
    print!("{}{}", does["lead"].as_str().unwrap_or_default(), line["stdout"].as_str().unwrap_or_default());
    eprint!(
        "{}{}",
        does["lead_err"].as_str().unwrap_or_default(),
        line["stderr"].as_str().unwrap_or_default()
    );
    let _ = std::io::stdout().flush();
    std::process::exit(line["exit"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(0));
}

/// Answers out of a file of items instead of a recording.
fn items(path: &str, args: &[String]) {
    let text = std::fs::read_to_string(path).expect("a file of items");
    let all: Vec<Value> = serde_json::from_str(&text).expect("items");
    let after = |name: &str| args.iter().skip_while(|word| *word != name).nth(1);
    let found: Vec<&Value> = match args.first().map(String::as_str) {
        Some("show") => all.iter().filter(|item| args.get(1).is_some_and(|id| item["id"] == **id)).collect(),
        _ => all
            .iter()
            .filter(|item| after("--status").is_none_or(|status| item["status"] == **status))
            // Both are written alike.
            .filter(|item| {
                after("--updated-after").is_none_or(|at| item["updated_at"].as_str() > Some(at.as_str()))
            })
            .collect(),
    };
    if let (true, Some(id)) =
        (found.is_empty() && args.first().is_some_and(|verb| verb == "show"), args.get(1))
    {
        eprintln!("Error fetching {id}: no issue found matching \"{id}\"");
        std::process::exit(1);
    }
    println!("{}", json!(found));
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// Arguments without the older generation's global options, and with `--a=b` as two words.
fn plain(args: Vec<String>) -> Vec<String> {
    let mut out = Vec::new();
    for arg in args {
        if ["--no-daemon", "--allow-stale"].contains(&arg.as_str()) || arg.starts_with("--lock-timeout") {
            continue;
        }
        match arg.split_once('=').filter(|_| arg.starts_with("--")) {
            Some((name, value)) => out.extend([name.to_owned(), value.to_owned()]),
            None => out.push(arg),
        }
    }
    out
}

/// Whether a recorded call stands for this one. A creation is known by its title.
fn same(recorded: &[String], asked: &[String]) -> bool {
    if asked.first().is_some_and(|verb| verb == "create") {
        let title = asked.iter().skip_while(|word| *word != "--title").nth(1);
        return recorded.first() == asked.first() && recorded.get(1) == title;
    }
    recorded == asked
}

fn misbehave(does: &Value, home: &Path) {
    let put = |bytes: &[u8]| {
        let mut out = std::io::stdout();
        out.write_all(bytes).and_then(|()| out.flush()).is_ok()
    };
    match does["mode"].as_str().unwrap_or("replay") {
        // With a child that would hold the pipes open beyond its end.
        "hang" => {
            let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
            std::fs::write(home.join("child"), child.id().to_string()).expect("a file");
            let _ = child.wait();
        }
        // A child keeps the pipes, and the program itself answers and ends.
        "leave" => {
            let script = "sleep 1000 & echo $! > \"$1\"";
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", script, "sh"]).arg(home.join("child")).status().expect("sh");
        }
        "junk" => {
            put(&b"[{ this is no answer ]\n".repeat(5 << 20 >> 4));
            std::process::exit(0);
        }
        "junk then answer" => {
            put(&b"warning: something is odd\n".repeat(200_000));
        }
        "flood" => while put(&[b'x'; 1 << 16]) {},
        "fail" => {
            eprintln!("Error: it does not work today");
            std::process::exit(1);
        }
        "silent" => std::process::exit(0),
        "crash" => std::process::abort(),
        // Slow, and right in the end.
        mode => {
            if let Some(ms) = mode.strip_prefix("slow:").and_then(|ms| ms.parse().ok()) {
                std::thread::sleep(Duration::from_millis(ms));
            }
        }
    }
}
