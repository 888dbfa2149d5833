//! Tables without borders: upper-case headers, two spaces between columns, and fewer columns where there is
//! less room.

use super::paint::{Paint, Tone};

/// Between two columns.
const GAP: usize = 2;

/// The last column may be cut down to this before a column is dropped for want of room.
const LAST_MIN: usize = 12;

/// A cell: text and tone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell in a tone.
    #[must_use]
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        // A line break or an escape in a cell would break the table, and a terminal may obey it.
        let text: String = text.into().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self { text, tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// A table in the making.
#[derive(Debug, Default)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these columns.
    #[must_use]
    pub fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row: as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, no wider than `width` as far as one column allows. Columns go from the right; a column in
    /// which no row has anything is left out.
    #[must_use]
    pub fn render(&self, paint: Paint, width: Option<usize>) -> Vec<String> {
        let mut columns: Vec<(usize, usize)> = (0..self.head.len())
            .filter(|index| *index == 0 || self.rows.iter().any(|row| !cell(row, *index).is_empty()))
            .map(|index| (index, self.natural(index)))
            .collect();
        if let Some(width) = width {
            fit(&mut columns, width);
        }
        let titles = columns
            .iter()
            .map(|(index, wide)| (self.head.get(*index).copied().unwrap_or_default(), Tone::Strong, *wide));
        let mut lines = vec![line(titles, paint)];
        for row in &self.rows {
            let cells = columns.iter().map(|(index, wide)| {
                let tone = row.get(*index).map_or(Tone::Plain, |cell| cell.tone);
                (cell(row, *index), tone, *wide)
            });
            lines.push(line(cells, paint));
        }
        lines
    }

    fn natural(&self, index: usize) -> usize {
        let title = self.head.get(index).map_or(0, |title| chars(title));
        self.rows.iter().map(|row| chars(cell(row, index))).max().unwrap_or(0).max(title)
    }
}

fn cell(row: &[Cell], index: usize) -> &str {
    row.get(index).map_or("", |cell| cell.text.as_str())
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// Narrows the last column, then drops it, until the rest fits.
fn fit(columns: &mut Vec<(usize, usize)>, width: usize) {
    while let Some((last, before)) = columns.split_last_mut() {
        let used: usize = before.iter().map(|(_, wide)| wide + GAP).sum();
        let left = width.saturating_sub(used);
        if last.1 <= left {
            return;
        }
        if before.is_empty() || left >= LAST_MIN {
            last.1 = left.max(1);
            return;
        }
        columns.pop();
    }
}

fn line<'a>(cells: impl Iterator<Item = (&'a str, Tone, usize)>, paint: Paint) -> String {
    let mut out = String::new();
    let mut pending = 0;
    for (text, tone, wide) in cells {
        let shown = cut(text, wide);
        out.extend(std::iter::repeat_n(' ', pending));
        out.push_str(&paint.text(tone, &shown));
        pending = wide.saturating_sub(chars(&shown)) + GAP;
    }
    out.truncate(out.trim_end().len());
    out
}

/// A text of at most `wide` characters; what was cut ends in `…`.
#[must_use]
pub fn cut(text: &str, wide: usize) -> String {
    if chars(text) <= wide {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(wide.saturating_sub(1)).collect();
    out.truncate(out.trim_end().len());
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["AGENT", "STATE", "HOOK", "REASON"]);
        table.row(vec!["alpha/witness".into(), "running".into(), "".into(), "".into()]);
        table.row(vec![
            "b/refinery".into(),
            "backoff".into(),
            "".into(),
            "3 failures, the last one: signal 9".into(),
        ]);
        table
    }

    #[test]
    fn room_decides_how_much_is_shown() {
        let render = |width| table().render(Paint::new(false), width).join("\n");
        insta::assert_snapshot!(render(None), @r"
        AGENT          STATE    REASON
        alpha/witness  running
        b/refinery     backoff  3 failures, the last one: signal 9
        ");
        insta::assert_snapshot!(render(Some(40)), @r"
        AGENT          STATE    REASON
        alpha/witness  running
        b/refinery     backoff  3 failures, the…
        ");
        insta::assert_snapshot!(render(Some(30)), @r"
        AGENT          STATE
        alpha/witness  running
        b/refinery     backoff
        ");
        insta::assert_snapshot!(render(Some(8)), @r"
        AGENT
        alpha/w…
        b/refin…
        ");
        for width in 1..80 {
            let widest = table().render(Paint::new(false), Some(width)).iter().map(|l| chars(l)).max();
            assert!(widest <= Some(width), "{width}");
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_blanked() {
        assert_eq!(Cell::from("a\x1b[2Jb\nc").text, "a [2Jb c");
    }
}
