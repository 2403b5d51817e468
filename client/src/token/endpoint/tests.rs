//! An endpoint that answers well, badly, in pieces, and not at all.

use super::*;
use tokio::net::{TcpListener, TcpStream};

const GRANTED: &str = r#"{"access_token":"h.p.s","expires_in":300,"token_type":"Bearer"}"#;

fn endpoint(address: &str, scope: Option<&str>) -> Endpoint {
    let secret = Secret::new("s3cret");
    Endpoint::new(address, ("agent", &secret), scope, &TlsOptions::default()).unwrap()
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !String::from_utf8_lossy(&request).contains("client_credentials") {
        assert!(stream.read_buf(&mut request).await.unwrap() > 0);
    }
    String::from_utf8(request).unwrap()
}

/// What comes of each answer in turn, and the requests that were made.
async fn asked(answers: &[String], times: usize) -> (Vec<Result<Token, TokenError>>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = endpoint(&format!("http://{address}/token?x=1"), Some("kafka write"));
    let serve = async {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            requests.push(read_request(&mut stream).await);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        requests
    };
    let ask = async {
        let mut ends = Vec::new();
        for _ in 0..times {
            ends.push(endpoint.token().await);
        }
        ends
    };
    tokio::join!(ask, serve)
}

fn with_length(status: &str, body: &str) -> String {
    let size = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n{body}")
}

#[tokio::test]
async fn a_token_is_asked_for_once_while_it_lives() {
    let (ends, requests) = asked(&[with_length("200 OK", GRANTED)], 3).await;
    assert_eq!(ends, vec![Token::new("h.p.s"); 3]);
    let request = &requests[0];
    assert!(
        request.starts_with("POST /token?x=1 HTTP/1.1\r\nHost: 127.0.0.1:"),
        "{request}"
    );
    assert!(
        request.contains("Authorization: Basic YWdlbnQ6czNjcmV0\r\n"),
        "{request}"
    );
    assert!(
        request.ends_with("grant_type=client_credentials&scope=kafka+write"),
        "{request}"
    );
}

#[tokio::test]
async fn chunks_and_bodies_until_the_end_are_read_too() {
    let (first, rest) = GRANTED.split_at(10);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\na\r\n{first}\r\n{:x};x=y\r\n{rest}\r\n0\r\n\r\n",
        rest.len()
    );
    let until_closed = format!("HTTP/1.0 200 OK\r\n\r\n{}", GRANTED.replace("300", "0"));
    for answer in [chunked, until_closed] {
        let (ends, _) = asked(&[answer], 1).await;
        assert_eq!(ends, [Token::new("h.p.s")]);
    }
}

#[tokio::test]
async fn a_refusal_is_told_from_what_passes() {
    let denied = r#"{"error":"invalid_client","error_description":"no such agent"}"#;
    let answers = [
        with_length("401 Unauthorized", denied),
        with_length("503 Service Unavailable", ""),
        with_length("429 Too Many Requests", "slow down"),
        with_length("200 OK", "{}"),
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_owned(),
        "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
    ];
    let (ends, _) = asked(&answers, answers.len()).await;
    let Err(TokenError::Refused(why)) = &ends[0] else {
        panic!("{:?}", ends[0])
    };
    assert!(why.contains("401 invalid_client: no such agent"), "{why}");
    for (end, expected) in ends[1..].iter().zip([
        "503",
        "429",
        "without an access_token",
        "in the middle",
        "not HTTP",
    ]) {
        let Err(TokenError::Unavailable(why)) = end else {
            panic!("{end:?}")
        };
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn answers_are_taken_in_however_they_are_cut() {
    let whole = with_length("200 OK", GRANTED);
    for cut in 0..whole.len() {
        let progress = answer::parse(&whole.as_bytes()[..cut], false).unwrap();
        assert_eq!(progress, Progress::Partial, "after {cut} bytes");
    }
    for broken in [
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\na",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
    ] {
        assert!(answer::parse(broken.as_bytes(), false).is_err(), "{broken}");
    }
}

#[test]
fn an_address_has_a_scheme_a_host_and_perhaps_a_port() {
    let parse = |text| Url::parse(text).map(|url| (url.host, url.port, url.authority, url.path));
    let owned = |host: &str, port, authority: &str, path: &str| {
        Some((host.to_owned(), port, authority.to_owned(), path.to_owned()))
    };
    assert_eq!(parse("https://idp"), owned("idp", 443, "idp", "/"));
    assert_eq!(
        parse("http://idp:8080/a?b=c"),
        owned("idp", 8080, "idp:8080", "/a?b=c")
    );
    assert_eq!(
        parse("https://[::1]:1?b"),
        owned("::1", 1, "[::1]:1", "/?b")
    );
    assert_eq!(parse("https://[::1]/"), owned("::1", 443, "[::1]", "/"));
    for refused in [
        "",
        "idp/token",
        "ftp://idp/",
        "https://",
        "https://:1/",
        "https://idp:0/",
        "https://idp:x/",
        "https://user@idp/",
        "https://idp/a b",
        "https://idp/\r\nX: y",
    ] {
        assert_eq!(parse(refused), None, "{refused}");
    }
}
