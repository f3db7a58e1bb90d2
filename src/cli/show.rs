//! Printing for people: everything that reaches a terminal goes through here.

use std::io::{IsTerminal as _, Write as _};

/// Prints a line. A reader that has gone (`| head`) is no error.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Text from outside with everything that a terminal would obey taken out: control characters,
/// escape sequences' first bytes, and bidirectional overrides.
pub(crate) fn plain(text: &str) -> String {
    let overrides =
        |c: char| ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    text.chars().filter(|&c| c == '\n' || !(c.is_control() || overrides(c))).collect()
}

/// Whether standard output is a terminal, where colour helps.
pub(crate) fn coloured() -> bool {
    std::io::stdout().is_terminal()
}

/// Wraps `text` in a terminal style when colours help.
pub(crate) fn styled(text: &str, style: &str) -> String {
    if coloured() { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Rows under a header, columns padded to their widest cell; the first column to the left, the
/// others to the right.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let render = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
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
    }
}
