//! The smallest tokio program that waits for something: what an idle client is measured against. It
//! ends with its standard input.

use tidewatch_it::commands;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut lines = commands::lines();
    println!("hello");
    while lines.recv().await.is_some() {}
}
