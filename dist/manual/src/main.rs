//! Writes a package's papers into a folder: man pages and shell completions from the definitions that
//! stand behind `--help`, and the licences of everything that is linked.

mod licences;
mod page;

use clap::Command;
use clap_complete::Shell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

fn main() -> ExitCode {
    let Some(out) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("tidewatch-manual: name the folder to write to");
        return ExitCode::from(2);
    };
    match write(&out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidewatch-manual: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why nothing, or not everything, was written.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("failed to write to {}: {source}", at.display())]
    Write { at: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Licences(#[from] licences::Error),
}

fn programs() -> [Command; 3] {
    [
        tidewatch_collector::command(),
        tidewatch_aggregator::command(),
        tidewatch_devbroker::command(),
    ]
}

/// `man1/NAME.1`, `completions/NAME.bash`, `_NAME` and `NAME.fish`, and `LICENCES`.
fn write(out: &Path) -> Result<(), Error> {
    let failed = |source| Error::Write {
        at: out.to_owned(),
        source,
    };
    let (pages, completions) = (out.join("man1"), out.join("completions"));
    for folder in [&pages, &completions] {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    for mut program in programs() {
        let name = program.get_name().to_owned();
        let page = page::render(&program).map_err(failed)?;
        fs::write(pages.join(format!("{name}.1")), page).map_err(failed)?;
        for shell in SHELLS {
            clap_complete::generate_to(shell, &mut program, &name, &completions).map_err(failed)?;
        }
    }
    fs::write(out.join("LICENCES"), licences::collect()?).map_err(failed)
}
