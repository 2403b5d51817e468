//! Ports for servers that tests start, stop and start again.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the kernel's ephemeral range: a client that retries a dead port inside that range can be
/// given the same port as its own and connect to itself.
const RANGE: std::ops::Range<u16> = 15_000..30_000;

/// A port on 127.0.0.1 that nobody listens on.
///
/// # Panics
/// If the whole range is taken.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = RANGE.end - RANGE.start;
    // Test processes start far from one another (Knuth's multiplicative hash), so that two that run
    // at once do not choose the same port before either has taken it.
    let start = (std::process::id().wrapping_mul(2_654_435_761) % u32::from(span)) as u16;
    for _ in 0..span {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed) * 7) % span;
        let port = RANGE.start + offset;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free in {RANGE:?}");
}
