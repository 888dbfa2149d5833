//! A `bd` that keeps messages in files: what the stand-in cannot, because what is asked for depends on what was said.

use std::path::{Path, PathBuf};

use crate::programs;

/// Of the newer generation; only what mail needs. While `down` lies beside it nothing works.
const PROGRAM: &str = r#"#!/bin/sh
H=$(dirname "$0"); S=$H/state; mkdir -p "$S"
[ "$1" = version ] && { echo 'bd version 1.0.5 (test)'; exit 0; }
verb=$1; echo "$(pwd): $(echo "$*" | tr '\n' ' ')" >>"$H/calls"
[ -f "$H/down" ] && { echo 'Error: it does not work today' >&2; exit 1; }
shift; id= title= desc= who= labels= label= all= status= type= add=
while [ $# -gt 0 ]; do
  case $1 in
    --title=*) title=${1#*=};; --description=*) desc=${1#*=};; --assignee=*) who=${1#*=};;
    --labels=*) labels=${1#*=};; --label) label=$2; shift;; --status) status=$2; shift;;
    --type) type=$2; shift;; --add-label) add=$2; shift;; --limit|--priority) shift;; -*) ;; *) id=$1;;
  esac; shift
done
text() { awk 'BEGIN { ORS = "" } { gsub(/\\/, "\\\\"); gsub(/"/, "\\\""); if (NR > 1) print "\\n"; print }' "$1"; }
one() {
  d=$S/$1
  printf '{"id":"%s","issue_type":"message","title":"%s","description":"%s","assignee":"%s","status":"%s","created_at":"%s","labels":[%s]}' \
    "$1" "$(text "$d/title")" "$(text "$d/desc")" "$(cat "$d/who")" "$(cat "$d/status")" "$(cat "$d/at")" \
    "$(sed 's/.*/"&"/' "$d/labels" | paste -sd, -)"
}
known() { [ -d "$S/$id" ] || { echo "Error: no issue found matching \"$id\"" >&2; exit 1; }; }
case $verb in
  create)
    id=hq-$(( $(ls "$S" | wc -l) + 1 )); mkdir "$S/$id"
    printf %s "$title" >"$S/$id/title"; printf %s "$desc" >"$S/$id/desc"; printf %s "$who" >"$S/$id/who"
    printf %s "$labels" | tr , '\n' >"$S/$id/labels"; echo >>"$S/$id/labels"
    printf open >"$S/$id/status"; date -u +%Y-%m-%dT%H:%M:%SZ >"$S/$id/at"; one "$id";;
  show) known; printf '['; one "$id"; printf ']';;
  update) known; echo "$add" >>"$S/$id/labels"; printf '['; one "$id"; printf ']';;
  close) known; printf closed >"$S/$id/status"; printf '['; one "$id"; printf ']';;
  list)
    printf '['; sep=
    [ "$type" = message ] && for d in "$S"/*; do
      [ -d "$d" ] || continue
      [ -n "$status" ] && [ "$(cat "$d/status")" != "$status" ] && continue
      [ -n "$label" ] && ! grep -qxF "$label" "$d/labels" && continue
      printf %s "$sep"; one "$(basename "$d")"; sep=,
    done
    printf ']';;
  *) echo "Error: $verb" >&2; exit 1;;
esac
echo
"#;

/// Such a program, and what it keeps.
pub struct MailBd {
    dir: PathBuf,
}

impl MailBd {
    /// Makes one in a directory.
    ///
    /// # Panics
    /// When its file cannot be written.
    #[must_use]
    pub fn new(base: &Path) -> Self {
        let dir = base.join("mail-bd");
        std::fs::create_dir_all(&dir).expect("make a directory");
        programs::script(&dir.join("bd"), PROGRAM);
        Self { dir }
    }

    /// A `PATH` with it in front.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}:{}", self.dir.display(), std::env::var("PATH").unwrap_or_default())
    }

    /// From now on it works, or fails whatever it is asked.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn works(&self, works: bool) {
        let down = self.dir.join("down");
        if works {
            let _ = std::fs::remove_file(down);
        } else {
            std::fs::write(down, "").expect("write a file");
        }
    }

    /// Its calls so far, each with the directory that it was made in.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Runs it as somebody else does.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, args: &[&str]) -> String {
        let output = std::process::Command::new(self.dir.join("bd")).args(args).output().expect("run it");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// All messages, those that were put aside too.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn messages(&self) -> Vec<serde_json::Value> {
        let all = self.run(&["list", "--all", "--type", "message", "--json"]);
        serde_json::from_str(&all).expect("a list")
    }
}
