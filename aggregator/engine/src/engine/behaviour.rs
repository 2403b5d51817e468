//! What the engine promises, as scripts. Windows of 10 s, delay 4 s, silence 30 s.

use super::scenario::{Log, Run, SEED};
use crate::{Engine, HashSeed, Output, Settings};
use tidewatch_sample::{Reason, Window};

fn settings() -> Settings {
    Settings::default()
}

#[test]
fn a_window_closes_when_its_host_is_the_delay_beyond_its_end() {
    let log = Log::new()
        .sample("a", 2.0, "10")
        .sample("a", 8.0, "20")
        .sample("a", 13.999, "99");
    assert_eq!(log.run(settings()).rows(), [""; 0]);
    let log = log.sample("a", 14.0, "99");
    assert_eq!(log.run(settings()).rows(), ["a 0/10 15.0 2/?"]);
}

#[test]
fn windows_begin_at_multiples_of_their_length_before_1970_too() {
    let log = Log::new()
        .sample("a", -0.002, "1")
        .sample("a", 0.0, "3")
        .sample("a", 14.0, "0");
    assert_eq!(
        log.run(settings()).rows(),
        ["a -10/0 1.0 1/?", "a 0/10 3.0 1/?"]
    );
}

#[test]
fn a_sample_within_the_delay_counts_and_one_behind_it_is_late() {
    let log = Log::new()
        .sample("a", 9.0, "10")
        .sample("a", 13.9, "1")
        .sample("a", 0.0, "20")
        .sample("a", 14.0, "1")
        .sample("a", 9.9, "30");
    let run = log.run(settings());
    assert_eq!(run.rows(), ["a 0/10 15.0 2/?"]);
    assert_eq!(
        (run.engine.counters().accepted, run.engine.counters().late),
        (4, 1)
    );
}

#[test]
fn no_host_closes_the_windows_of_another() {
    let log = Log::new()
        .sample("slow", 1.0, "1")
        .sample("fast", 1.0, "1")
        .steady(&["fast"], 2, 30)
        .sample("slow", 3.0, "3")
        .sample("slow", 14.0, "1");
    let run = log.run(settings());
    assert_eq!(run.rows_of("slow"), ["slow 0/10 2.0 2/?"]);
    assert_eq!(run.engine.counters().late, 0);
}

#[test]
fn a_host_that_drains_its_spool_late_gets_all_its_windows() {
    let hosts = ["b", "c", "d", "e"];
    let mut log = Log::new().steady(&["a"], 0, 4).steady(&hosts, 0, 600);
    for seconds in (4..600).step_by(2) {
        log = log
            .sample("a", seconds as f64, "1")
            .sample("b", 600.0 + seconds as f64 / 10.0, "1");
    }
    let run = log.run(settings());
    // Its first window was closed by silence, with what had come of it.
    let rows = run.rows_of("a");
    assert_eq!(rows.first().map(String::as_str), Some("a 0/10 1.0 2/?"));
    assert_eq!(rows.len(), 59, "the window of 590 s is open");
    assert!(
        rows[1..].iter().all(|row| row.ends_with("1.0 5/?")),
        "{rows:?}"
    );
    assert_eq!(run.engine.counters().late, 3, "of the first window");
}

#[test]
fn a_silent_hosts_window_closes_once_the_others_are_past_end_delay_and_silence() {
    let hosts = ["b", "c", "d", "e"];
    let before = Log::new().sample("a", 0.0, "7").steady(&hosts, 0, 44);
    assert_eq!(before.run(settings()).rows_of("a"), [""; 0]);
    let after = before.steady(&hosts, 44, 46);
    assert_eq!(after.run(settings()).rows_of("a"), ["a 0/10 7.0 1/?"]);
}

#[test]
fn a_silent_host_whose_clock_is_ahead_is_given_the_same_time() {
    let hosts = ["b", "c", "d", "e"];
    let log = Log::new().sample("a", 300.0, "7").steady(&hosts, 0, 46);
    assert_eq!(log.run(settings()).rows_of("a"), ["a 300/310 7.0 1/?"]);
}

