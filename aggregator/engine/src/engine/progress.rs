//! What to commit, and how to go on from it.
//!
//! An engine keeps its state in memory. After a restart another engine reads the partition again
//! from the committed offset S and gets the text committed beside it. Let C be the position at the
//! commit. What records below C led to was handed out; whatever follows must be exactly what the
//! first engine would have handed out from C on.
//!
//! How far each window is closed cannot be written down: hosts have clocks of their own, there may
//! be a hundred thousand, and a broker takes 4096 bytes. But it follows from the records. So the
//! new engine *repeats* S..C and keeps what it hands out to itself. What has to be shown is that at
//! C it has the same open windows with the same contents, and judges every later record alike.
//!
//! **Open windows.** S is at or before the first record of every window open at C.
//!
//! **Host clocks.** A host's newest sample lies in a window that ends after the host's clock, so
//! that window is open at C and the sample is read again, unless silence closed it. Until it comes
//! up the new engine may count samples that were late, into windows that the clock then closes
//! before C; they are kept to itself. After it both clocks agree.
//!
//! **Silence** closes windows ahead of the host's clock, and a host that it cut short would open
//! them again. It is a function of the partition's quiet clock and of when the host was last heard.
//! So for each such host either S is at or before the first record of those windows, and silence
//! closes them again at the same record; or the text holds the host's newest time, how far it was
//! closed and when it was heard. Applied from S on instead of C on that changes no window that is
//! open at C. Hosts that would keep S back furthest are written down first, as many as fit. A host
//! stays cut short until its own clock has passed or it is forgotten: S is never back by more than
//! `forget-after` plus the open windows, however many hosts fall silent at once.
//!
//! **Forgotten hosts** are unknown to both engines. One that goes on sending while it is forgotten,
//! because a clock set back made all it sends late, is noted with where it began anew while S is
//! before that.
//!
//! **The partition clock** depends on what it shows, how far it moved and the newest times of three
//! hosts: every other host's time lies behind. A checkpoint notes these at an offset, and S is the
//! offset of a checkpoint, taken while nothing was held. Every readable sample votes, late or not, and
//! what is in the future depends on this clock and on samples held alone; so neither depends on
//! hosts of which the new engine does not know yet.
//!
//! **Decisions by wall clock** between S and C are written down with their offsets and repeated.
//! Where they do not fit no further one is made.
//!
//! Exact after a restart are the bytes of final results, the rejects and which samples are late.
//! Not exact: a sample that is repeated from before S is counted as late instead of as a duplicate
//! (its window is closed), and a sequence that is used twice for different times is not recognised
//! across S. The running mean begins anew. What was handed out after the last commit is handed out
//! again, byte for byte; decisions by wall clock that were not committed may fall at other offsets.

use super::Engine;
use crate::host::{Host, HostNumber, NEVER};
use crate::metadata::{METADATA_MAX_BYTES, Metadata, NotedHost};
use crate::partition_clock::PartitionClock;
use crate::sip::HashSeed;
use crate::{Settings, StartError};
use std::collections::VecDeque;
use std::sync::Arc;

/// Checkpoints kept; beyond, every second one goes.
const CHECKPOINTS_MAX: usize = 64;

/// Records after which there is a checkpoint even if the clock stands still.
const RECORDS_APART: i64 = 4096;

/// What to commit for the partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The offset to read from after a restart.
    pub offset: i64,
    /// The text to commit beside it, at most 4096 bytes: the default of `offset.metadata.max.bytes`.
    pub metadata: String,
}

/// The partition clock at an offset, with nothing held.
#[derive(Debug, Clone)]
struct Checkpoint {
    offset: i64,
    clock: PartitionClock<Arc<str>>,
}

/// Where an engine could start again, by offset; never empty.
#[derive(Debug)]
pub(super) struct Checkpoints {
    list: VecDeque<Checkpoint>,
    next_ms: i64,
    next_offset: i64,
}

