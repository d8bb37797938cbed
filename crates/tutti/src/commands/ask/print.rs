//! Printing: JSON where it was asked for, else text for people.

use std::io::{self, Write};

use serde::Serialize;

/// Where and how to print.
pub(crate) struct Out {
    form: Form,
}

enum Form {
    Json,
    Text,
}

impl Out {
    /// Prints JSON, or text.
    pub(crate) fn new(json: bool) -> Self {
        Self { form: if json { Form::Json } else { Form::Text } }
    }

    /// Prints `value`: whole as JSON, or as `text` makes it.
    pub(crate) fn say<T: Serialize>(&self, value: &T, text: impl Fn(&T) -> String) -> anyhow::Result<()> {
        let line = match self.form {
            Form::Json => serde_json::to_string_pretty(value)?,
            Form::Text => text(value),
        };
        written(writeln!(io::stdout(), "{}", line.trim_end()))
    }

    /// Prints one of many values: a line of JSON, or the line that `text` makes.
    pub(crate) fn line<T: Serialize>(&self, value: &T, text: impl Fn(&T) -> String) -> anyhow::Result<()> {
        match self.form {
            Form::Json => self.json_line(value),
            Form::Text => written(writeln!(io::stdout(), "{}", text(value))),
        }
    }

    /// Prints one of many values as a line of JSON, whatever was asked for.
    pub(crate) fn json_line<T: Serialize>(&self, value: &T) -> anyhow::Result<()> {
        written(writeln!(io::stdout(), "{}", serde_json::to_string(value)?))
    }

    /// Whether JSON was asked for.
    pub(crate) fn is_json(&self) -> bool {
        matches!(self.form, Form::Json)
    }

    /// Prints that something is done.
    pub(crate) fn done(&self, text: &str) -> anyhow::Result<()> {
        self.say(&serde_json::json!({ "done": text }), |_| text.to_owned())
    }
}

/// Whoever reads may stop reading.
fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// A table with aligned columns, the first row its head.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.1} kB", count as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MB", count as f64 / 1_048_576.0),
        _ => format!("{:.1} GB", count as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [vec!["a".into(), "bb".into()], vec!["ccc".into(), "d".into()]];
        assert_eq!(table(&rows), "a    bb\nccc  d");
    }
}
