//! The smallest tokio program that waits for something: what an idle client is measured against. It
//! ends with its standard input.

use tokio::sync::mpsc;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (told, mut lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        let lines = std::io::stdin().lines().map_while(Result::ok);
        lines
            .map(|line| told.blocking_send(line))
            .all(|sent| sent.is_ok())
    });
    println!("hello");
    while lines.recv().await.is_some() {}
}
