//! The handles of transactions: a producer that only sends inside of one, and the open one.

use crate::client::unexpected;
use crate::consumer::Consumer;
use crate::handle::Handle;
use crate::producer::{Producer, ProducerRecord, SendError};
use std::sync::OnceLock;
use std::time::Duration;
use tidewatch_client_core::call::{
    GroupMetadata, OffsetAndMetadata, Outcome, TopicPartition, TransactionEnd,
};
use tidewatch_client_core::client::Command;
use tidewatch_client_core::error::Error;
use tidewatch_client_core::options::ProducerOptions;
use tidewatch_client_core::producer::delivery::Delivery;
use tidewatch_client_core::transaction::Command as TransactionCommand;

/// Sends records in transactions, one after another. While it lives, every other producer of its
/// transactional id is fenced; one that comes later fences this one, whose every call then ends
/// with [`Error::Fenced`] at once.
///
/// ```no_run
/// # async fn transfer(client: tidewatch_client::Client) -> Result<(), tidewatch_client::Error> {
/// use tidewatch_client::ProducerRecord;
///
/// let mut producer = client.transactional_producer_as("transfer-1").await?;
/// let transaction = producer.begin().await?;
/// for account in ["from", "to"] {
///     // A send that fails makes the commit refuse; dropped before it, the transaction aborts.
///     let _ = transaction.send(ProducerRecord::to("moves").key(account)).await;
/// }
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TransactionalProducer {
    producer: Producer,
    /// The number of the last transaction begun.
    last: u64,
}

impl TransactionalProducer {
    pub(crate) async fn open(handle: Handle, options: ProducerOptions) -> Result<Self, Error> {
        let producer = Producer::open_transactional(handle, options).await?;
        let opened = Self { producer, last: 0 };
        opened
            .ask("initialise transactions", TransactionCommand::Init)
            .await?;
        Ok(opened)
    }

    /// Opens a transaction, once the one before has ended.
    ///
    /// Cancellation-safe: dropped before it is ready, it leaves no transaction open.
    ///
    /// # Errors
    /// [`Error::Fenced`]; [`Error::TimedOut`] where the end of the one before could not be learnt
    /// within `max.block.ms`.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        self.last += 1;
        let transaction = Transaction {
            producer: self,
            refused: OnceLock::new(),
        };
        let begin = TransactionCommand::Begin(transaction.number());
        transaction
            .producer
            .ask("begin a transaction", begin)
            .await?;
        Ok(transaction)
    }

    /// How the last transaction ended, once that is known: for a commit that was given up before it
    /// had an answer. `None` before the first.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub async fn last_end(&mut self) -> Result<Option<TransactionEnd>, Error> {
        let doing = "learn how the last transaction ended";
        match self.ask(doing, TransactionCommand::Settle).await? {
            Outcome::Transaction(end) => Ok(end),
            other => Err(unexpected(doing, &other)),
        }
    }

    /// Waits until no end of a transaction is under way, at most for `timeout`. Dropping the
    /// producer does the same in the background, as long as the client lives.
    ///
    /// # Errors
    /// [`Error::Fenced`], or the end was not learnt in time: the brokers abort what is open after
    /// `transaction.timeout.ms`.
    pub async fn close(mut self, timeout: Duration) -> Result<(), Error> {
        match tokio::time::timeout(timeout, self.last_end()).await {
            Ok(end) => end.map(drop),
            Err(_) => Err(Error::TimedOut {
                doing: "close the transactional producer".to_owned(),
                limit_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
                why: "the end of its last transaction is not known".to_owned(),
            }),
        }
    }

    async fn ask(&self, doing: &str, command: TransactionCommand) -> Result<Outcome, Error> {
        let command = Command::Transaction(self.producer.number(), command);
        self.producer.handle().request(doing, command).await
    }
}

/// An open transaction. Dropped before [`commit`](Self::commit) has asked for its end, it is
/// aborted in the background, and the next [`begin`](TransactionalProducer::begin) waits for that.
#[derive(Debug)]
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction<'p> {
    producer: &'p TransactionalProducer,
    /// The first record that was not taken.
    refused: OnceLock<SendError>,
}

