//! `buffer.memory`: bounded, waited for in order, and given back.

use super::*;
use crate::producer::accumulator::{Appended, Refused, Waiting};
use std::sync::Mutex;
use std::task::{Poll, Wake};

/// Room for two batches of 1000 bytes.
fn small() -> ProducerOptions {
    ProducerOptions {
        batch_size: 1000,
        buffer_memory: 2000,
        linger_ms: 60_000,
        ..options()
    }
}

/// Who was woken, in order.
#[derive(Default)]
struct Woken(Arc<Mutex<Vec<&'static str>>>);

impl Woken {
    fn waker(&self, name: &'static str) -> Waker {
        let woken = Arc::clone(&self.0);
        Waker::from(Arc::new(Names { name, woken }))
    }

    fn names(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }
}

struct Names {
    name: &'static str,
    woken: Arc<Mutex<Vec<&'static str>>>,
}

impl Wake for Names {
    fn wake(self: Arc<Self>) {
        self.woken.lock().unwrap().push(self.name);
    }
}

fn ask(
    scene: &Scene,
    waiting: &mut Waiting<'_>,
    value: &str,
    waker: &Waker,
) -> Poll<Result<Appended, Refused>> {
    scene
        .accumulator
        .poll_append(scene.now, &record(0, value), waiting, waker)
}

#[test]
fn line_14_what_does_not_fit_waits_in_line_and_is_woken_when_a_batch_is_done() {
    let mut scene = Scene::new_lingering(1, small());
    let woken = Woken::default();
    let big = "x".repeat(700);
    let _ = (scene.append(0, &big), scene.append(0, &big));
    assert_eq!(
        scene
            .accumulator
            .append(scene.now, record(0, &big))
            .unwrap_err(),
        Refused::Full
    );
    assert_eq!(scene.accumulator.used_bytes(), 2000);

    let accumulator = Arc::clone(&scene.accumulator);
    let (mut first, mut second) = (accumulator.waiting(), accumulator.waiting());
    assert!(ask(&scene, &mut first, &big, &woken.waker("first")).is_pending());
    assert!(ask(&scene, &mut second, &big, &woken.waker("second")).is_pending());
    // Somebody waits, so that nothing lingers.
    let calls = scene.produces();
    assert_eq!(calls.len(), 2);
    scene.acknowledge(&calls[0], 1);
    assert_eq!(woken.names(), ["first"]);
    assert!(
        ask(&scene, &mut second, &big, &woken.waker("second")).is_pending(),
        "it is not its turn"
    );
    assert!(ask(&scene, &mut first, &big, &woken.waker("first")).is_ready());
    drop(first);
    assert_eq!(woken.names(), ["first", "second"]);
}

#[test]
fn line_14_who_gives_up_waiting_passes_the_turn_on() {
    let mut scene = Scene::new_lingering(1, small());
    let woken = Woken::default();
    let big = "x".repeat(700);
    let _ = (scene.append(0, &big), scene.append(0, &big));
    let accumulator = Arc::clone(&scene.accumulator);
    let (mut first, mut second) = (accumulator.waiting(), accumulator.waiting());
    assert!(ask(&scene, &mut first, &big, &woken.waker("first")).is_pending());
    assert!(ask(&scene, &mut second, &big, &woken.waker("second")).is_pending());
    let calls = scene.produces();
    scene.acknowledge(&calls[0], 1);
    // Woken, and cancelled before it could act.
    drop(first);
    assert_eq!(woken.names(), ["first", "second"]);
    assert!(ask(&scene, &mut second, &big, &woken.waker("second")).is_ready());
}

#[test]
fn line_14_a_record_over_the_whole_memory_is_refused_and_does_not_wait() {
    let scene = Scene::new_lingering(1, small());
    let value = "x".repeat(2000);
    let refused = scene
        .accumulator
        .append(scene.now, record(0, &value))
        .unwrap_err();
    assert!(
        matches!(
            refused,
            Refused::TooLarge {
                option: "buffer.memory",
                ..
            }
        ),
        "{refused}"
    );
}

#[test]
fn line_14_who_waits_for_a_topic_is_woken_when_it_is_known_or_the_producer_closes() {
    let mut scene = Scene::without_metadata(options());
    let woken = Woken::default();
    let accumulator = Arc::clone(&scene.accumulator);
    let mut waiting = accumulator.waiting();
    assert!(ask(&scene, &mut waiting, "a", &woken.waker("known")).is_pending());
    assert_eq!(waiting.last_refused(), Some(&Refused::UnknownTopic));
    let _ = scene.facts();
    scene.leaders = vec![Some((1, 0))];
    scene.publish();
    assert_eq!(woken.names(), ["known"]);
    assert!(ask(&scene, &mut waiting, "a", &woken.waker("known")).is_ready());

    let mut other = accumulator.waiting();
    let elsewhere = RecordRef {
        topic: "other",
        ..record(0, "a")
    };
    assert!(
        accumulator
            .poll_append(scene.now, &elsewhere, &mut other, &woken.waker("closed"))
            .is_pending()
    );
    scene.command(Command::Close {
        deadline_us: u64::MAX,
    });
    assert_eq!(woken.names(), ["known", "closed"]);
}

#[test]
fn compressed_batches_are_charged_for_what_they_take() {
    use tidewatch_protocol::compression::Compression;
    let given = ProducerOptions {
        compression: Compression::Gzip,
        buffer_memory: 10_000,
        ..small()
    };
    let scene = Scene::new_lingering(1, given);
    let big = "x".repeat(700);
    let (_, _) = (scene.append(0, &big), scene.append(0, &big));
    assert!(
        scene.accumulator.used_bytes() < 1300,
        "{}",
        scene.accumulator.used_bytes()
    );
}
