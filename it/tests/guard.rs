//! The guard's table against the decoder that it stands before, for every API and version.

use bytes::Bytes;
use fastrand::Rng;
use tidewatch_it::wire::valid::{self, Style};
use tidewatch_it::wire::{decode_and_encode, spoken};
use tidewatch_protocol::guard::{self, shape};

const MESSAGES_PER_VERSION: usize = 40;

#[test]
fn walk_and_decoder_end_at_the_same_byte_of_every_valid_message() {
    let mut compared = 0;
    for (api, direction, version) in spoken() {
        let message = shape::find(api, direction).unwrap();
        for seed in 0..MESSAGES_PER_VERSION as u64 {
            let what = format!("{api:?} {direction:?} {version}, seed {seed}");
            let made = valid::body(message, version, Style::Ordinary, &mut Rng::with_seed(seed));
            let size = made.bytes.len();
            let mut bytes = made.bytes.clone();
            bytes.extend([0xff; 9]);

            let walked = guard::check(api, direction, version, &bytes);
            assert_eq!(walked, Ok(size), "{what}");

            let mut left = Bytes::from(bytes);
            let again = decode_and_encode(api, direction, version, &mut left);
            assert_eq!(left.len(), 9, "{what}");
            assert_eq!(again.as_deref(), Ok(&made.bytes[..]), "{what}");
            compared += 1;
        }
    }
    println!(
        "{compared} messages of {} APIs, directions and versions",
        spoken().len()
    );
}

#[test]
fn a_message_cut_anywhere_is_refused() {
    for (api, direction, version) in spoken() {
        let message = shape::find(api, direction).unwrap();
        let made = valid::body(message, version, Style::Ordinary, &mut Rng::with_seed(7));
        for size in 0..made.bytes.len() {
            let cut = guard::check(api, direction, version, &made.bytes[..size]);
            assert!(
                cut.is_err(),
                "{api:?} {direction:?} {version} cut to {size} bytes"
            );
        }
    }
}

#[test]
fn what_the_guard_passes_the_decoder_reads_to_the_same_byte() {
    let mut passed = 0;
    for (api, direction, version) in spoken() {
        let message = shape::find(api, direction).unwrap();
        for seed in 0..MESSAGES_PER_VERSION as u64 {
            let mut rng = Rng::with_seed(seed);
            let mut bytes = valid::body(message, version, Style::Ordinary, &mut rng).bytes;
            for _ in 0..rng.usize(..3).min(bytes.len()) {
                let at = rng.usize(..bytes.len());
                bytes[at] ^= 1 << rng.u8(..8);
            }
            let Ok(size) = guard::check(api, direction, version, &bytes) else {
                continue;
            };
            let what = format!("{api:?} {direction:?} {version}, seed {seed}");
            let mut left = Bytes::from(bytes.clone());
            let again = decode_and_encode(api, direction, version, &mut left);
            assert!(again.is_ok(), "{what}: {again:?}");
            assert_eq!(bytes.len() - left.len(), size, "{what}");
            passed += 1;
        }
    }
    assert!(passed > 1_000, "only {passed} damaged messages passed");
}
