//! A process that has a transactional id, and the steps that it asks for.

use crate::simulation::trial::Trial;
use std::sync::Arc;
use tidewatch_client_core::call::RequestId;
use tidewatch_client_core::client::Command;
use tidewatch_client_core::options::ProducerOptions;
use tidewatch_client_core::producer::accumulator::Accumulator;
use tidewatch_client_core::transaction;

/// A transactional producer of a client.
#[derive(Debug)]
pub(super) struct Transactor {
    pub(super) client: usize,
    room: u32,
    pub(super) accumulator: Arc<Accumulator>,
    /// Of the last transaction begun.
    pub(super) transaction: u64,
}

impl Transactor {
    /// On a client that is there.
    pub(super) fn open(trial: &mut Trial, client: usize, id: &str, timeout_ms: u64) -> Self {
        let options = ProducerOptions {
            transaction_timeout_ms: timeout_ms,
            ..trial.producer_options()
        };
        let options = options
            .transactional(id)
            .expect("the options go with transactions");
        let (room, accumulator) = trial.open_producer(client, options);
        Self {
            client,
            room,
            accumulator,
            transaction: 0,
        }
    }

    /// Its producer's number.
    pub(super) fn room(&self) -> u32 {
        self.room
    }

    pub(super) fn ask(&self, trial: &mut Trial, command: transaction::Command) -> RequestId {
        trial.command(self.client, Command::Transaction(self.room, command))
    }

    pub(super) fn init(&self, trial: &mut Trial) -> RequestId {
        self.ask(trial, transaction::Command::Init)
    }

    pub(super) fn begin(&mut self, trial: &mut Trial) -> RequestId {
        self.transaction += 1;
        self.ask(trial, transaction::Command::Begin(self.transaction))
    }

    pub(super) fn commit(&self, trial: &mut Trial) -> RequestId {
        self.ask(trial, transaction::Command::Commit(self.transaction))
    }

    pub(super) fn abort(&self, trial: &mut Trial) -> RequestId {
        self.ask(trial, transaction::Command::Abort(self.transaction))
    }
}
