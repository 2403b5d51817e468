//! The consumer's handle: partitions assigned by hand or by a group, read in turns, offsets committed.

mod stream;

pub use stream::{ConsumerRecord, Events, Records};

use crate::client::Client;
use crate::handle::Handle;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tidewatch_client_core::call::{GroupMetadata, OffsetAndMetadata, Outcome, TopicPartition};
use tidewatch_client_core::client::Command;
use tidewatch_client_core::error::Error;
use tidewatch_client_core::fetch::inbox::{Event, Inbox, PartitionStatus, Progress};
use tidewatch_client_core::fetch::{self, OffsetSpec, Start};
use tidewatch_client_core::group;
use tidewatch_client_core::options::ConsumerOptions;

/// Reads partitions that its user assigns, or as a member of a group those that the group does.
///
/// As a member:
///
/// ```no_run
/// use tidewatch_client::{Client, Event, Rebalance};
/// # async fn read(client: Client) -> Result<(), tidewatch_client::Error> {
/// let mut consumer = client.consumer().await?;
/// consumer.subscribe(["cpu-monitor"]).await?;
/// loop {
///     match consumer.next().await? {
///         Event::Records(records) => {
///             for record in records {
///                 println!("{:?}", record?.value);
///             }
///         }
///         // The group waits until `revoking` is dropped: what was done so far can be committed.
///         Event::Rebalance(Rebalance::Revoking(revoking)) => {
///             consumer.commit_positions().await?;
///             drop(revoking);
///         }
///         Event::Rebalance(_) | Event::CaughtUp(_) => {}
///     }
/// }
/// # }
/// ```
///
/// By hand:
///
/// ```no_run
/// use tidewatch_client::{Client, Event, OffsetAndMetadata, StartAt, TopicPartition};
/// # async fn read(client: Client) -> Result<(), tidewatch_client::Error> {
/// let mut consumer = client.consumer().await?;
/// consumer.assign([("cpu-monitor", 0, StartAt::Committed), ("cpu-monitor", 1, StartAt::Earliest)]).await?;
/// loop {
///     match consumer.next().await? {
///         Event::Records(mut records) => {
///             while let Some(record) = records.next_ref() {
///                 let record = record?;
///                 println!("{}: {:?} {:?}", record.offset, record.key, record.value);
///             }
///         }
///         Event::CaughtUp(partition) => println!("{partition}: nothing more for now"),
///         Event::Rebalance(_) => {} // only after `subscribe`
///     }
///     consumer.commit_positions().await?;
/// }
/// # }
/// ```
///
/// The position of a partition moves as its records are taken out of [`Fetched`](crate::Fetched).
/// Every future of a consumer can be dropped at any moment: [`next`](Self::next) then loses nothing;
/// a request such as a commit may still happen.
#[derive(Debug)]
pub struct Consumer {
    handle: Handle,
    inbox: Arc<Inbox>,
    number: u32,
}

/// Where to begin to read a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At the log's start.
    Earliest,
    /// At the log's end; at the last stable offset under `read_committed`.
    Latest,
    /// At the first record that is not older than this, milliseconds since the epoch; at the end
    /// where there is none.
    Timestamp(i64),
    /// At this offset.
    Offset(i64),
    /// Where the group has committed; where it has not, as `auto.offset.reset` says.
    Committed,
}

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetAndTimestamp {
    /// Its offset.
    pub offset: i64,
    /// Its time, milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The epoch of the leader that appended it, -1 where unknown.
    pub leader_epoch: i32,
}

impl Client {
    /// A consumer with the client's options.
    ///
    /// # Errors
    /// The client was closed.
    pub async fn consumer(&self) -> Result<Consumer, Error> {
        let options = self.handle.options().consumer.clone();
        self.consumer_with(options).await
    }

    /// A consumer with options of its own.
    ///
    /// # Errors
    /// The client was closed.
    pub async fn consumer_with(&self, options: ConsumerOptions) -> Result<Consumer, Error> {
        let handle = self.handle.clone();
        let inbox = Inbox::new(&options, handle.waker());
        let number = handle.open_consumer(options, Arc::clone(&inbox)).await?;
        Ok(Consumer {
            handle,
            inbox,
            number,
        })
    }
}

