//! Columns that line up, whatever script their words are in.

use super::text::{padded, width};

/// Between two columns.
const GAP: &str = "  ";

/// The lines of a table: the head first, every column as wide as its widest word.
pub fn lines<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let mut widths = head.map(width);
    for row in rows {
        for (widest, word) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(word));
        }
    }
    let line = |row: [&str; N]| {
        let words: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(word, widest)| padded(word, widest))
            .collect();
        words.join(GAP).trim_end().to_owned()
    };
    let body = rows
        .iter()
        .map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(head)).chain(body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_in_every_script() {
        let row = |name: &str, end: &str| [name.to_owned(), "x".to_owned(), end.to_owned()];
        let table = lines(
            ["NAME", "N", "END"],
            &[row("你好吗", "1"), row("Zoë", ""), row("a long name", "22")],
        );
        assert_eq!(
            table,
            [
                "NAME         N  END",
                "你好吗       x  1",
                "Zoë          x",
                "a long name  x  22",
            ]
        );
    }
}