impl Checkpoints {
    pub(super) fn starting_at(offset: i64, clock: PartitionClock<Arc<str>>) -> Self {
        Self {
            list: VecDeque::from([Checkpoint { offset, clock }]),
            next_ms: NEVER,
            next_offset: offset,
        }
    }

    fn push(&mut self, checkpoint: Checkpoint, apart_ms: i64) {
        self.next_ms = checkpoint
            .clock
            .now_ms
            .map_or(NEVER, |now_ms| now_ms.saturating_add(apart_ms));
        self.next_offset = checkpoint.offset.saturating_add(RECORDS_APART);
        self.list
            .pop_back_if(|last| last.offset >= checkpoint.offset);
        if self.list.len() >= CHECKPOINTS_MAX {
            let mut keep = false;
            self.list.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.list.push_back(checkpoint);
    }

    /// The last one at or before an offset.
    fn at_or_before(&self, offset: i64) -> Option<&Checkpoint> {
        self.list
            .iter()
            .rfind(|checkpoint| checkpoint.offset <= offset)
    }

    fn forget_before(&mut self, offset: i64) {
        self.list.retain(|checkpoint| checkpoint.offset >= offset);
    }
}

impl Host {
    fn note(&self) -> NotedHost {
        NotedHost {
            name: Arc::clone(&self.name),
            newest_ms: self.newest_ms,
            closed_ms: self.closed_ms,
            heard_ms: self.heard_ms,
            heard_offset: self.heard_offset,
            begin_offset: Some(self.begin_offset).filter(|begin| *begin != NEVER),
        }
    }
}

impl Engine {
    /// An engine that goes on where another committed its [`Progress`]. An empty text, as tools
    /// leave it that set offsets, is a start at that offset with nothing known.
    pub fn resume(
        settings: Settings,
        seed: HashSeed,
        offset: i64,
        metadata: &str,
    ) -> Result<Self, StartError> {
        let mut engine = Self::new(settings, seed, offset)?;
        if metadata.is_empty() {
            return Ok(engine);
        }
        let metadata = Metadata::parse(metadata, &engine.settings)?;
        engine.emit_from = metadata.emit_from;
        engine.schedule = crate::schedule::Schedule::starting_at(metadata.clock.quiet_ms);
        engine.clock.quiet_ms = metadata.clock.quiet_ms;
        let numbered = metadata.clock.map(|name| engine.host_number(name));
        engine.clock = numbered.unwrap_or_default();
        engine.checkpoints = Checkpoints::starting_at(offset, metadata.clock);
        engine.ahead = metadata.decisions.into();
        for noted in &metadata.noted {
            engine.restore(noted);
        }
        Ok(engine)
    }

    fn restore(&mut self, noted: &NotedHost) {
        let Some(number) = self.host_number(&noted.name) else {
            return;
        };
        let Some(host) = self.hosts.get_mut(number) else {
            return;
        };
        host.newest_ms = noted.newest_ms;
        host.closed_ms = noted.closed_ms;
        host.heard_ms = noted.heard_ms;
        host.heard_offset = noted.heard_offset;
        host.begin_offset = noted.begin_offset.unwrap_or(NEVER);
        let forget_ms = noted.heard_ms.saturating_add(self.settings.forget_after_ms);
        host.due_step = self.schedule.step_of(forget_ms);
        self.schedule.add(number, host.due_step);
    }