#[test]
fn two_of_many_hosts_cannot_make_the_others_look_silent() {
    let log = Log::new()
        .steady(&["a", "b", "c", "d"], 0, 4)
        .steady(&["a", "b"], 4, 500)
        .sample("c", 8.0, "3")
        .sample("d", 8.0, "3");
    let run = log.run(settings());
    assert_eq!((run.rows_of("c"), run.rows_of("d")), (vec![], vec![]));
    assert_eq!(
        (run.engine.clock_ms(), run.engine.counters().late),
        (Some(8_000), 0)
    );
}

#[test]
fn a_silenced_host_opens_later_windows_and_not_the_closed_one_again() {
    let hosts = ["b", "c", "d", "e"];
    let log = Log::new()
        .sample("a", 5.0, "7")
        .steady(&hosts, 0, 60)
        .sample("a", 8.0, "9")
        .sample("a", 12.0, "5")
        .sample("a", 24.0, "1");
    let run = log.run(settings());
    assert_eq!(run.rows_of("a"), ["a 0/10 7.0 1/?", "a 10/20 5.0 1/?"]);
    assert_eq!(run.engine.counters().late, 1);
}

#[test]
fn rows_closed_by_one_record_stand_by_window_and_host() {
    let log = Log::new()
        .sample("z", 5.0, "1")
        .sample("y", 5.0, "1")
        .sample("z", 12.0, "1")
        .steady(&["b", "c", "d", "e"], 0, 2)
        .steady(&["b", "c", "d", "e"], 100, 102);
    let mut run = log.run(settings());
    run.output.clear();
    run.engine.finish(true, &mut run.output);
    let rows: Vec<_> = run
        .output
        .rows
        .iter()
        .map(|row| (row.window, row.host.to_string()))
        .collect();
    assert!(rows.is_sorted() && rows.len() == 7, "{rows:?}");
}

#[test]
fn a_partition_with_nothing_more_to_read_closes_what_silence_would() {
    let mut run = Log::new()
        .sample("a", 5.0, "7")
        .sample("b", 5.0, "8")
        .run(settings());
    // Silence is window + delay + silence of time caught up.
    for caught_up_ms in (0..44_000).step_by(500) {
        run.engine
            .handle_caught_up(2, caught_up_ms, &mut run.output);
    }
    assert_eq!(run.rows(), [""; 0]);
    run.engine.handle_caught_up(2, 44_000, &mut run.output);
    assert_eq!(run.rows(), ["a 0/10 7.0 1/?", "b 0/10 8.0 1/?"]);
}

#[test]
fn a_host_that_is_heard_is_not_closed_by_wall_clock() {
    let mut run = Run::new(settings());
    let log = Log::new()
        .sample("a", 5.0, "7")
        .sample("b", 5.0, "8")
        .sample("b", 6.0, "8");
    let (first, rest) = (Log(log.0[..2].to_vec()), Log(log.0[2..].to_vec()));
    run.read(&first);
    run.engine.handle_caught_up(2, 0, &mut run.output);
    run.engine.handle_caught_up(2, 30_000, &mut run.output);
    run.read(&rest);
    run.engine.handle_caught_up(3, 50_000, &mut run.output);
    assert_eq!(run.rows(), ["a 0/10 7.0 1/?"]);
}

#[test]
fn two_silent_hosts_among_three_do_not_stop_the_clock_for_ever() {
    let mut run = Log::new().steady(&["a", "b", "c"], 0, 4).run(settings());
    let log = Log::new()
        .steady(&["a", "b", "c"], 0, 4)
        .steady(&["c"], 4, 400);
    for (at, line) in (0..).zip(&log.0).skip(6) {
        run.engine.handle_records(&[line.record()], &mut run.output);
        run.engine
            .handle_caught_up(at + 1, (at - 6) * 2_000, &mut run.output);
    }
    assert_eq!(run.rows_of("a"), ["a 0/10 1.0 2/?"]);
    assert_eq!(run.rows_of("b"), ["b 0/10 1.0 2/?"]);
    assert!(
        run.engine.clock_ms() > Some(300_000),
        "the one that is left decides"
    );
}

