//! Printing for people: everything that reaches a terminal goes through here.

use std::io::{IsTerminal as _, Write as _};

/// Prints a line. A reader that has gone (`| head`) is no error.
pub fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Text from outside with everything that a terminal would obey taken out: control characters,
/// escape sequences' first bytes, and bidirectional overrides.
#[must_use]
pub fn plain(text: &str) -> String {
    let overrides =
        |c: char| ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    text.chars().filter(|&c| c == '\n' || !(c.is_control() || overrides(c))).collect()
}

/// Whether standard output is a terminal, where colour helps.
#[must_use]
pub fn coloured() -> bool {
    std::io::stdout().is_terminal()
}

/// Wraps `text` in a terminal style when colours help.
#[must_use]
pub fn styled(text: &str, style: &str) -> String {
    if coloured() { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// A size with three digits or so, in powers of 1000: `17 B`, `90.4 MB`.
#[must_use]
pub fn bytes(size: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if size < 1000 {
        return format!("{size} B");
    }
    let mut scaled = size as f64 / 1000.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().unwrap_or(&"");
    // What would be rounded up to 1000 of a unit is 1 of the next.
    while scaled >= 999.95 {
        let Some(next) = units.next() else { break };
        (scaled, unit) = (scaled / 1000.0, next);
    }
    format!("{scaled:.1} {unit}")
}

/// Rows under a header, columns padded to their widest cell: text to the left, numbers to the right.
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let is_number = |cell: &String| {
        cell == "-" || cell.trim_start_matches(['-', '+', '<', '>']).starts_with(|c: char| c.is_ascii_digit())
    };
    let numeric = |column: usize| column > 0 && rows.iter().filter_map(|row| row.get(column)).all(is_number);
    let columns: Vec<(usize, bool)> =
        (0..header.len()).map(|column| (width(column), numeric(column))).collect();
    let render = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&columns).map(|(cell, &(width, numeric))| match numeric {
            false => format!("{cell:<width$}"),
            true => format!("{cell:>width$}"),
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![render(header.to_vec())];
    lines.extend(rows.iter().map(|row| render(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\u{202e}c\u{7}\nd"), "a[2Jbc\nd");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["bm25".to_owned(), "0.5".to_owned()], vec!["x".to_owned(), "12.25".to_owned()]];
        assert_eq!(table(&["list", "n"], &rows), "list      n\nbm25    0.5\nx     12.25");
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned(), "def".to_owned()]];
        assert_eq!(table(&["x", "y"], &rows), "x  y\na  b\nc  def");
    }

    #[test]
    fn sizes_are_short() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (90_387_630, "90.4 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }
}
