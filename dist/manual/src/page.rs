//! A man page of a program.

use clap::Command;
use clap_mangen::Man;
use std::io::{self, Write};

/// The page in roff. What follows the options in `--help` keeps its lines: it holds examples.
pub(crate) fn render(program: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = Man::new(program.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if let Some(notes) = program.get_after_help() {
        writeln!(page, ".SH NOTES\n.nf")?;
        for line in notes.to_string().lines() {
            writeln!(page, "{}", escape(line))?;
        }
        writeln!(page, ".fi")?;
    }
    Ok(page)
}

/// A line of text as roff shows it: no escape, no request, and a hyphen that can be searched for.
fn escape(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) {
        format!("\\&{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_note_is_taken_for_a_request() {
        assert_eq!(escape(".so /etc/passwd"), "\\&.so /etc/passwd");
        assert_eq!(escape("'tis \\n"), "\\&'tis \\en");
        assert_eq!(escape("  --log warn"), "  \\-\\-log warn");
    }

    #[test]
    fn a_page_has_the_flags_and_the_examples_on_lines_of_their_own() {
        let program = Command::new("watch")
            .about("Watches.")
            .arg(clap::Arg::new("log").long("log").help("What to log"))
            .after_help("Examples:\n  watch --log warn\n  watch");
        let page = String::from_utf8(render(&program).unwrap()).unwrap();
        assert!(page.contains(".TH watch 1"), "{page}");
        assert!(page.contains("\\-\\-log"), "{page}");
        assert!(
            page.ends_with(".SH NOTES\n.nf\nExamples:\n  watch \\-\\-log warn\n  watch\n.fi\n"),
            "{page}"
        );
    }
}