#[test]
fn the_end_of_the_input_closes_open_windows_only_if_told_to() {
    let mut left = Log::new()
        .sample("a", 5.0, "7")
        .sample("a", 6.0, "7")
        .run(settings());
    left.engine.finish(false, &mut left.output);
    assert_eq!(left.rows(), [""; 0]);
    left.engine.finish(true, &mut left.output);
    assert_eq!(left.rows(), ["a 0/10 7.0 2/?"]);
}

#[test]
fn a_lone_sample_is_shown_once_nothing_more_comes() {
    let mut run = Log::new().sample("a", 5.0, "7").run(settings());
    assert_eq!(
        run.engine.counters().accepted,
        0,
        "nothing tells whether its time is right"
    );
    for caught_up_ms in [0, 44_000] {
        run.engine
            .handle_caught_up(1, caught_up_ms, &mut run.output);
    }
    assert_eq!(run.rows(), ["a 0/10 7.0 1/?"]);
}

#[test]
fn a_window_tells_how_complete_it_is() {
    let log = Log::new()
        .tagged("a", 4.0, "1", 1, 0)
        .tagged("a", 6.0, "1", 1, 1)
        .tagged("a", 10.0, "1", 1, 3)
        .tagged("a", 12.0, "1", 1, 4)
        .tagged("a", 28.0, "1", 1, 12);
    let rows = log.run(settings()).rows();
    assert_eq!(rows, ["a 0/10 1.0 2/3", "a 10/20 1.0 2/5"]);
}

#[test]
fn a_sample_that_comes_twice_counts_once() {
    let log = Log::new()
        .tagged("a", 2.0, "10", 1, 1)
        .tagged("a", 4.0, "20", 1, 2)
        .tagged("a", 2.0, "10", 1, 1)
        .tagged("b", 2.0, "10", 1, 1)
        .tagged("a", 14.0, "1", 1, 7);
    let run = log.run(settings());
    assert_eq!(run.rows(), ["a 0/10 15.0 2/5"]);
    assert_eq!(run.engine.counters().duplicates, 1);
}

#[test]
fn each_unreadable_record_has_its_reason_and_the_job_goes_on() {
    let (key, year_2100) = (Some("a"), 4_102_444_800_000);
    let long = "9".repeat(900 * 1024);
    let bad = [
        (key, Some("abc"), 0, Reason::NotANumber),
        (key, Some("NaN"), 0, Reason::Nan),
        (key, Some("inf"), 0, Reason::Infinite),
        (key, Some("-1"), 0, Reason::BelowRange),
        (key, Some("1e999"), 0, Reason::Overflow),
        (key, Some(""), 0, Reason::EmptyValue),
        (key, None, 0, Reason::NoValue),
        (key, Some(&long), 0, Reason::LongValue),
        (None, Some("1"), 0, Reason::NoHost),
        (Some(""), Some("1"), 0, Reason::NoHost),
        (Some(&long), Some("1"), 0, Reason::BadHost),
        (key, Some("300"), 0, Reason::AboveRange),
        (key, Some("100.000000000001"), 0, Reason::AboveRange),
        (key, Some("1"), -1, Reason::NoTimestamp),
        (key, Some("1"), i64::MIN, Reason::BadTimestamp),
        (key, Some("1"), i64::MAX, Reason::BadTimestamp),
        (key, Some("1"), year_2100, Reason::Future),
    ];
    let mut log = Log::new().sample("a", 2.0, "10").sample("a", 4.0, "20");
    for (key, value, timestamp_ms, _) in bad {
        log = log.raw(
            key.map(str::as_bytes),
            value.map(str::as_bytes),
            timestamp_ms,
        );
    }
    let run = log.sample("a", 14.0, "100").run(settings());
    assert_eq!(run.rows(), ["a 0/10 15.0 2/?"]);
    let reasons: Vec<Reason> = run
        .output
        .rejects
        .iter()
        .map(|reject| reject.reason)
        .collect();
    assert_eq!(reasons, bad.map(|(.., reason)| reason));
    let rejected = &run.engine.counters().rejected;
    assert_eq!(rejected.values().sum::<u64>(), 17);
}

