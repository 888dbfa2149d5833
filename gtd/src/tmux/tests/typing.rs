//! Typing into real panes: every text arrives once and whole, and only while the pane is as it was seen.

use std::time::Instant;

use super::*;
use crate::tmux::{Guard, Mark, PaneId, Screen, Token};

/// What a program in raw mode reads, in a file.
struct Reader {
    place: Place,
    rig: Rig,
    server: ServerId,
    pane: PaneId,
    heard: PathBuf,
}

impl Reader {
    async fn up() -> Self {
        let place = Place::new();
        let heard = place.path("heard");
        let script = format!("stty raw -echo; printf '\\033[?2004h> '; exec cat > {}", heard.display());
        let (rig, server) = Rig::up(&place, place.config()).await;
        let made = rig.driver.new_session(session("r", "/", &["sh", "-c", &script])).await.unwrap();
        let reader = Self { place, rig, server, pane: made.pane, heard };
        eventually("it asks for pastes", || async { reader.look().await.cursor == (2, 0) }).await;
        reader
    }

    async fn look(&self) -> Screen {
        self.rig.driver.look(&self.server, &self.pane).await.unwrap()
    }

    async fn ready(&self, token: &Token, text: &[u8]) {
        self.rig.driver.ready_text(&self.server, &self.pane, token, text).await.unwrap();
    }

    async fn typed(&self, token: &Token, guard: &Guard) -> bool {
        self.rig.driver.type_text(&self.server, &self.pane, token, guard).await.unwrap()
    }

    async fn sent(&self, token: &Token, guard: &Guard) -> bool {
        self.rig.driver.send_text(&self.server, &self.pane, token, guard).await.unwrap()
    }

    async fn how_far(&self, token: &Token) -> Mark {
        self.rig.driver.how_far(&self.server, &self.pane, token).await.unwrap()
    }

    fn heard(&self) -> Vec<u8> {
        std::fs::read(&self.heard).unwrap_or_default()
    }

    fn buffers(&self) -> String {
        self.place.tmux(&["list-buffers", "-F", "#{buffer_name}"])
    }
}

fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

