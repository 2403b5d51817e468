//! The exchange of RFC 7677, and what a broker must not get away with.

use super::*;
use proptest::prelude::*;

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn scram(name: &str, token_auth: bool) -> Scram {
    let password = Secret::new("pencil");
    Scram::new(Hash::Sha256, name, &password, token_auth, NONCE.to_owned())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// What is said of a first message that cannot be answered.
#[track_caller]
fn refused(server_first: &str) -> String {
    let answer = scram("user", false).handle_challenge(server_first.as_bytes());
    answer.unwrap_err()
}

#[test]
fn line_56_the_exchange_of_rfc_7677() {
    let mut scram = scram("user", false);
    assert_eq!(text(scram.first()), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let Ok(Step::Answer(answer)) = scram.handle_challenge(SERVER_FIRST.as_bytes()) else {
        panic!("no answer")
    };
    assert_eq!(text(answer), CLIENT_FINAL);
    assert_eq!(
        scram.handle_challenge(SERVER_FINAL.as_bytes()),
        Ok(Step::Done)
    );
    let more = scram.handle_challenge(SERVER_FINAL.as_bytes());
    assert!(more.unwrap_err().contains("goes on"));
}

#[test]
fn line_56_a_nonce_that_does_not_continue_ours_is_refused() {
    for nonce in ["somebody-elses", NONCE, "rOprNGfwEbeRWgbNEkq0more"] {
        let said = refused(&format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
        assert!(said.contains("does not continue ours"), "{nonce}: {said}");
    }
}

#[test]
fn line_56_a_wrong_signature_is_refused() {
    let wrong = SERVER_FINAL.replace("6rri", "7rri");
    for server_final in [wrong.as_str(), "v=", "v=***", "", "x"] {
        let mut scram = scram("user", false);
        scram.handle_challenge(SERVER_FIRST.as_bytes()).unwrap();
        let said = scram.handle_challenge(server_final.as_bytes());
        assert!(
            said.unwrap_err().contains("signature is wrong"),
            "{server_final}"
        );
    }
    let mut scram = scram("user", false);
    scram.handle_challenge(SERVER_FIRST.as_bytes()).unwrap();
    let said = scram.handle_challenge(b"e=other-error");
    assert_eq!(said, Err("it answered other-error".to_owned()));
}

#[test]
fn line_56_iterations_are_bounded_both_ways() {
    for iterations in ["0", "1", "4095", "65537", "4294967295"] {
        let said = refused(&SERVER_FIRST.replace("4096", iterations));
        assert!(said.contains("from 4096 to 65536"), "{said}");
    }
    for iterations in ["-1", "4294967296", "many"] {
        let said = refused(&SERVER_FIRST.replace("4096", iterations));
        assert!(said.contains("no number"), "{said}");
    }
}

#[test]
fn messages_that_are_none_are_refused() {
    for message in [
        "",
        "m=ext,r=a,s=b,i=4096",
        "r=a",
        "s=b,r=a,i=4096",
        "r=,s=,i=",
    ] {
        assert!(refused(message).contains("lacks"), "{message}");
    }
    assert!(refused(&SERVER_FIRST.replace("gQ==", "gQ==!")).contains("not base64"));
    let long = format!("r={NONCE}{}", "x".repeat(2000));
    assert!(refused(&long).contains("lacks r="));
    let no_text = scram("user", false).handle_challenge(&[0xff]);
    assert!(no_text.unwrap_err().contains("no text"));
}

#[test]
fn a_name_is_escaped_and_a_delegation_token_says_that_it_is_one() {
    let first = text(scram("a=b,c", true).first());
    assert_eq!(first, format!("n,,n=a=3Db=2Cc,r={NONCE},tokenauth=true"));
}

#[test]
fn nonces_differ_and_hold_no_comma() {
    let mut random = fastrand::Rng::with_seed(1);
    let (one, other) = (nonce(&mut random), nonce(&mut random));
    assert_ne!(one, other);
    assert!(one.len() == NONCE_CHARS && one.chars().all(|c| c.is_ascii_alphanumeric()));
}

#[test]
fn the_password_is_not_shown() {
    assert!(!format!("{:?}", scram("user", false)).contains("pencil"));
}

proptest! {
    // Each that comes to hashing costs milliseconds.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_message_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = scram("user", false).handle_challenge(&bytes);
    }

    #[test]
    fn no_damage_to_the_first_message_breaks_it(at in 0..SERVER_FIRST.len(), byte: u8) {
        let mut damaged = SERVER_FIRST.as_bytes().to_vec();
        damaged[at] = byte;
        // The iterations stay few, so that this stays quick.
        prop_assume!(at < SERVER_FIRST.len() - 4);
        let _ = scram("user", false).handle_challenge(&damaged);
    }
}
