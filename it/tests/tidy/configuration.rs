//! The page of options says what the client's tables say.

use super::sources::root;

#[test]
fn the_page_of_options_is_written_from_the_tables() {
    let page = std::fs::read_to_string(root().join("client/CONFIGURATION.md"))
        .expect("there is a client/CONFIGURATION.md");
    let written = tidewatch_it::configuration::page();
    let different = page.lines().zip(written.lines()).find(|(a, b)| a != b);
    assert!(
        page == written,
        "client/CONFIGURATION.md is not what the tables say: \
         run `cargo run -p tidewatch-it --bin configuration-page`; first difference {different:?}"
    );
}
