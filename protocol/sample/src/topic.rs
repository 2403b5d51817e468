//! Which topics a sample, its results and what could not be read are found on.

/// What the collector measures by default, each on a topic of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// The share of processor time spent busy, in percent.
    Cpu,
    /// The share of memory that is not available to new work, in percent.
    Memory,
}

impl Metric {
    /// Every metric, in the order in which they are sampled.
    pub const ALL: [Self; 2] = [Self::Cpu, Self::Memory];

    /// The topic's name.
    pub fn topic(self) -> &'static str {
        match self {
            Self::Cpu => "cpu-monitor",
            Self::Memory => "mem-monitor",
        }
    }

    /// The metric whose topic this is.
    pub fn from_topic(topic: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.topic() == topic)
    }
}

/// The topic that the results computed from `topic` go to.
pub fn results_topic(topic: &str) -> String {
    format!("{topic}-agg-result")
}

/// The topic that takes those records of `topic` that cannot be read.
pub fn rejected_topic(topic: &str) -> String {
    format!("{topic}-rejected")
}

/// The topic that takes those records of `topic` that came after their window was settled.
pub fn late_topic(topic: &str) -> String {
    format!("{topic}-late")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_those_of_the_tutorial() {
        assert_eq!(
            Metric::ALL.map(Metric::topic),
            ["cpu-monitor", "mem-monitor"]
        );
        assert_eq!(results_topic(Metric::Cpu.topic()), "cpu-monitor-agg-result");
        assert_eq!(
            rejected_topic(Metric::Memory.topic()),
            "mem-monitor-rejected"
        );
        assert_eq!(late_topic(Metric::Memory.topic()), "mem-monitor-late");
    }

    #[test]
    fn a_metric_is_found_by_its_topic() {
        assert_eq!(Metric::from_topic("mem-monitor"), Some(Metric::Memory));
        assert_eq!(Metric::from_topic("mem-monitor-agg-result"), None);
    }
}
