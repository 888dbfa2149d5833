//! Whether an input line is empty, by what a screen shows.
//!
//! Pure. Must never call a line empty that may hold what somebody typed: what cannot be told is not empty.

use crate::tmux::{Cell, Screen};

/// What an input line holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Nothing.
    Empty,
    /// Something.
    Text,
    /// It is not to be seen where it should be.
    Unseen,
}

/// What programs draw around their input line.
const FRAME: [char; 6] = ['│', '┃', '║', '|', '▌', '▎'];
/// Prompts of one sign that many programs have. Alone on their line they are no text.
const BARE: [&str; 8] = [">", "$", "#", "%", "❯", "›", "»", ">>>"];

/// The input line of a program whose line begins with `prompt`.
#[must_use]
pub fn behind_prompt(screen: &Screen, prompt: &str) -> Line {
    let prompt = prompt.trim();
    if prompt.is_empty() {
        return Line::Unseen;
    }
    let (column, row) = screen.cursor;
    // Where the terminal's own cursor is, else the last one: some programs draw a cursor themselves.
    let found = screen.rows.get(row).and_then(|cells| after(cells, prompt)).map(|rest| (row, rest, true));
    let found = found.or_else(|| {
        let mut rows = screen.rows.iter().enumerate().rev();
        rows.find_map(|(at, cells)| after(cells, prompt).map(|rest| (at, rest, false)))
    });
    let Some((at, (begins, rest), own_cursor)) = found else { return Line::Unseen };
    // A blank behind the prompt belongs to it.
    let at_start = column == begins || column == begins + 1;
    if !is_blank(rest) || (own_cursor && !at_start) || goes_on(screen.rows.get(at + 1)) {
        return Line::Text;
    }
    Line::Empty
}

/// The line of the cursor, in a program of which no prompt is known.
#[must_use]
pub fn at_cursor(screen: &Screen) -> Line {
    let text: String = screen
        .rows
        .get(screen.cursor.1)
        .map(|row| row.iter().map(|cell| cell.letter).collect())
        .unwrap_or_default();
    let alone = BARE.contains(&text.trim()) && screen.cursor.0 <= text.trim_end().chars().count() + 1;
    let blank = text.trim().is_empty() && screen.cursor.0 == 0;
    if alone || blank { Line::Empty } else { Line::Text }
}

/// What stands behind a prompt, and the column where that begins.
fn after<'a>(row: &'a [Cell], prompt: &str) -> Option<(usize, &'a [Cell])> {
    let outside = |cell: &&Cell| cell.letter.is_whitespace() || FRAME.contains(&cell.letter);
    let indent = row.iter().take_while(outside).count();
    let mut column = indent;
    for letter in prompt.chars() {
        // Some programs put a no-break space into their prompt.
        let here = row.get(column)?.letter;
        if here != letter && !(here.is_whitespace() && letter.is_whitespace()) {
            return None;
        }
        column += 1;
    }
    Some((column, row.get(column..).unwrap_or_default()))
}

/// Nothing, or no more than a hint: faint letters, of which the first may be covered by a cursor that the program
/// draws.
fn is_blank(rest: &[Cell]) -> bool {
    let outside = |cell: &Cell| cell.letter.is_whitespace() || FRAME.contains(&cell.letter);
    let mut letters = rest.iter().filter(|cell| !outside(cell)).peekable();
    let covered = letters.next_if(|cell| cell.inverse).is_some();
    let mut hint = 0;
    for cell in letters {
        if !cell.faint {
            return false;
        }
        hint += 1;
    }
    !covered || hint > 0
}

