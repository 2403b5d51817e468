//! One metric's samples on their way: few in the client, in order, and the rest in the backlog,
//! from which the oldest can be dropped.
//!
//! Pure: handing over, delivery and time are passed in.

use crate::backlog::Backlog;
use crate::sampler::Reading;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Samples that the client may hold: about one batch of 16 KiB, so that a long backlog is caught
/// up in full batches, and so few that what cannot be dropped any more takes little room.
pub(crate) const MAX_HANDED_OVER: usize = 128;

/// What became of a sample that was offered.
#[derive(Debug)]
pub(crate) enum Handed<D> {
    /// It is on its way.
    Over(D),
    /// It will never be taken: go on without it.
    Refused,
    /// Not now: it stays the next.
    Later,
}

/// The samples of one metric, oldest first: those handed over, then the backlog.
#[derive(Debug)]
pub(crate) struct Lane<D> {
    handed_over: VecDeque<(Reading, D)>,
    backlog: Backlog,
    /// When something was last delivered, or came to an empty lane; `None` while it is empty.
    waiting_since: Option<Duration>,
}

impl<D: Future + Unpin> Lane<D> {
    pub(crate) fn new(backlog: Backlog) -> Self {
        Self {
            handed_over: VecDeque::new(),
            backlog,
            waiting_since: None,
        }
    }

    /// Takes a sample in, and gives back the oldest that can be dropped where there is no room.
    pub(crate) fn push(&mut self, reading: Reading, now: Duration) -> Option<Reading> {
        self.waiting_since.get_or_insert(now);
        self.backlog.push(reading)
    }

    /// Hands samples over, oldest first, until there are enough under way or one has to wait.
    pub(crate) fn fill(&mut self, mut hand_over: impl FnMut(&Reading) -> Handed<D>) {
        let handed_over = &mut self.handed_over;
        self.backlog.drain(|reading| {
            if handed_over.len() >= MAX_HANDED_OVER {
                return false;
            }
            match hand_over(reading) {
                Handed::Over(delivery) => handed_over.push_back((*reading, delivery)),
                Handed::Refused => {}
                Handed::Later => return false,
            }
            true
        });
        if self.len() == 0 {
            self.waiting_since = None;
        }
    }

    /// The oldest sample's outcome, in the order in which they were handed over.
    pub(crate) fn poll_outcome(
        &mut self,
        context: &mut Context<'_>,
        now: Duration,
    ) -> Poll<(Reading, D::Output)> {
        let Some((reading, delivery)) = self.handed_over.front_mut() else {
            return Poll::Pending;
        };
        let outcome = (*reading, ready!(Pin::new(delivery).poll(context)));
        self.handed_over.pop_front();
        self.waiting_since = (self.len() > 0).then_some(now);
        Poll::Ready(outcome)
    }

    /// How many have no outcome yet.
    pub(crate) fn len(&self) -> usize {
        self.handed_over.len() + self.backlog.len()
    }

    pub(crate) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// For how long nothing was delivered although something waits.
    pub(crate) fn stalled_for(&self, now: Duration) -> Option<Duration> {
        self.waiting_since.map(|since| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::num::NonZeroU32;
    use std::rc::Rc;
    use std::task::Waker;
    use tidewatch_sample::{Metric, Number, RunId, SampleTag};

    /// A broker that takes what is sent while it is up, and acknowledges all of it then.
    #[derive(Debug, Default, Clone)]
    struct Broker(Rc<RefCell<(bool, Vec<u64>)>>);

    impl Broker {
        fn set_up(&self, up: bool) {
            self.0.borrow_mut().0 = up;
        }
    }

    struct Sent(Broker, u64);

    impl Future for Sent {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            let mut broker = self.0.0.borrow_mut();
            if !broker.0 {
                return Poll::Pending;
            }
            broker.1.push(self.1);
            Poll::Ready(())
        }
    }

    fn reading(sequence: u64) -> Reading {
        Reading {
            metric: Metric::Cpu,
            value: Number::new(50.0).unwrap(),
            tick_ms: 0,
            tag: SampleTag {
                run: RunId(1),
                sequence,
                interval_ms: NonZeroU32::new(2_000).unwrap(),
            },
        }
    }

    fn lane(backlog_bytes: usize) -> Lane<Sent> {
        Lane::new(Backlog::new(backlog_bytes, ""))
    }

    fn turn(lane: &mut Lane<Sent>, broker: &Broker) {
        loop {
            lane.fill(|reading| Handed::Over(Sent(broker.clone(), reading.tag.sequence)));
            let mut context = Context::from_waker(Waker::noop());
            if lane.poll_outcome(&mut context, Duration::ZERO).is_pending() {
                return;
            }
        }
    }

    #[test]
    fn after_an_outage_all_that_fitted_arrives_once_and_in_order() {
        let (broker, mut lane) = (Broker::default(), lane(1 << 20));
        for sequence in 0..1_000 {
            assert_eq!(lane.push(reading(sequence), Duration::ZERO), None);
            turn(&mut lane, &broker);
            assert!(lane.handed_over.len() <= MAX_HANDED_OVER);
        }
        assert_eq!(lane.len(), 1_000);
        broker.set_up(true);
        turn(&mut lane, &broker);
        assert_eq!(lane.len(), 0);
        assert_eq!(broker.0.borrow().1, (0..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn what_does_not_fit_is_dropped_oldest_first_behind_what_was_handed_over() {
        let (broker, mut lane) = (Broker::default(), lane(0));
        let mut dropped = Vec::new();
        for sequence in 0..200 {
            let oldest = lane.push(reading(sequence), Duration::ZERO);
            dropped.extend(oldest.map(|reading| reading.tag.sequence));
            turn(&mut lane, &broker);
        }
        assert_eq!(dropped, (128..198).collect::<Vec<_>>());
        assert_eq!(lane.backlog().dropped().cpu, 70);
        broker.set_up(true);
        turn(&mut lane, &broker);
        let delivered: Vec<u64> = (0..128).chain(198..200).collect();
        assert_eq!(broker.0.borrow().1, delivered);
    }

    #[test]
    fn what_can_never_be_taken_does_not_hold_up_the_rest() {
        let (broker, mut lane) = (Broker::default(), lane(1 << 20));
        broker.set_up(true);
        for sequence in 0..3 {
            lane.push(reading(sequence), Duration::ZERO);
        }
        lane.fill(|reading| match reading.tag.sequence {
            1 => Handed::Refused,
            sequence => Handed::Over(Sent(broker.clone(), sequence)),
        });
        turn(&mut lane, &broker);
        assert_eq!(broker.0.borrow().1, [0, 2]);
    }

    #[test]
    fn a_lane_is_stalled_since_the_last_delivery_or_the_first_sample() {
        let (broker, mut lane) = (Broker::default(), lane(1 << 20));
        let at = Duration::from_secs;
        assert_eq!(lane.stalled_for(at(9)), None);
        lane.push(reading(0), at(10));
        lane.push(reading(1), at(12));
        lane.fill(|_| Handed::Later);
        assert_eq!(lane.stalled_for(at(13)), Some(at(3)));
        lane.fill(|reading| Handed::Over(Sent(broker.clone(), reading.tag.sequence)));
        broker.set_up(true);
        let mut context = Context::from_waker(Waker::noop());
        assert!(lane.poll_outcome(&mut context, at(14)).is_ready());
        assert_eq!(lane.stalled_for(at(15)), Some(at(1)));
        assert!(lane.poll_outcome(&mut context, at(15)).is_ready());
        assert_eq!(lane.stalled_for(at(99)), None);
    }
}