impl Transaction<'_> {
    /// Takes a record into the transaction; otherwise as [`Producer::send`]. A record that is not
    /// taken, or not delivered later, makes the commit refuse.
    ///
    /// Cancellation-safe: a future dropped before it is ready has sent nothing.
    ///
    /// # Errors
    /// The record can never be taken, or not in time.
    pub async fn send(&self, record: ProducerRecord<'_>) -> Result<Delivery, SendError> {
        let sent = self.producer.producer.send(record).await;
        if let Err(error) = &sent {
            // The first one is told.
            let _ = self.refused.set(error.clone());
        }
        sent
    }

    /// Takes a record at once or not at all. To be refused for now
    /// ([`Refused::may_pass`](crate::Refused::may_pass)) fails nothing.
    ///
    /// # Errors
    /// As [`Producer::try_send`].
    pub fn try_send(&self, record: &ProducerRecord<'_>) -> Result<Delivery, SendError> {
        let sent = self.producer.producer.try_send(record);
        if let Err(error) = sent.as_ref()
            && !error.why.may_pass()
        {
            let _ = self.refused.set(error.clone());
        }
        sent
    }

    /// Sends everything now, without linger, and returns when all of it has an outcome.
    ///
    /// # Errors
    /// The client was closed.
    pub async fn flush(&self) -> Result<(), Error> {
        self.producer.producer.flush().await
    }

    /// Commits offsets of a consumer with the transaction: each is the next one to read. The
    /// group's coordinator refuses them where `group` is not its present generation.
    ///
    /// # Errors
    /// From then on the transaction can only be aborted.
    pub async fn send_offsets(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
        group: &GroupMetadata,
    ) -> Result<(), Error> {
        let command = TransactionCommand::SendOffsets {
            transaction: self.number(),
            offsets: offsets.into_iter().collect(),
            group: group.clone(),
        };
        self.producer
            .ask("send offsets to a transaction", command)
            .await
            .map(drop)
    }

    /// Commits with the transaction everything that `consumer` has delivered: its positions, in the
    /// name of the member that its reader knows it to be. Exactly once from topic to topic is then:
    ///
    /// ```no_run
    /// use tidewatch_client::{
    ///     Consumer, Error, Event, Fetched, ProducerRecord, TransactionalProducer,
    /// };
    ///
    /// # async fn run(mut consumer: Consumer, mut producer: TransactionalProducer) -> Result<(), Error> {
    /// loop {
    ///     let Event::Records(records) = consumer.next().await? else {
    ///         // Nothing is open here: partitions that the group takes are given up at once.
    ///         continue;
    ///     };
    ///     match transfer(&consumer, &mut producer, records).await {
    ///         Err(error) if error.is_fenced() => return Err(error),
    ///         // The transaction is aborted; what it was made of is read again.
    ///         Err(_) => consumer.rewind().await?,
    ///         Ok(()) => {}
    ///     }
    /// }
    /// # }
    ///
    /// async fn transfer(
    ///     consumer: &Consumer,
    ///     producer: &mut TransactionalProducer,
    ///     records: Fetched,
    /// ) -> Result<(), Error> {
    ///     let transaction = producer.begin().await?;
    ///     for record in records {
    ///         let value = record?.value.unwrap_or_default().to_ascii_uppercase();
    ///         // A send that fails makes the commit refuse.
    ///         let _ = transaction.send(ProducerRecord::to("loud").value(&value)).await;
    ///     }
    ///     transaction.send_positions(consumer).await?;
    ///     transaction.commit().await
    /// }
    /// ```
    ///
    /// The consumer needs `enable.auto.commit=false`, and `isolation.level=read_committed` so that
    /// who reads on waits for the end of the transaction before.
    ///
    /// # Errors
    /// A rebalance has taken partitions of which the transaction was made, or has left the member in
    /// an earlier generation; `enable.auto.commit` is on; as [`send_offsets`](Self::send_offsets).
    /// The transaction can only be aborted, and the consumer
    /// [rewound](crate::Consumer::rewind).
    pub async fn send_positions(&self, consumer: &Consumer) -> Result<(), Error> {
        let progress = consumer.take_progress()?;
        self.send_offsets(progress.positions, &progress.member)
            .await
    }

    /// Commits: everything that was sent stands, or nothing of it does.
    ///
    /// Dropping the future aborts, unless the coordinator was asked already; then only it knows,
    /// and [`TransactionalProducer::last_end`] tells.
    ///
    /// # Errors
    /// [`Error::MustAbort`]: a record or an offset failed, nothing is committed. [`Error::Fenced`].
    /// [`Error::TimedOut`] after `max.block.ms`: its words, and `last_end`, say whether the outcome
    /// is open.
    pub async fn commit(self) -> Result<(), Error> {
        let doing = "commit a transaction";
        if let Some(refused) = self.refused.get() {
            return Err(Error::MustAbort {
                doing: doing.to_owned(),
                why: refused.to_string(),
            });
        }
        let commit = TransactionCommand::Commit(self.number());
        self.producer.ask(doing, commit).await.map(drop)
    }

    /// Aborts: nothing of it is seen by readers of committed data. What was not sent yet fails.
    ///
    /// # Errors
    /// [`Error::TimedOut`] after `max.block.ms`; it is aborted all the same.
    pub async fn abort(self) -> Result<(), Error> {
        let abort = TransactionCommand::Abort(self.number());
        self.producer
            .ask("abort a transaction", abort)
            .await
            .map(drop)
    }

    fn number(&self) -> u64 {
        self.producer.last
    }
}

impl Drop for Transaction<'_> {
    /// What has ended is left as it ended.
    fn drop(&mut self) {
        let producer = &self.producer.producer;
        let abort = TransactionCommand::Abort(self.number());
        producer
            .handle()
            .tell(Command::Transaction(producer.number(), abort));
    }
}