/// The row below belongs to the input: it holds something else than the rest of a frame.
fn goes_on(below: Option<&Vec<Cell>>) -> bool {
    let Some(row) = below else { return false };
    let frame = |cell: &Cell| {
        cell.letter.is_whitespace() || cell.faint || ('\u{2500}'..='\u{259f}').contains(&cell.letter)
    };
    match row.iter().find(|cell| !cell.letter.is_whitespace()) {
        None => false,
        // A corner or a rule: what stands in it is a caption.
        Some(first) => !frame(first) || (FRAME.contains(&first.letter) && !row.iter().all(frame)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows as text: `(x)` is faint, `[x]` inverse.
    pub(super) fn screen(rows: &[&str], cursor: (usize, usize)) -> Screen {
        let cells = |row: &&str| {
            let (mut faint, mut inverse, mut cells) = (false, false, Vec::new());
            for letter in row.chars() {
                match letter {
                    '(' => faint = true,
                    ')' => faint = false,
                    '[' => inverse = true,
                    ']' => inverse = false,
                    letter => cells.push(Cell { letter, faint, inverse }),
                }
            }
            cells
        };
        Screen {
            pane_pid: None,
            dead: false,
            in_mode: false,
            input_off: false,
            cursor,
            history: 0,
            shared: false,
            session_activity: 0,
            somebody_acted: None,
            last_attached: 0,
            client_activity: None,
            tty: "/dev/null".into(),
            rows: rows.iter().map(cells).collect(),
        }
    }

    #[test]
    fn an_input_line_behind_a_known_prompt() {
        let claude = "\u{276f} ";
        let rule = "──────";
        for (rows, cursor, line) in [
            // A plain program that reads lines.
            (&["hello", "\u{276f} "][..], (2, 1), Line::Empty),
            (&["hello", "\u{276f}\u{a0}"], (2, 1), Line::Empty),
            (&["hello", "\u{276f}"], (1, 1), Line::Empty),
            (&["hello", "\u{276f} half"], (6, 1), Line::Text),
            // Only blanks were typed.
            (&["hello", "\u{276f}    "], (4, 1), Line::Text),
            // The cursor was moved to the beginning of what was typed.
            (&["\u{276f} half"], (2, 0), Line::Text),
            // A frame, a hint, and a cursor that the program draws itself.
            (&[rule, "\u{276f} ", rule, "(? for shortcuts)"], (0, 3), Line::Empty),
            (&[rule, "\u{276f} [T](ry this)", rule], (0, 2), Line::Empty),
            (&[rule, "\u{276f} (Try this)", rule], (2, 1), Line::Empty),
            (&[rule, "\u{276f} [h]", rule], (0, 2), Line::Text),
            (&[rule, "\u{276f} half[ ]", rule], (0, 2), Line::Text),
            (&["╭────╮", "│ \u{276f}    │", "╰────╯"], (4, 1), Line::Empty),
            (&["╭────╮", "│ \u{276f} x  │", "╰────╯"], (5, 1), Line::Text),
            // More than one line of input, the first of them empty.
            (&[rule, "\u{276f} ", "  more", rule], (6, 2), Line::Text),
            (&["│ \u{276f}   │", "│  x  │", "╰────╯"], (0, 3), Line::Text),
            // What was said before looks alike; the last one counts.
            (&["\u{276f} do this", "done", "\u{276f} "], (0, 0), Line::Text),
            (&["\u{276f} do this", "done", "\u{276f} "], (0, 1), Line::Empty),
            // A question in its place.
            (&["Do you want that?", "1. yes"], (0, 1), Line::Unseen),
            (&[], (0, 0), Line::Unseen),
        ] {
            assert_eq!(behind_prompt(&screen(rows, cursor), claude), line, "{rows:?} {cursor:?}");
        }
        assert_eq!(behind_prompt(&screen(&["x"], (0, 0)), " "), Line::Unseen);
    }

    #[test]
    fn a_line_of_a_program_that_is_not_known() {
        for (rows, cursor, line) in [
            (&["ready", ""][..], (0, 1), Line::Empty),
            (&["ready"], (0, 1), Line::Empty),
            (&["> "], (2, 0), Line::Empty),
            (&["$ "], (2, 0), Line::Empty),
            (&["> h"], (3, 0), Line::Text),
            (&["hal"], (3, 0), Line::Text),
            (&["   "], (3, 0), Line::Text),
            (&[">    "], (5, 0), Line::Text),
            (&["root@host:~# "], (13, 0), Line::Text),
        ] {
            assert_eq!(at_cursor(&screen(rows, cursor)), line, "{rows:?} {cursor:?}");
        }
    }
}
