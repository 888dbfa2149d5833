//! A captured screen with its attributes.
//!
//! Owns the reading of `capture-pane -e`. It must never fail: what is no attribute of interest is skipped.

/// One character on a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// The character.
    pub letter: char,
    /// Written faintly, as hints are.
    pub faint: bool,
    /// Foreground and background exchanged, as cursors are drawn.
    pub inverse: bool,
}

/// The rows of a screen. Attributes last over the ends of lines until they are changed.
pub(super) fn cells(answer: &[u8]) -> Vec<Vec<Cell>> {
    let text = String::from_utf8_lossy(answer);
    let (mut faint, mut inverse) = (false, false);
    let mut rows = Vec::new();
    for line in text.lines() {
        let mut row = Vec::new();
        let mut letters = line.chars();
        while let Some(letter) = letters.next() {
            if letter != '\u{1b}' {
                row.push(Cell { letter, faint, inverse });
                continue;
            }
            match letters.next() {
                Some('[') => {
                    let mut codes = String::new();
                    let end = letters.by_ref().find(|c| {
                        let ends = ('\u{40}'..='\u{7e}').contains(c);
                        if !ends {
                            codes.push(*c);
                        }
                        ends
                    });
                    if end == Some('m') {
                        attributes(&codes, &mut faint, &mut inverse);
                    }
                }
                // A link or a title, up to its end.
                Some(']') => {
                    while let Some(letter) = letters.next() {
                        if letter == '\u{7}' || (letter == '\u{1b}' && letters.next().is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            }
        }
        rows.push(row);
    }
    rows
}

fn attributes(codes: &str, faint: &mut bool, inverse: &mut bool) {
    let mut codes = codes.split(';');
    while let Some(code) = codes.next() {
        match code {
            "" | "0" => (*faint, *inverse) = (false, false),
            "2" => *faint = true,
            "22" => *faint = false,
            "7" => *inverse = true,
            "27" => *inverse = false,
            // A colour, with its own numbers behind it.
            "38" | "48" | "58" => match codes.next() {
                Some("5") => drop(codes.next()),
                Some("2") => drop(codes.nth(2)),
                _ => {}
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        let mark = |cell: &Cell| match (cell.faint, cell.inverse) {
            (false, false) => format!("{}", cell.letter),
            (true, false) => format!("({})", cell.letter),
            (false, true) => format!("[{}]", cell.letter),
            (true, true) => format!("{{{}}}", cell.letter),
        };
        let rows: Vec<String> =
            cells(text.as_bytes()).iter().map(|row| row.iter().map(mark).collect()).collect();
        rows.join("\n")
    }

    #[test]
    fn faint_and_inverse_are_told_from_colours() {
        assert_eq!(shown("a\u{1b}[2mb\u{1b}[0mc"), "a(b)c");
        assert_eq!(shown("\u{1b}[7mT\u{1b}[27m\u{1b}[2mry\n\u{1b}[39mx\u{1b}[22my"), "[T](r)(y)\n(x)y");
        assert_eq!(shown("\u{1b}[38;5;2ma\u{1b}[38;2;2;7;2mb\u{1b}[48;5;7mc"), "abc");
        assert_eq!(shown("\u{1b}[1;2;7mé\u{1b}[m!"), "{é}!");
        assert_eq!(shown("\u{1b}]8;;http://x\u{1b}\\l\u{1b}]8;;\u{7}m"), "lm");
        assert_eq!(shown("cut \u{1b}["), "cut ");
        assert_eq!(cells(b"").len(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = cells(&bytes);
        }
    }
}
