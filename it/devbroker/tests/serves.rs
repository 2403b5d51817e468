//! The binary: it says where it listens, serves, refuses bytes that are no request, and ends when
//! told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// Ends with the test, however the test ends.
struct Broker {
    child: Child,
    addresses: Vec<String>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(flags: &[&str], nodes: usize) -> Result<Broker, Box<dyn std::error::Error>> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidewatch-devbroker"))
        .args(["--listen", "127.0.0.1:0"])
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no standard output")?;
    let mut broker = Broker {
        child,
        addresses: Vec::new(),
    };
    for line in BufReader::new(stdout).lines().take(nodes) {
        let line = line?;
        let address = line
            .strip_prefix("LISTENING ")
            .ok_or("not an announcement")?;
        broker.addresses.push(address.to_owned());
    }
    Ok(broker)
}

/// ApiVersions 0 with correlation id 7 and no client id.
const API_VERSIONS: &[u8] = b"\0\0\0\x0a\0\x12\0\0\0\0\0\x07\xff\xff";

#[test]
fn every_node_answers_where_it_says_and_a_signal_ends_it() {
    let mut broker = start(&["--nodes", "3"], 3).unwrap();
    assert_eq!(broker.addresses.len(), 3);
    for address in &broker.addresses {
        let mut stream = TcpStream::connect(address).unwrap();
        // Two requests in one write: both are answered, in order.
        stream
            .write_all(&[API_VERSIONS, API_VERSIONS].concat())
            .unwrap();
        for _ in 0..2 {
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut body = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
            stream.read_exact(&mut body).unwrap();
            assert_eq!(body[..6], [0, 0, 0, 7, 0, 0]);
        }
    }
    let pid = broker.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(broker.child.wait().unwrap().code(), Some(0));
}

#[test]
fn line_38_bytes_that_are_no_frame_close_the_connection() {
    let broker = start(&[], 1).unwrap();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
    ] {
        let mut stream = TcpStream::connect(&broker.addresses[0]).unwrap();
        stream.write_all(bytes).unwrap();
        // The end may come as a reset, where the broker left bytes unread.
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        assert!(
            answer.is_empty() && read.map_or(true, |count| count == 0),
            "{bytes:?}"
        );
    }
}

#[test]
fn what_cannot_be_is_refused_as_wrong_usage() {
    for flags in [
        &["--listen", "0.0.0.0:9092"][..],
        &["--nodes", "0"],
        &["--no-such-flag"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tidewatch-devbroker"))
            .args(flags)
            .output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(!output.stderr.is_empty(), "{flags:?}");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let broker = start(&[], 1).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tidewatch-devbroker"))
        .args(["--listen", &broker.addresses[0]])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&broker.addresses[0]), "{said}");
}
