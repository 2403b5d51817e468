//! Who a producer is to the brokers, and how it numbers records (KIP-98, KIP-360).

/// A producer id with its epoch. A broker keeps the last sequences per partition and identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

impl Identity {
    /// The next epoch of the same id; `None` at the last one, where a new id must be asked for.
    pub(crate) fn bumped(self) -> Option<Self> {
        let epoch = self.epoch.checked_add(1)?;
        Some(Self { epoch, ..self })
    }
}

/// The number of a record within its partition and identity, from 0 to `i32::MAX` and round again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sequence(i32);

impl Sequence {
    /// The sequence `count` records further on.
    pub(crate) fn plus(self, count: i32) -> Self {
        Self(self.0.wrapping_add(count) & i32::MAX)
    }

    pub(crate) fn get(self) -> i32 {
        self.0
    }
}

/// From which InitProducerId version on brokers accept an epoch that the client itself bumped
/// (KIP-360).
pub(crate) const BUMPABLE_FROM: i16 = 3;

/// Where an idempotent producer stands with its identity.
///
/// ```text
/// Unknown ──ask──▶ Asked ──answer──▶ Known ──bump──▶ Known, one epoch on
///    ▲               │                 │
///    └────failure────┴── last epoch ───┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdentityState {
    /// None yet, or the last one is used up; may be asked for from `retry_at_us` on.
    Unknown { retry_at_us: u64 },
    /// An InitProducerId call is under way.
    Asked { call: u64 },
    /// Held; `bumpable` where the broker takes epochs bumped by us.
    Known { identity: Identity, bumpable: bool },
}

impl IdentityState {
    pub(crate) fn known(self) -> Option<Identity> {
        match self {
            Self::Known { identity, .. } => Some(identity),
            Self::Unknown { .. } | Self::Asked { .. } => None,
        }
    }

    /// Leaves `used` behind, unless that was done already: the next epoch, or a new id.
    pub(crate) fn bump(&mut self, used: Identity) {
        let Self::Known { identity, bumpable } = *self else {
            return;
        };
        if identity != used {
            return;
        }
        *self = match identity.bumped().filter(|_| bumpable) {
            Some(identity) => Self::Known { identity, bumpable },
            None => Self::Unknown { retry_at_us: 0 },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_02_sequences_wrap_from_the_largest_i32_to_zero() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).plus(5), Sequence(3));
        assert_eq!(Sequence(7).plus(i32::MAX), Sequence(6));
        assert_eq!(Sequence(0).plus(3), Sequence(3));
    }

    #[test]
    fn line_04_the_last_epoch_or_an_old_broker_means_a_new_id() {
        let last = Identity {
            id: 7,
            epoch: i16::MAX,
        };
        let mut state = IdentityState::Known {
            identity: last,
            bumpable: true,
        };
        state.bump(last);
        assert_eq!(state, IdentityState::Unknown { retry_at_us: 0 });

        let first = Identity { id: 7, epoch: 0 };
        let mut state = IdentityState::Known {
            identity: first,
            bumpable: false,
        };
        state.bump(first);
        assert_eq!(state, IdentityState::Unknown { retry_at_us: 0 });
    }

    #[test]
    fn an_identity_is_left_behind_once_however_many_partitions_ask() {
        let first = Identity { id: 7, epoch: 0 };
        let mut state = IdentityState::Known {
            identity: first,
            bumpable: true,
        };
        state.bump(first);
        state.bump(first);
        assert_eq!(state.known(), Some(Identity { id: 7, epoch: 1 }));
    }
}