fn guard(screen: &Screen) -> Guard {
    Guard::of(screen).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_text_arrives_byte_for_byte_and_is_sent_off_by_a_step_of_its_own() {
    let reader = Reader::up().await;
    let long = "é;-x\n'\"$#{}%".repeat(65_536 / 13);
    let texts = ["-x", ";", "a;", "'\"`$(x)\\", "two\nlines\n\nmore", "#{pane_id} #S %H ~", "äß→🦀", &long];
    let mut expected = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let token = token(&format!("n-{number}"));
        reader.ready(&token, text.as_bytes()).await;
        let seen = guard(&reader.look().await);
        assert!(reader.typed(&token, &seen).await);
        assert_eq!(reader.how_far(&token).await, Mark::Typed);
        assert!(reader.sent(&token, &seen).await);
        assert_eq!(reader.how_far(&token).await, Mark::Sent);
        expected.extend(b"\x1b[200~");
        expected.extend(text.bytes());
        expected.extend(b"\x1b[201~\r");
        eventually("it has arrived", || async { reader.heard().len() >= expected.len() }).await;
        assert_eq!(reader.heard(), expected, "{:?}", &text[..text.len().min(40)]);
        assert_eq!(reader.buffers(), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_typed_into_a_pane_that_is_not_as_it_was_seen() {
    let reader = Reader::up().await;
    let seen = reader.look().await;
    let (first, other) = (token("n-1"), token("n-2"));
    reader.ready(&first, b"text").await;
    // Somebody scrolls: refused, and the scrolling is left alone.
    reader.place.tmux(&["copy-mode", "-t", &reader.pane.to_string()]);
    assert!(!reader.typed(&first, &guard(&seen)).await);
    assert!(reader.look().await.in_mode);
    reader.place.tmux(&["send-keys", "-t", &reader.pane.to_string(), "-X", "cancel"]);
    // The cursor is elsewhere, it is another process, its input is off, or a key was pressed.
    let moved = Screen { cursor: (5, 0), ..seen.clone() };
    assert!(!reader.typed(&first, &guard(&moved).and_cursor(&moved)).await);
    let another = Screen { pane_pid: Pid::new(2), ..seen.clone() };
    assert!(!reader.typed(&first, &guard(&another)).await);
    let key = Screen { session_activity: seen.session_activity - 1, ..seen.clone() };
    assert!(!reader.typed(&first, &guard(&key)).await);
    reader.place.tmux(&["select-pane", "-d", "-t", &reader.pane.to_string()]);
    assert!(!reader.typed(&first, &guard(&seen)).await);
    reader.place.tmux(&["select-pane", "-e", "-t", &reader.pane.to_string()]);
    // Not what was got ready, and not sent off before it was typed.
    assert!(!reader.typed(&other, &guard(&seen)).await);
    assert!(!reader.sent(&first, &guard(&seen)).await);
    assert_eq!(reader.heard(), b"");
    assert!(reader.typed(&first, &guard(&seen).and_cursor(&seen)).await);
    // And not twice.
    assert!(!reader.typed(&first, &guard(&seen)).await);
    assert!(reader.sent(&first, &guard(&seen)).await);
    assert!(!reader.sent(&first, &guard(&seen)).await);
    let whole = b"\x1b[200~text\x1b[201~\r";
    eventually("it has arrived", || async { reader.heard().len() >= whole.len() }).await;
    assert_eq!(reader.heard(), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_called_off_is_not_typed_any_more() {
    let reader = Reader::up().await;
    let (lost, next) = (token("n-1-1"), token("n-1-2"));
    let seen = guard(&reader.look().await);
    reader.ready(&lost, b"text").await;
    // A daemon that was killed here left somebody behind who is about to type. The next one asks first.
    assert_eq!(reader.how_far(&lost).await, Mark::Nothing);
    assert!(!reader.typed(&lost, &seen).await);
    reader.rig.driver.forget_text(&reader.server, &lost).await;
    reader.ready(&next, b"text").await;
    assert!(reader.typed(&next, &seen).await);
    assert_eq!(reader.how_far(&next).await, Mark::Typed);
    assert_eq!(reader.how_far(&lost).await, Mark::Nothing);
    assert_eq!(reader.buffers(), "");
    let gone = reader.rig.driver.how_far(&reader.server, &"%99".parse().unwrap(), &next).await;
    assert!(matches!(gone, Err(crate::tmux::TmuxError::NotFound { .. })), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn synchronised_panes_share_nothing() {
    let reader = Reader::up().await;
    let beside = reader.place.path("beside");
    let script = format!("stty raw -echo; cat > {}", beside.display());
    let pane = reader.pane.to_string();
    reader.place.tmux(&["split-window", "-d", "-t", &pane, "sh", "-c", &script]);
    reader.place.tmux(&["set-option", "-w", "-t", &pane, "synchronize-panes", "on"]);
    let token = token("n-1");
    reader.ready(&token, b"text").await;
    let seen = guard(&reader.look().await);
    assert!(reader.typed(&token, &seen).await && reader.sent(&token, &seen).await);
    eventually("it has arrived", || async { reader.heard().ends_with(b"\r") }).await;
    assert_eq!(std::fs::read(&beside).unwrap_or_default(), b"");
}

/// Run with `--ignored --nocapture`: the time of each step.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn how_long_typing_takes() {
    let reader = Reader::up().await;
    let mut took = [Duration::ZERO; 4];
    for number in 0..100 {
        let token = token(&format!("n-{number}"));
        let began = Instant::now();
        let seen = guard(&reader.look().await);
        let looked = Instant::now();
        reader.ready(&token, b"You have mail.").await;
        let ready = Instant::now();
        assert!(reader.typed(&token, &seen).await);
        let typed = Instant::now();
        assert!(reader.sent(&token, &seen).await);
        for (sum, span) in
            took.iter_mut().zip([looked - began, ready - looked, typed - ready, typed.elapsed()])
        {
            *sum += span / 100;
        }
    }
    println!("look {:?}, ready {:?}, typed {:?}, sent {:?}", took[0], took[1], took[2], took[3]);
}
