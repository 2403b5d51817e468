//! `tidewatch-aggregator`: the library's `main` as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidewatch_aggregator::main()
}
