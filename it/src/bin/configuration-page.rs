//! Writes `client/CONFIGURATION.md` from the client's tables of options: run it from the project's root
//! after a change to them.
//!
//!     cargo run -p tidewatch-it --bin configuration-page

fn main() -> std::io::Result<()> {
    let page = tidewatch_it::configuration::page();
    std::fs::write("client/CONFIGURATION.md", page)
}