#[test]
fn a_reject_keeps_the_beginning_of_a_long_value_and_says_how_long_it_was() {
    let long = vec![b'9'; 900 * 1024];
    let log = Log::new()
        .steady(&["a"], 0, 4)
        .raw(Some(b"a"), Some(&long), 7);
    let run = log.raw(Some(b"\xff"), Some(b"1"), 8).run(settings());
    let [value, key] = run.output.rejects.as_slice() else {
        panic!("two rejects")
    };
    assert_eq!(value.value.as_ref().map(|kept| kept.len()), Some(64 * 1024));
    assert_eq!((value.offset, value.truncated_bytes), (2, Some(900 * 1024)));
    assert_eq!((value.timestamp_ms, value.clock_ms), (7, Some(2_000)));
    assert_eq!(
        (key.reason, key.key.as_deref()),
        (Reason::BadHost, Some(b"\xff".as_slice()))
    );
}

#[test]
fn a_tag_that_cannot_be_read_is_rejected() {
    let mut log = Log::new().sample("a", 1.0, "1").sample("a", 2.0, "1");
    log.0[0].tag = Some(None);
    log.0[1].tag = Some(Some("x".to_string()));
    assert_eq!(log.run(settings()).rejects(), ["0 bad-tag", "1 bad-tag"]);
}

#[test]
fn one_leap_into_the_future_is_rejected_when_its_host_comes_back() {
    let log = Log::new()
        .steady(&["a"], 0, 4)
        .sample("a", 5000.0, "9")
        .sample("a", 4.0, "1");
    let run = log.sample("a", 14.0, "1").run(settings());
    assert_eq!(run.rejects(), ["2 future"]);
    assert_eq!(run.rows(), ["a 0/10 1.0 3/?"]);
}

#[test]
fn the_first_sample_of_all_may_be_the_wrong_one() {
    let log = Log::new()
        .sample("a", 1e9, "9")
        .sample("a", 0.0, "1")
        .sample("a", 14.0, "1");
    let run = log.run(settings());
    assert_eq!(
        (run.rejects(), run.rows()),
        (vec!["0 future".into()], vec!["a 0/10 1.0 1/?".into()])
    );

    let log = Log::new()
        .sample("bad", 1e9, "9")
        .steady(&["a", "b"], 0, 16);
    let mut run = log.run(settings());
    assert_eq!(run.rows().len(), 2);
    run.engine.finish(false, &mut run.output);
    assert_eq!(run.rejects(), ["0 future"]);
}

#[test]
fn a_lone_host_that_comes_back_after_long_is_believed_the_third_time() {
    let log = Log::new()
        .steady(&["a", "b", "c", "d"], 0, 4)
        .sample("a", 5000.0, "1")
        .sample("a", 5002.0, "2");
    assert_eq!(log.run(settings()).engine.counters().accepted, 8);
    let run = log
        .sample("a", 5004.0, "3")
        .sample("a", 5014.0, "3")
        .run(settings());
    assert_eq!(run.engine.counters().accepted, 12);
    assert_eq!(run.rows_of("a"), ["a 0/10 1.0 2/?", "a 5000/5010 2.0 3/?"]);
    assert_eq!(
        (run.rejects(), run.engine.clock_ms()),
        (vec![], Some(2_000))
    );
}

#[test]
fn an_outage_that_three_hosts_shared_is_believed() {
    let log = Log::new()
        .steady(&["a", "b", "c", "d"], 0, 4)
        .sample("a", 5000.0, "1")
        .sample("b", 5000.0, "1");
    assert_eq!(log.run(settings()).engine.counters().accepted, 8);
    let run = log
        .sample("c", 5000.0, "1")
        .sample("d", 5000.0, "1")
        .run(settings());
    assert_eq!(
        (run.engine.counters().accepted, run.engine.clock_ms()),
        (12, Some(5_000_000))
    );
    assert_eq!(run.rows_of("d"), ["d 0/10 1.0 2/?"]);
}