impl Consumer {
    /// Becomes a member of the group that reads these topics together, or changes which topics. The
    /// group assigns partitions, and takes them again: [`Event::Rebalance`] tells. They are read
    /// from where the group has committed, else as `auto.offset.reset` says.
    ///
    /// Heartbeats go on while the reader is busy. If it does not come for more within
    /// `max.poll.interval.ms`, the consumer leaves the group until it does.
    ///
    /// With `enable.auto.commit`, which is the default, what was read before the reader came for
    /// more is committed every `auto.commit.interval.ms` and before partitions are given up.
    ///
    /// # Errors
    /// No `group.id`, no topic, assignors that do not fit together. What the group refuses later
    /// comes out of [`next`](Self::next).
    pub async fn subscribe<T: Into<Arc<str>>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<(), Error> {
        let topics = topics.into_iter().map(Into::into).collect();
        let command = group::Command::Subscribe(topics);
        self.group("subscribe", command).await.map(|_| ())
    }

    /// Gives all partitions of the group up and leaves it, at once for the others. A static member
    /// (`group.instance.id`) keeps its place until its session is over.
    ///
    /// # Errors
    /// The client was closed.
    pub async fn unsubscribe(&self) -> Result<(), Error> {
        self.inbox.settle();
        let left = self.group("unsubscribe", group::Command::Unsubscribe).await;
        self.inbox.forget_member();
        left.map(|_| ())
    }

    /// The member as of the last [`Event::Rebalance`] that [`next`](Self::next) gave, by value:
    /// transactions that commit its offsets carry it. The group may have replaced it meanwhile; its
    /// coordinator then refuses the offsets, and rightly (KIP-447). Of generation -1 before the
    /// first, and without a subscription.
    ///
    /// [`Transaction::send_positions`](crate::Transaction::send_positions) takes it together with
    /// the positions.
    pub fn group_metadata(&self) -> GroupMetadata {
        self.inbox.member()
    }

    /// Reads every partition on from where the group has committed; from where it was begun to be
    /// read, while the group has committed nothing of it. For after a transaction that was made of
    /// this consumer's records has failed: whatever its end, they come again if it was not committed
    /// and do not if it was. Under `isolation.level` `read_committed` the look-up waits until that
    /// end is decided; it goes on in the background, and [`next`](Self::next) waits for it.
    ///
    /// Nothing from before is delivered once this has returned. What the group gives to another
    /// member meanwhile is that member's.
    ///
    /// Cancellation-safe: once polled, it happens.
    ///
    /// # Errors
    /// No `group.id`; the client was closed.
    pub async fn rewind(&mut self) -> Result<(), Error> {
        self.fetch("rewind", fetch::Command::Rewind).await
    }

    /// For a transaction: how far the reader is, and as whom.
    pub(crate) fn take_progress(&self) -> Result<Progress, Error> {
        self.inbox.take_progress()
    }

