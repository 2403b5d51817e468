//! The hosts of a partition: their names, clocks, runs and open windows.

use crate::duplicates::Runs;
use crate::pane::Pane;
use crate::sip::HashSeed;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A host's place in the table; taken by another after the host is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HostNumber(pub(crate) u32);

/// Before every time and every offset.
pub(crate) const NEVER: i64 = i64::MIN;

/// What is known of a host besides its windows; whole cache lines.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(crate) struct Host {
    pub(crate) name: Arc<str>,
    /// The greatest time accepted.
    pub(crate) newest_ms: i64,
    /// The greatest end of a window that silence closed, as the host's own clock did not.
    pub(crate) closed_ms: i64,
    /// While `closed_ms` is ahead of the host's clock: the first offset of the windows that silence
    /// closed, from where reading again would close them again; [`NEVER`] where that is unknown.
    pub(crate) reopen_offset: i64,
    /// What the partition clock's `quiet_ms` was when a sample was last accepted.
    pub(crate) heard_ms: i64,
    /// The offset of that sample.
    pub(crate) heard_offset: i64,
    /// Whether records came since that were late or duplicates.
    pub(crate) talks: bool,
    /// Where the host was last forgotten while it talked; earlier records do not count.
    pub(crate) begin_offset: i64,
    /// The least end of an open window; `i64::MAX` where none is open.
    pub(crate) next_end_ms: i64,
    /// The step of the silence schedule at which to look at the host.
    pub(crate) due_step: i64,
    pub(crate) runs: Runs,
}

impl Host {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            newest_ms: NEVER,
            closed_ms: NEVER,
            reopen_offset: NEVER,
            heard_ms: 0,
            heard_offset: NEVER,
            talks: false,
            begin_offset: NEVER,
            next_end_ms: i64::MAX,
            due_step: i64::MAX,
            runs: Runs::default(),
        }
    }

    /// The host's clock: it has closed the windows that end at or before it.
    pub(crate) fn clock_ms(&self, delay_ms: i64) -> i64 {
        self.newest_ms.saturating_sub(delay_ms)
    }

    /// Whether silence closed a window that the host's own clock would still take samples for.
    pub(crate) fn is_cut_short(&self, delay_ms: i64) -> bool {
        self.closed_ms > self.clock_ms(delay_ms)
    }

    /// Whether an engine that reads again from `offset` would not come to know the host as it is.
    pub(crate) fn outruns(&self, offset: i64, delay_ms: i64) -> bool {
        self.begin_offset > offset || self.is_cut_short(delay_ms) && self.reopen_offset < offset
    }

    pub(crate) fn has_open_windows(&self) -> bool {
        self.next_end_ms != i64::MAX
    }
}

/// All hosts, and beside them room for the windows that each can have open.
#[derive(Debug)]
pub(crate) struct Hosts {
    /// Never iterated: its order depends on the seed.
    numbers: HashMap<Name, HostNumber, HashSeed>,
    hosts: Vec<Host>,
    panes: Vec<Pane>,
    panes_per_host: usize,
    free: Vec<HostNumber>,
    hosts_max: usize,
}