#[test]
fn the_seventeenth_held_sample_puts_out_the_first() {
    let mut log = Log::new().steady(&["a"], 0, 4);
    for at in 0..17 {
        let host = if at % 2 == 0 { "b" } else { "c" };
        // Each further ahead than the last, so that no host gets to three in a row in bounds.
        log = log.sample(host, f64::from(at / 4 * 10_000 + 5_000), "1");
    }
    let run = log.run(settings());
    assert_eq!(
        run.engine.counters().rejected.len(),
        0,
        "three of a host are believed"
    );
    let mut log = Log::new().steady(&["a"], 0, 4);
    for _ in 0..17 {
        log = log.sample("b", 5000.0, "1").sample("b", 4.0, "1");
    }
    let run = log.run(settings());
    assert_eq!(run.engine.counters().rejected[&Reason::Future], 17);
}

#[test]
fn a_held_sample_is_believed_when_the_partition_comes_up_to_it() {
    let log = Log::new()
        .steady(&["a"], 0, 4)
        .sample("b", 610.0, "5")
        .steady(&["a"], 4, 12);
    let run = log.run(settings());
    assert_eq!(
        run.engine.counters().accepted,
        7,
        "610 s is ten minutes beyond 10 s"
    );
}

#[test]
fn a_held_sample_is_rejected_once_the_partition_has_moved_on_without_it() {
    let log = Log::new()
        .steady(&["a"], 0, 4)
        .sample("b", 1e6, "5")
        .steady(&["a"], 4, 620);
    assert_eq!(log.run(settings()).rejects(), ["2 future"]);
}

#[test]
fn a_host_whose_clock_went_wrong_is_right_again_after_it_was_forgotten() {
    let settings = Settings {
        forget_after_ms: 60_000,
        ..settings()
    };
    let hosts = ["b", "c", "d", "e"];
    let mut log = Log::new().steady(&["a", "b", "c", "d", "e"], 0, 4);
    for seconds in [1e9, 1e9, 1e9] {
        log = log.sample("a", seconds, "9");
    }
    for seconds in (4..200).step_by(2) {
        log = log
            .steady(&["a"], seconds, seconds + 1)
            .steady(&hosts, seconds, seconds + 1);
    }
    let run = log.run(settings);
    let rows = run.rows_of("a");
    assert!(
        rows.contains(&"a 1000000000/1000000010 9.0 3/?".to_string()),
        "{rows:?}"
    );
    assert!(rows.contains(&"a 170/180 1.0 5/?".to_string()), "{rows:?}");
}

#[test]
fn hosts_have_a_bound() {
    let settings = Settings {
        hosts_max: 2,
        ..settings()
    };
    let log = Log::new().steady(&["a", "b", "c"], 0, 16);
    let run = log.run(settings);
    assert_eq!(run.engine.hosts(), 2);
    assert_eq!(run.rows(), ["a 0/10 1.0 5/?", "b 0/10 1.0 5/?"]);
    assert_eq!(run.engine.counters().rejected[&Reason::TooManyHosts], 8);
}

#[test]
fn a_host_is_forgotten_and_its_memory_taken_by_another() {
    let settings = Settings {
        forget_after_ms: 60_000,
        ..settings()
    };
    let hosts = ["b", "c", "d", "e"];
    let log = Log::new().steady(&["a"], 0, 4).steady(&hosts, 0, 66);
    assert_eq!(log.run(settings.clone()).engine.hosts(), 4);
    let log = log.steady(&["f"], 66, 68);
    assert_eq!(log.run(settings).engine.hosts(), 5);
}

#[test]
fn the_running_mean_takes_late_samples_and_leaves_out_the_rest() {
    let settings = Settings {
        running: true,
        ..settings()
    };
    let log = Log::new()
        .tagged("a", 0.0, "10", 1, 0)
        .tagged("a", 40.0, "20", 1, 20)
        .tagged("a", 2.0, "60", 1, 1)
        .tagged("a", 2.0, "60", 1, 1)
        .sample("a", 42.0, "abc");
    let mut run = log.run(settings);
    let rows = run.engine.take_running();
    assert_eq!(rows.len(), 1);
    let result = rows[0].result().unwrap();
    assert_eq!(
        (result.window, result.encode_value().as_str()),
        (Window::All { newest_ms: 40_000 }, "30.0")
    );
    assert_eq!(
        (result.count, result.min.get(), result.max.get()),
        (3, 10.0, 60.0)
    );
    assert_eq!(run.engine.take_running(), [], "nothing changed since");
}