    /// Reads exactly these partitions from now on, each from where it says. Positions are looked up
    /// in the background; only what the group has committed is waited for.
    ///
    /// # Errors
    /// A negative offset or time; committed offsets that could not be had.
    pub async fn assign<T: Into<Arc<str>>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32, StartAt)>,
    ) -> Result<(), Error> {
        let starts = self.starts(partitions).await?;
        self.fetch("assign partitions", fetch::Command::Assign(starts))
            .await
    }

    /// Reads these as well; one that is assigned already begins anew.
    ///
    /// # Errors
    /// As [`assign`](Self::assign).
    pub async fn assign_more<T: Into<Arc<str>>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32, StartAt)>,
    ) -> Result<(), Error> {
        let starts = self.starts(partitions).await?;
        self.fetch("assign partitions", fetch::Command::AssignMore(starts))
            .await
    }

    /// Reads these no longer. Nothing of them is delivered once this has returned.
    ///
    /// # Errors
    /// The client was closed.
    pub async fn unassign(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let command = fetch::Command::Unassign(partitions.to_vec());
        self.fetch("unassign partitions", command).await
    }

    /// The next records, in turns among the partitions; or news that one is read to its end.
    /// Brokers that cannot be reached are waited for: [`PartitionStatus::failure`] tells.
    ///
    /// # Errors
    /// One partition's failure that waiting does not cure, such as a topic that does not exist or
    /// may not be read. The others go on; so does that partition after a backoff, except where it
    /// has no position (`auto.offset.reset` none) and needs a [`seek`](Self::seek).
    /// [`Error::Closed`] when the client is.
    pub async fn next(&mut self) -> Result<Event, Error> {
        // However long this takes, the reader is not late.
        let _waiting = self.inbox.pulse().wait();
        poll_fn(|context| self.inbox.poll_event(context)).await
    }

    /// As [`next`](Self::next), but `None` where it would wait.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<Option<Event>, Error> {
        let mut context = Context::from_waker(Waker::noop());
        match self.inbox.poll_event(&mut context) {
            Poll::Ready(event) => event.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// What [`next`](Self::next) gives, as a stream; it ends when the client is closed.
    pub fn events(&mut self) -> Events<'_> {
        Events::new(self)
    }

    /// Every record of every partition, as a stream of copies; it ends when the client is closed.
    /// An error concerns one partition, the others go on. Partitions that a group takes are given up
    /// at once: who wants to commit before reads [`events`](Self::events). Dropping the stream loses
    /// nothing.
    pub fn records(&mut self) -> Records<'_> {
        Records::new(self)
    }

    /// Reads on elsewhere. Nothing from before is delivered once this has returned.
    ///
    /// # Errors
    /// The partition is not assigned, the offset or time is negative; committed offsets that could
    /// not be had.
    pub async fn seek(&self, partition: &TopicPartition, start: StartAt) -> Result<(), Error> {
        let wanted = (Arc::clone(&partition.topic), partition.partition, start);
        let starts = self.starts([wanted]).await?;
        self.fetch("seek", fetch::Command::Seek(starts)).await
    }

    /// Delivers nothing of these, nor fetches more, before they are resumed. What was fetched is
    /// kept.
    ///
    /// # Errors
    /// A partition that is not assigned.
    pub async fn pause(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let command = fetch::Command::Pause(partitions.to_vec());
        self.fetch("pause", command).await
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// A partition that is not assigned.
    pub async fn resume(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let command = fetch::Command::Resume(partitions.to_vec());
        self.fetch("resume", command).await
    }

    /// How a partition fares: position, end, lag, since when it is caught up, the last failure.
    /// Asks no broker. `None` where it is not assigned.
    pub fn status(&self, partition: &TopicPartition) -> Option<PartitionStatus> {
        self.inbox.status(partition)
    }

    /// How every assigned partition fares.
    pub fn statuses(&self) -> Vec<(TopicPartition, PartitionStatus)> {
        self.inbox.statuses()
    }

    /// The next offset that will be delivered; `None` where it is not known (yet).
    pub fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.status(partition)?.position
    }

    /// Offsets between the position and the end as the last fetch saw it; `None` before there was
    /// one.
    pub fn lag(&self, partition: &TopicPartition) -> Option<i64> {
        self.status(partition)?.lag()
    }

    /// Commits these offsets to the group; each is the next one to read. Commits of one consumer
    /// reach the group in the order in which they were asked for.
    ///
    /// # Errors
    /// No `group.id`; the group's refusal; no coordinator within `default.api.timeout.ms`.
    pub async fn commit(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
    ) -> Result<(), Error> {
        let command = group::Command::Commit(offsets.into_iter().collect());
        self.group("commit", command).await.map(|_| ())
    }

    /// Commits the position of every partition: everything that was delivered.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn commit_positions(&self) -> Result<(), Error> {
        let positions = self
            .statuses()
            .into_iter()
            .filter_map(|(partition, status)| {
                let offset = OffsetAndMetadata::new(status.position?, status.leader_epoch);
                Some((partition, offset))
            });
        self.commit(positions).await
    }

    /// What the group has committed of these, in their order; `None` where it has nothing. Under
    /// `read_committed` it waits for transactions that are about to commit.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Option<OffsetAndMetadata>)>, Error> {
        let command = group::Command::Committed(partitions.to_vec());
        let offsets = self.group("look up committed offsets", command).await?;
        let known = |offset: OffsetAndMetadata| (offset.offset >= 0).then_some(offset);
        Ok(offsets
            .into_iter()
            .map(|(partition, offset)| (partition, known(offset)))
            .collect())
    }

    /// The first offset of each log, in the order asked. The partitions need not be assigned.
    ///
    /// # Errors
    /// A partition that does not exist or may not be read; no answer within
    /// `default.api.timeout.ms`.
    pub async fn beginning_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, i64)>, Error> {
        self.offsets_at(partitions, OffsetSpec::Earliest).await
    }

    /// The end of each log, in the order asked: the offset after the last record that this consumer
    /// can read now; the last stable offset under `read_committed`.
    ///
    /// # Errors
    /// As [`beginning_offsets`](Self::beginning_offsets).
    pub async fn end_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, i64)>, Error> {
        self.offsets_at(partitions, OffsetSpec::Latest).await
    }

    /// For each partition the first record that is not older than the time given, milliseconds since
    /// the epoch; `None` where all are.
    ///
    /// # Errors
    /// As [`beginning_offsets`](Self::beginning_offsets).
    pub async fn offsets_for_times(
        &self,
        times: &[(TopicPartition, i64)],
    ) -> Result<Vec<(TopicPartition, Option<OffsetAndTimestamp>)>, Error> {
        let wanted = times
            .iter()
            .map(|(partition, ms)| (partition.clone(), OffsetSpec::Timestamp(*ms)));
        let offsets = self.list_offsets(wanted.collect()).await?;
        let found = |offset: OffsetAndMetadata| {
            (offset.offset >= 0).then_some(OffsetAndTimestamp {
                offset: offset.offset,
                timestamp_ms: offset.timestamp_ms,
                leader_epoch: offset.leader_epoch,
            })
        };
        Ok(offsets
            .into_iter()
            .map(|(partition, offset)| (partition, found(offset)))
            .collect())
    }

    /// Ends the consumer: what was read is taken as done, committed if `enable.auto.commit` says so,
    /// and the group is left, as [`unsubscribe`](Self::unsubscribe) does. A consumer that is only
    /// dropped commits nothing; it leaves its group in the background, if the program goes on for so
    /// long and brokers can be reached within five seconds.
    ///
    /// # Errors
    /// The client was closed.
    pub async fn close(self) -> Result<(), Error> {
        self.unsubscribe().await
    }

    async fn offsets_at(
        &self,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
    ) -> Result<Vec<(TopicPartition, i64)>, Error> {
        let wanted = partitions.iter().map(|partition| (partition.clone(), spec));
        let offsets = self.list_offsets(wanted.collect()).await?;
        Ok(offsets
            .into_iter()
            .map(|(partition, found)| (partition, found.offset))
            .collect())
    }

    async fn list_offsets(
        &self,
        wanted: Vec<(TopicPartition, OffsetSpec)>,
    ) -> Result<Vec<(TopicPartition, OffsetAndMetadata)>, Error> {
        let command = Command::Fetch(self.number, fetch::Command::ListOffsets(wanted));
        match self.handle.request("look up offsets", command).await? {
            Outcome::Offsets(offsets) => Ok(offsets),
            _ => Ok(Vec::new()),
        }
    }

    /// Looks up what is committed where that is where to begin.
    async fn starts<T: Into<Arc<str>>>(
        &self,
        partitions: impl IntoIterator<Item = (T, i32, StartAt)>,
    ) -> Result<Vec<(TopicPartition, Start)>, Error> {
        let partitions: Vec<(TopicPartition, StartAt)> = partitions
            .into_iter()
            .map(|(topic, partition, start)| (TopicPartition::new(topic, partition), start))
            .collect();
        let of_group = partitions
            .iter()
            .filter(|(_, start)| *start == StartAt::Committed)
            .map(|(partition, _)| partition.clone());
        let of_group: Vec<_> = of_group.collect();
        let committed = match of_group.is_empty() {
            true => Vec::new(),
            false => self.committed(&of_group).await?,
        };
        let mut committed = committed.into_iter();
        let starts = partitions.into_iter().map(|(partition, start)| {
            let start = match start {
                StartAt::Earliest => Start::Earliest,
                StartAt::Latest => Start::Latest,
                StartAt::Timestamp(ms) => Start::Timestamp(ms),
                StartAt::Offset(offset) => Start::Offset(offset),
                // Answers come in the order asked.
                StartAt::Committed => match committed.next() {
                    Some((_, Some(found))) => Start::Committed {
                        offset: found.offset,
                        leader_epoch: found.leader_epoch,
                    },
                    _ => Start::Reset,
                },
            };
            (partition, start)
        });
        Ok(starts.collect())
    }

    async fn fetch(&self, doing: &str, command: fetch::Command) -> Result<(), Error> {
        let command = Command::Fetch(self.number, command);
        self.handle.request(doing, command).await.map(|_| ())
    }

    async fn group(
        &self,
        doing: &str,
        command: group::Command,
    ) -> Result<Vec<(TopicPartition, OffsetAndMetadata)>, Error> {
        let command = Command::Group(self.number, command);
        match self.handle.request(doing, command).await? {
            Outcome::Offsets(offsets) => Ok(offsets),
            _ => Ok(Vec::new()),
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.inbox.close();
        self.handle.close_consumer(self.number);
    }
}
