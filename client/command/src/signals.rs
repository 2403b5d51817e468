//! SIGINT and SIGTERM: the first ends the work cleanly within a bound, the second at once.

use crate::failure::Failure;
use std::io::Write;
use std::time::Duration;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Whether the work was asked to end. Cheap to clone; its waits are cancellation-safe.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Returns once the work was asked to end.
    pub async fn requested(&self) {
        // It fails where nobody is left to ask: then the work is being dropped.
        let _ = self.0.clone().wait_for(|asked| *asked).await;
    }

    /// Waits for `duration`, or until the work was asked to end, which it returns.
    pub async fn within(&self, duration: Duration) -> bool {
        tokio::time::timeout(duration, self.requested())
            .await
            .is_ok()
    }

    /// Whether the work was asked to end.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}

/// Runs `work` on this thread until it ends. On the first SIGINT or SIGTERM its [`Stop`] asks it
/// to end; `grace` later it is dropped, and on a second signal the process exits at once.
///
/// # Errors
/// What `work` failed with, or that it did not end within `grace`.
pub fn block_on<T, W>(grace: Duration, work: W) -> Result<T, Failure>
where
    W: AsyncFnOnce(Stop) -> Result<T, Failure>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(SignalError::Runtime)
        .map_err(Failure::running)?;
    let done = runtime.block_on(async {
        let mut signals = Signals::install().map_err(Failure::running)?;
        let (ask, stop) = watch::channel(false);
        let ended = async {
            let name = signals.next().await;
            tracing::info!("{name}: ending; a second one ends at once");
            let _ = ask.send(true);
            tokio::select! {
                _ = signals.next() => exit_at_once(),
                () = tokio::time::sleep(grace) => SignalError::Grace(grace),
            }
        };
        tokio::select! {
            biased;
            done = work(Stop(stop)) => done,
            late = ended => Err(Failure::running(late)),
        }
    });
    // Not waiting for what blocks elsewhere, such as a write that nobody reads.
    runtime.shutdown_background();
    done
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> Result<Self, SignalError> {
        let install = |kind| signal(kind).map_err(SignalError::Install);
        Ok(Self {
            interrupt: install(SignalKind::interrupt())?,
            terminate: install(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Dropping the work could itself take long, and the operator has asked twice.
fn exit_at_once() -> SignalError {
    let _ = writeln!(
        std::io::stderr(),
        "a second signal: ended at once, work may be unfinished"
    );
    std::process::exit(1)
}

#[derive(Debug, Error)]
enum SignalError {
    #[error("failed to start the event loop: {0}")]
    Runtime(#[source] std::io::Error),
    #[error("failed to listen for SIGINT and SIGTERM: {0}")]
    Install(#[source] std::io::Error),
    #[error("asked to end, and not done after {0:?}: ended all the same, work may be unfinished")]
    Grace(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// A signal reaches every listener in the process, so that these tests take turns.
    fn turn() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        TURN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[test]
    fn work_that_ends_by_itself_gives_its_result() {
        let _turn = turn();
        let done = block_on(Duration::ZERO, async |stop| {
            assert!(!stop.is_requested());
            Ok(7)
        });
        assert!(matches!(done, Ok(7)));
    }

    fn terminate_myself() {
        use rustix::process::{Signal, getpid, kill_process};
        kill_process(getpid(), Signal::TERM).unwrap();
    }

    #[test]
    fn a_signal_asks_the_work_to_end_and_its_end_is_the_result() {
        let _turn = turn();
        let done = block_on(Duration::from_secs(600), async |stop| {
            terminate_myself();
            stop.requested().await;
            assert!(stop.is_requested() && stop.within(Duration::from_secs(600)).await);
            Ok("clean")
        });
        assert!(matches!(done, Ok("clean")));
    }

    #[test]
    fn work_that_does_not_end_within_its_grace_is_given_up() {
        let _turn = turn();
        let done: Result<(), _> = block_on(Duration::from_millis(1), async |_| {
            terminate_myself();
            std::future::pending().await
        });
        assert!(done.unwrap_err().to_string().contains("not done after 1ms"));
    }

    #[test]
    fn what_blocks_elsewhere_does_not_hold_up_the_end() {
        let _turn = turn();
        let (_held, never) = std::sync::mpsc::channel::<()>();
        let done = block_on(Duration::ZERO, async |_| {
            drop(tokio::task::spawn_blocking(move || never.recv()));
            Ok(())
        });
        assert!(done.is_ok());
    }

    #[test]
    fn a_failure_of_the_work_is_handed_on() {
        let _turn = turn();
        let done: Result<(), _> = block_on(Duration::ZERO, async |_| Err(Failure::StdoutClosed));
        assert!(matches!(done, Err(Failure::StdoutClosed)));
    }
}
