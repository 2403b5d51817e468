//! Commands to a program of ours: the lines of its standard input.

use std::io;
use tokio::sync::mpsc;

/// The lines, read by a thread of their own so that waiting for one blocks nothing; it ends with
/// standard input or with the receiver.
pub fn lines() -> mpsc::Receiver<String> {
    let (told, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        io::stdin()
            .lines()
            .map_while(Result::ok)
            .all(|line| told.blocking_send(line).is_ok())
    });
    lines
}
