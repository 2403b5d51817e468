//! /proc/meminfo: what memory there is and what is left of it, in kB (proc_meminfo(5)).

use super::{excerpt, parse_counter, words};
use thiserror::Error;

/// The fields that utilisation is computed from, in kB. Some kernels and containers lack some.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Meminfo {
    /// What the kernel can use at all.
    pub(crate) total: Option<u64>,
    /// Used for nothing.
    pub(crate) free: Option<u64>,
    /// What new work could take without swapping; since Linux 3.14.
    pub(crate) available: Option<u64>,
    /// Cached blocks of devices.
    pub(crate) buffers: Option<u64>,
    /// Cached files, `shmem` included.
    pub(crate) cached: Option<u64>,
    /// What of the kernel's own caches can be given back; since Linux 2.6.19.
    pub(crate) reclaimable: Option<u64>,
    /// Shared memory and tmpfs, which cannot be given back; since Linux 2.6.32.
    pub(crate) shmem: Option<u64>,
}

impl Meminfo {
    /// Reads the file's bytes; lines of other fields may hold anything.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, MeminfoError> {
        let mut meminfo = Self::default();
        for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let mut words = words(line);
            let Some(name) = words.next() else { continue };
            let Some(field) = meminfo.field(name) else {
                continue;
            };
            let malformed = |what| MeminfoError::Malformed {
                line: index + 1,
                text: excerpt(line),
                what,
            };
            let value = words
                .next()
                .and_then(parse_counter)
                .ok_or_else(|| malformed("its value is not a number of 64 bits"))?;
            if (words.next(), words.next()) != (Some(b"kB"), None) {
                return Err(malformed("its value is not in kB"));
            }
            if field.replace(value).is_some() {
                return Err(malformed("this field stands there twice"));
            }
        }
        Ok(meminfo)
    }

    fn field(&mut self, name: &[u8]) -> Option<&mut Option<u64>> {
        match name {
            b"MemTotal:" => Some(&mut self.total),
            b"MemFree:" => Some(&mut self.free),
            b"MemAvailable:" => Some(&mut self.available),
            b"Buffers:" => Some(&mut self.buffers),
            b"Cached:" => Some(&mut self.cached),
            b"SReclaimable:" => Some(&mut self.reclaimable),
            b"Shmem:" => Some(&mut self.shmem),
            _ => None,
        }
    }
}

/// Why /proc/meminfo cannot be read or lacks what is needed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum MeminfoError {
    /// A line is not what proc_meminfo(5) says.
    #[error("line {line}, `{text}`: {what}")]
    Malformed {
        line: usize,
        text: String,
        what: &'static str,
    },
    /// A field is not there.
    #[error("there is no line {0}")]
    Missing(&'static str),
    /// No memory at all.
    #[error("MemTotal is 0 kB")]
    NoMemory,
}

#[cfg(test)]
mod tests {
    use super::*;
    use procfs::prelude::FromRead;
    use proptest::prelude::*;

    /// The beginning of a virtual machine's, Linux 6.18.
    const NEW: &[u8] = b"\
MemTotal:       24684084 kB
MemFree:        22794656 kB
MemAvailable:   23767724 kB
Buffers:            7172 kB
Cached:          1125500 kB
SwapCached:            0 kB
Active(anon):       1608 kB
Shmem:              8872 kB
KReclaimable:     130568 kB
SReclaimable:     130568 kB
HugePages_Total:       0
";

    #[test]
    fn the_fields_that_matter_are_read() {
        let expected = Meminfo {
            total: Some(24_684_084),
            free: Some(22_794_656),
            available: Some(23_767_724),
            buffers: Some(7_172),
            cached: Some(1_125_500),
            reclaimable: Some(130_568),
            shmem: Some(8_872),
        };
        assert_eq!(Meminfo::parse(NEW), Ok(expected));
    }

    #[test]
    fn a_field_that_is_not_there_is_none_and_other_lines_may_hold_anything() {
        let meminfo = Meminfo::parse(b"MemTotal: 8 kB\n\nOdd\nHugePages_Total: x\n").unwrap();
        assert_eq!(
            meminfo,
            Meminfo {
                total: Some(8),
                ..Meminfo::default()
            }
        );
    }

    #[test]
    fn a_malformed_line_is_named() {
        for (text, line, what) in [
            ("MemTotal:\n", 1, "not a number"),
            ("Odd\nMemFree: x kB\n", 2, "not a number"),
            ("MemFree: 18446744073709551616 kB\n", 1, "not a number"),
            ("MemFree: 1\n", 1, "not in kB"),
            ("MemFree: 1 MB\n", 1, "not in kB"),
            ("MemFree: 1 kB 2\n", 1, "not in kB"),
            ("MemFree: 1 kB\nMemFree: 1 kB\n", 2, "twice"),
        ] {
            let failed = Meminfo::parse(text.as_bytes()).unwrap_err();
            assert!(
                matches!(failed, MeminfoError::Malformed { line: at, .. } if at == line),
                "{failed}"
            );
            assert!(failed.to_string().contains(what), "{failed}");
        }
    }

    /// The fields without which the procfs crate refuses the file.
    const DEMANDED: &str = "SwapCached: 1 kB\nActive: 1 kB\nInactive: 1 kB\nSwapTotal: 1 kB\n\
        SwapFree: 1 kB\nDirty: 1 kB\nWriteback: 1 kB\nMapped: 1 kB\nSlab: 1 kB\nCommitted_AS: 1 kB\n\
        VmallocTotal: 1 kB\nVmallocUsed: 1 kB\nVmallocChunk: 1 kB\n";

    proptest! {
        #[test]
        fn the_procfs_crate_reads_the_same(
            // It computes in bytes, which must fit 64 bits.
            [total, free, buffers, cached] in prop::array::uniform4(0..u64::MAX / 1024),
            [available, reclaimable, shmem] in prop::array::uniform3(prop::option::of(0..u64::MAX / 1024)),
        ) {
            let mut text = format!(
                "MemTotal: {total} kB\nMemFree: {free} kB\nBuffers: {buffers} kB\nCached: {cached} kB\n{DEMANDED}"
            );
            for (name, value) in [("MemAvailable", available), ("SReclaimable", reclaimable), ("Shmem", shmem)] {
                text.extend(value.map(|value| format!("{name}:   {value} kB\n")));
            }
            let theirs = procfs::Meminfo::from_read(text.as_bytes()).unwrap();
            let in_kb = |bytes: u64| bytes / 1024;
            let theirs = Meminfo {
                total: Some(in_kb(theirs.mem_total)),
                free: Some(in_kb(theirs.mem_free)),
                available: theirs.mem_available.map(in_kb),
                buffers: Some(in_kb(theirs.buffers)),
                cached: Some(in_kb(theirs.cached)),
                reclaimable: theirs.s_reclaimable.map(in_kb),
                shmem: theirs.shmem.map(in_kb),
            };
            prop_assert_eq!(Meminfo::parse(text.as_bytes()), Ok(theirs));
        }

        #[test]
        fn no_bytes_are_too_strange(
            mut bytes in Just(NEW.to_vec()), at in any::<prop::sample::Index>(), byte: u8,
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let flipped = at.index(bytes.len());
            bytes[flipped] = byte;
            for bytes in [bytes, noise] {
                if let Err(failed) = Meminfo::parse(&bytes) {
                    prop_assert!(failed.to_string().len() < 400);
                }
            }
        }
    }
}