    /// What to commit now; `None` while records are repeated that an earlier engine had read, or in
    /// the rare case that what must be written down does not fit: then the last commit holds.
    pub fn progress(&mut self) -> Option<Progress> {
        if self.position < self.emit_from || !self.ahead.is_empty() {
            return None;
        }
        self.replace_checkpoint();
        let open = self
            .hosts
            .iter()
            .flat_map(|(_, _, panes)| panes)
            .filter(|pane| pane.is_open());
        let first_open = open
            .map(|pane| pane.first_offset)
            .min()
            .unwrap_or(self.position);
        let needed = first_open.min(self.position);
        let (bound, noted) = self.plan_noted(needed)?;
        let delay_ms = self.settings.delay_ms;
        let Checkpoint { offset, clock } = self.checkpoints.at_or_before(bound)?.clone();
        let outrun = self
            .hosts
            .iter()
            .filter(|(_, host, _)| host.outruns(offset, delay_ms));
        let outrun = outrun.count();
        let noted: Vec<NotedHost> = noted
            .into_iter()
            .filter(|host| host.outruns(offset, delay_ms))
            .map(|host| host.note())
            .collect();
        if noted.len() < outrun {
            return None;
        }
        self.checkpoints.forget_before(offset);
        self.decisions.retain(|decision| decision.at > offset);
        let metadata = Metadata {
            fingerprint: self.settings.fingerprint(),
            emit_from: self.position,
            clock,
            decisions: self.decisions.clone(),
            noted,
        };
        let metadata = metadata.encode();
        (metadata.len() <= METADATA_MAX_BYTES).then_some(Progress { offset, metadata })
    }

    /// The hosts to note, as many as fit of those that would keep the offset back furthest; and how
    /// far back the others keep it. `None` where one that must be noted does not fit.
    fn plan_noted(&self, needed: i64) -> Option<(i64, Vec<&Host>)> {
        let delay_ms = self.settings.delay_ms;
        let newest = self.checkpoints.at_or_before(needed)?;
        let hosts = self.hosts.iter().map(|(_, host, _)| host);
        let mut hosts: Vec<(i64, &Host)> = hosts
            .filter(|host| host.outruns(newest.offset, delay_ms))
            .map(|host| {
                let must = host.begin_offset > newest.offset;
                (if must { NEVER } else { host.reopen_offset }, host)
            })
            .collect();
        hosts.sort_by(|(a_offset, a), (b_offset, b)| (a_offset, &a.name).cmp(&(b_offset, &b.name)));
        let mut room = METADATA_MAX_BYTES.saturating_sub(self.size_without_noted());
        let mut planned = Vec::new();
        for (reopen_offset, host) in hosts {
            let size = host.note().size_bytes(&newest.clock, self.position);
            let Some(left) = room.checked_sub(size) else {
                return (reopen_offset != NEVER).then_some((reopen_offset, planned));
            };
            room = left;
            planned.push(host);
        }
        Some((needed, planned))
    }

    /// The most that everything but the hosts noted can take, whichever checkpoint is chosen.
    fn size_without_noted(&self) -> usize {
        /// The count of hosts, and what their times grow by relative to another checkpoint.
        const SLACK_BYTES: usize = 256;
        let sizes = self.checkpoints.list.iter().map(|checkpoint| {
            let metadata = Metadata {
                fingerprint: self.settings.fingerprint(),
                emit_from: self.position,
                clock: checkpoint.clock.clone(),
                decisions: self.decisions.clone(),
                noted: Vec::new(),
            };
            metadata.encode().len()
        });
        sizes.max().unwrap_or(0) + SLACK_BYTES
    }

    /// Notes where an engine could start again, once a window of the partition clock.
    pub(super) fn note_checkpoint(&mut self, offset: i64) {
        let now_ms = self.clock.now_ms.unwrap_or(NEVER);
        let due = now_ms >= self.checkpoints.next_ms || offset >= self.checkpoints.next_offset;
        if due {
            self.checkpoint_at(offset);
        }
    }

    /// Notes the position, in place of what was noted there before a decision.
    pub(super) fn replace_checkpoint(&mut self) {
        self.checkpoint_at(self.position);
    }

    fn checkpoint_at(&mut self, offset: i64) {
        if self.held.is_empty()
            && let Some(clock) = self.named_clock()
        {
            self.checkpoints
                .push(Checkpoint { offset, clock }, self.settings.size_ms);
        }
    }

    pub(super) fn named_clock(&self) -> Option<PartitionClock<Arc<str>>> {
        let name = |number: &HostNumber| Some(Arc::clone(&self.hosts.get(*number)?.name));
        self.clock.map(name)
    }
}