#[test]
fn open_windows_are_shown_as_they_stand() {
    let run = Log::new()
        .sample("b", 2.0, "4")
        .sample("a", 4.0, "3")
        .sample("a", 11.0, "5")
        .run(settings());
    let rows = run.engine.open_windows();
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (row.host.to_string(), row.window.to_string()))
        .collect();
    let expected = [("a", "0/10000"), ("b", "0/10000"), ("a", "10000/20000")];
    assert_eq!(
        shown,
        expected.map(|(host, window)| (host.to_string(), window.to_string()))
    );
}

#[test]
fn the_hash_seed_changes_no_output() {
    let log = Log::new().steady(&["a", "b", "c", "d", "e", "f"], 0, 100);
    let run = log.run(settings());
    let mut other = Run {
        engine: Engine::new(settings(), HashSeed([0, u64::MAX]), 0).unwrap(),
        output: Output::default(),
    };
    other.read(&log);
    assert_eq!(run.output, other.output);
    assert_ne!(SEED.0, [0, u64::MAX]);
}

#[test]
fn many_silent_hosts_keep_the_offset_back_and_no_window_is_repeated() {
    let names: Vec<String> = (0..200)
        .map(|host| format!("rack-{host:03}.example"))
        .collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    // Ten hosts go on; the others fall silent one after the other, two seconds apart.
    let mut log = Log::new();
    for (at, left) in (0..).step_by(2).zip((10..=200).rev()) {
        log = log.steady(&all[..left], at, at + 1);
    }
    let log = log.steady(&all[..10], 382, 460);
    let mut run = log.run(settings());
    assert!(run.rows_of(all[10]).len() > 30, "closed by silence");

    let progress = run.engine.progress().unwrap();
    assert!(progress.metadata.len() <= 4096);
    let noted = all
        .iter()
        .filter(|name| progress.metadata.contains(*name))
        .count();
    assert!(noted > 40, "{noted}");
    assert!(progress.offset > 0 && noted < 190, "{progress:?}");

    let later = log.clone().steady(&all, 460, 480);
    let mut resumed = Run {
        engine: Engine::resume(settings(), SEED, progress.offset, &progress.metadata).unwrap(),
        output: Output::default(),
    };
    let from = usize::try_from(progress.offset).unwrap();
    resumed.read(&Log(later.0[from..log.0.len()].to_vec()));
    assert_eq!(
        (resumed.rows(), resumed.engine.position()),
        (vec![], run.engine.position())
    );

    run.output.clear();
    let rest = Log(later.0[log.0.len()..].to_vec());
    run.read(&rest);
    resumed.read(&rest);
    assert_eq!(run.output, resumed.output);
    assert_eq!(
        run.output.rows.len(),
        210,
        "the window of 460 s, and that of 450 s of ten hosts"
    );
}

#[test]
fn an_idle_partition_commits_its_end() {
    let mut run = Log::new().steady(&["a", "b"], 0, 4).run(settings());
    assert_eq!(
        run.engine.progress().map(|progress| progress.offset),
        Some(0)
    );
    for caught_up_ms in [0, 44_000] {
        // The position passes the markers of transactions, of which no record tells.
        run.engine
            .handle_caught_up(9, caught_up_ms, &mut run.output);
    }
    let progress = run.engine.progress().unwrap();
    assert_eq!((progress.offset, run.rows().len()), (9, 2));
    let resumed = Engine::resume(settings(), SEED, progress.offset, &progress.metadata).unwrap();
    assert_eq!((resumed.position(), resumed.clock_ms()), (9, Some(2_000)));
}

#[test]
fn a_log_that_lost_records_is_read_as_it_is() {
    let mut run = Log::new().steady(&["a", "b"], 0, 30).run(settings());
    let progress = run.engine.progress().unwrap();
    let mut resumed = Run {
        engine: Engine::resume(settings(), SEED, progress.offset, &progress.metadata).unwrap(),
        output: Output::default(),
    };
    assert_eq!(
        resumed.engine.progress(),
        None,
        "the last commit holds while records are repeated"
    );
    resumed
        .engine
        .handle_caught_up(progress.offset, 0, &mut resumed.output);
    assert!(resumed.engine.progress().is_some());
}