impl Hosts {
    pub(crate) fn new(seed: HashSeed, panes_per_host: usize, hosts_max: u32) -> Self {
        Self {
            numbers: HashMap::with_hasher(seed),
            hosts: Vec::new(),
            panes: Vec::new(),
            panes_per_host,
            free: Vec::new(),
            hosts_max: usize::try_from(hosts_max).unwrap_or(usize::MAX),
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<HostNumber> {
        self.numbers.get(name.as_bytes()).copied()
    }

    /// A new host's number; `None` where there is no room for one.
    pub(crate) fn insert(&mut self, name: &str) -> Option<HostNumber> {
        if self.numbers.len() >= self.hosts_max {
            return None;
        }
        let name: Arc<str> = name.into();
        let host = Host::new(Arc::clone(&name));
        let number = match self.free.pop() {
            Some(number) => {
                *self.get_mut(number)? = host;
                number
            }
            None => {
                let number = HostNumber(u32::try_from(self.hosts.len()).ok()?);
                self.hosts.push(host);
                let room = self.panes.len().checked_add(self.panes_per_host)?;
                self.panes.resize(room, Pane::CLOSED);
                number
            }
        };
        self.numbers.insert(Name::new(name), number);
        Some(number)
    }

    /// Frees the place of a host that has no open windows.
    pub(crate) fn remove(&mut self, number: HostNumber) {
        let nobody = Host::new("".into());
        let removed = self
            .get_mut(number)
            .map(|host| std::mem::replace(host, nobody));
        if removed.is_some_and(|host| self.numbers.remove(host.name.as_bytes()).is_some()) {
            self.free.push(number);
        }
    }

    pub(crate) fn get(&self, number: HostNumber) -> Option<&Host> {
        self.hosts.get(index(number))
    }

    pub(crate) fn get_mut(&mut self, number: HostNumber) -> Option<&mut Host> {
        self.hosts.get_mut(index(number))
    }

    /// A host and its panes, of which that of a window is at its index modulo their number.
    pub(crate) fn with_panes(&mut self, number: HostNumber) -> Option<(&mut Host, &mut [Pane])> {
        let host = self.hosts.get_mut(index(number))?;
        let first = index(number) * self.panes_per_host;
        let panes = self.panes.get_mut(first..first + self.panes_per_host)?;
        Some((host, panes))
    }

    /// Every host with its panes, by number; one that was forgotten has none open.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (HostNumber, &Host, &[Pane])> {
        let panes = self.panes.chunks_exact(self.panes_per_host);
        let all = self.hosts.iter().zip(panes);
        (0..)
            .zip(all)
            .map(|(number, (host, panes))| (HostNumber(number), host, panes))
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether the host at this place is known, and not a place that waits for another.
    pub(crate) fn holds(&self, number: HostNumber) -> bool {
        self.get(number)
            .is_some_and(|host| self.find(&host.name) == Some(number))
    }
}

/// The longest name that lies in the map itself.
const SHORT_BYTES: usize = 30;

/// A host's name as the map's key: most are short, and finding them must not take another access to
/// memory, which with many hosts costs more than everything else done for a sample.
#[derive(Debug, Clone)]
enum Name {
    Short {
        length: u8,
        bytes: [u8; SHORT_BYTES],
    },
    Long(Arc<str>),
}

impl Name {
    fn new(name: Arc<str>) -> Self {
        let mut bytes = [0; SHORT_BYTES];
        match (bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(room), Ok(length)) => {
                room.copy_from_slice(name.as_bytes());
                Self::Short { length, bytes }
            }
            _ => Self::Long(name),
        }
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or(bytes),
            Self::Long(name) => name.as_bytes(),
        }
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        Borrow::<[u8]>::borrow(self).hash(hasher);
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        Borrow::<[u8]>::borrow(self) == Borrow::<[u8]>::borrow(other)
    }
}

impl Eq for Name {}

fn index(number: HostNumber) -> usize {
    number.0 as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_takes_at_most_192_bytes_beside_its_name() {
        assert!(size_of::<Host>() <= 192, "{}", size_of::<Host>());
    }

    #[test]
    fn names_of_every_length_are_found() {
        let mut hosts = Hosts::new(HashSeed([0, 0]), 1, 300);
        let names: Vec<String> = (1..=255).map(|length| "x".repeat(length)).collect();
        let numbers: Vec<_> = names.iter().map(|name| hosts.insert(name)).collect();
        let found: Vec<_> = names.iter().map(|name| hosts.find(name)).collect();
        assert_eq!(numbers, found);
        assert_eq!(size_of::<Name>(), 32);
    }

    #[test]
    fn a_place_is_taken_again_once_its_host_is_forgotten() {
        let mut hosts = Hosts::new(HashSeed([0, 0]), 2, 2);
        let (a, b) = (hosts.insert("a").unwrap(), hosts.insert("b").unwrap());
        assert_eq!(hosts.insert("c"), None, "no room");
        hosts.remove(a);
        hosts.remove(a);
        assert_eq!(
            (hosts.find("a"), hosts.holds(a), hosts.holds(b)),
            (None, false, true)
        );
        assert_eq!(hosts.insert("c"), Some(a));
        assert_eq!((hosts.find("c"), hosts.len()), (Some(a), 2));
        assert_eq!(hosts.insert("d"), None);
    }
}
