//! Batches of results as tables for people, headed `Batch: N`.

use std::fmt::Write;

const COLUMNS: [&str; 7] = ["topic", "window", "host", "mean", "min", "max", "samples"];

/// One line of a table, its cells in the order of the columns.
pub(crate) type Row = [String; 7];

/// Draws a batch. Cells are as wide as their column's widest; numbers stand to the right.
pub(crate) fn draw(batch: u64, rows: &[Row]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(COLUMNS);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(comfy_table::CellAlignment::Right);
    }
    let mut text = String::new();
    let _ = writeln!(text, "Batch: {batch}\n{table}\n");
    text
}

/// A window's span as people read it, in UTC: `13:46:40-13:46:50`. The day is in the record.
pub(crate) fn span(start_ms: i64, end_ms: i64) -> String {
    format!("{}-{}", time_of_day(start_ms), time_of_day(end_ms))
}

fn time_of_day(ms: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    let ms = ms.rem_euclid(DAY_MS);
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    match ms % 1000 {
        0 => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        rest => format!("{hours:02}:{minutes:02}:{seconds:02}.{rest:03}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(host: &str, mean: &str) -> Row {
        let window = span(1_700_000_000_000, 1_700_000_010_000);
        ["cpu-monitor", &window, host, mean, "1.0", "9.5", "5/5"].map(str::to_owned)
    }

    #[test]
    fn a_batch_is_headed_by_its_number_and_aligned() {
        let drawn = draw(3, &[row("a", "5.25"), row("web-1.example", "100.0")]);
        let lines: Vec<_> = drawn.lines().collect();
        assert_eq!(lines[0], "Batch: 3");
        assert!(lines[1].contains("| topic ") && lines[1].contains("samples"));
        assert!(lines[3].contains("22:13:20-22:13:30"), "{drawn}");
        assert!(lines[3].contains("|  5.25 |"), "{drawn}");
        assert!(lines[4].contains("| 100.0 |"), "{drawn}");
    }

    #[test]
    fn a_span_before_1970_is_a_time_of_day_too() {
        assert_eq!(span(-1000, 500), "23:59:59-00:00:00.500");
    }
}
