//! Our assignors against Java's own: the same groups, the same bytes. Groups live through rounds in
//! which members come, go, change what they subscribe to, and come back with old claims.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tidewatch_client_core::call::TopicPartition;
use tidewatch_client_core::group::assignor::{Assignor, GroupMember, PartitionCounts, Strategy};
use tidewatch_client_core::group::subscription::{Assignment, Subscription};
use tidewatch_it::kafka::{Tools, Version};
use tidewatch_it::lines::hex;
use tidewatch_it::process::Process;

const ASSIGNORS: [&str; 4] = ["range", "roundrobin", "sticky", "cooperative-sticky"];
/// Groups of each assignor.
const GROUPS: u64 = 60;
/// Rebalances of each group.
const ROUNDS: i32 = 6;
const LIMIT: Duration = Duration::from_secs(120);

/// One rebalance as its leader sees it, and what ours made of it.
struct Round {
    line: String,
    ours: String,
}

/// A member's own view: its assignor, what it has, since which generation.
struct Member {
    id: String,
    instance_id: Option<String>,
    topics: Vec<Arc<str>>,
    assignor: Box<dyn Assignor>,
    owned: Vec<TopicPartition>,
    generation: Option<i32>,
}

struct Group {
    name: &'static str,
    random: fastrand::Rng,
    counts: PartitionCounts,
    members: Vec<Member>,
    /// Everybody subscribes to the same topics.
    is_uniform: bool,
    born: usize,
}

impl Group {
    fn of_seed(name: &'static str, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let counts = (0..random.usize(1..=6)).map(|number| {
            let topic = match random.bool() {
                true => format!("t{number}"),
                false => format!("metrics.{number}.of-{}", random.u16(..)),
            };
            (Arc::from(topic), random.usize(1..=14))
        });
        let counts = counts.collect();
        let mut group = Self {
            name,
            is_uniform: random.bool(),
            random,
            counts,
            members: Vec::new(),
            born: 0,
        };
        for _ in 0..group.random.usize(1..=14) {
            group.bear();
        }
        group
    }

    fn topics(&mut self) -> Vec<Arc<str>> {
        let all: Vec<Arc<str>> = self.counts.keys().cloned().collect();
        if self.is_uniform {
            return all;
        }
        let mut some = all.clone();
        some.retain(|_| self.random.u8(..3) > 0);
        if some.is_empty() { all } else { some }
    }

    fn bear(&mut self) {
        self.born += 1;
        let born = self.born;
        let topics = self.topics();
        let is_static = self.random.u8(..4) == 0;
        self.members.push(Member {
            id: format!("c{born}-{:032x}", self.random.u128(..)),
            instance_id: is_static.then(|| format!("i{}", 100 - born)),
            topics,
            assignor: Strategy::named(self.name).unwrap().make(),
            owned: Vec::new(),
            generation: None,
        });
    }

    /// Some leave, some come, some topics grow or are new to somebody.
    fn churn(&mut self) {
        let random = &mut self.random;
        if random.bool() && self.members.len() > 1 {
            let at = random.usize(..self.members.len());
            self.members.swap_remove(at);
        }
        if random.u8(..3) == 0 {
            let at = random.usize(..self.counts.len());
            if let Some(count) = self.counts.values_mut().nth(at) {
                *count += random.usize(1..=3);
            }
        }
        for _ in 0..self.random.usize(..3) {
            self.bear();
        }
        if !self.is_uniform && self.random.bool() {
            let at = self.random.usize(..self.members.len());
            let topics = self.topics();
            let member = &mut self.members[at];
            // Java's sticky assignors give a partition back to whom it was taken from even if that
            // member does not want its topic any more; ours do not.
            member
                .owned
                .retain(|partition| topics.contains(&partition.topic));
            let kept = Assignment::of(member.owned.clone());
            if let Some(generation) = member.generation {
                member.assignor.handle_assignment(&kept, generation);
            }
            member.topics = topics;
        }
    }

    fn seen_by_leader(&mut self) -> Vec<GroupMember> {
        let is_cooperative = self.name == "cooperative-sticky";
        let members = self.members.iter().map(|member| {
            let told = Subscription {
                topics: member.topics.clone(),
                user_data: member.assignor.user_data(&member.topics),
                owned: match is_cooperative {
                    true => member.owned.clone(),
                    false => Vec::new(),
                },
                generation: member.generation,
                rack: None,
            };
            GroupMember {
                id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                // What a leader sees went over the wire.
                subscription: Subscription::decode(&told.encode()).unwrap(),
            }
        });
        let mut members: Vec<GroupMember> = members.collect();
        self.random.shuffle(&mut members);
        members
    }

    fn rebalance(&mut self, generation: i32) -> Round {
        let members = self.seen_by_leader();
        let topics = self
            .counts
            .iter()
            .map(|(topic, count)| format!("{topic}:{count}"));
        let topics: Vec<String> = topics.collect();
        let mut line = format!("{} {generation} {}", self.name, topics.join(","));
        for member in &members {
            let instance = member.instance_id.as_deref().unwrap_or("-");
            let subscription = hex(Some(&member.subscription.encode()));
            line.push_str(&format!(" {}|{instance}|{subscription}", member.id));
        }
        let leader = Strategy::named(self.name).unwrap().make();
        let assigned: BTreeMap<String, Assignment> =
            leader.assign(&self.counts, &members).into_iter().collect();
        let mut ours = Vec::new();
        for member in &members {
            let assignment = &assigned[&member.id];
            let mut own = Strategy::named(self.name).unwrap().make();
            own.handle_assignment(assignment, generation);
            let user_data = own.user_data(&member.subscription.topics);
            ours.push(format!(
                "{}|{}|{}|{}",
                member.id,
                hex(Some(&member.subscription.encode())),
                hex(Some(&assignment.encode())),
                user_data.map_or("-".to_owned(), |bytes| hex(Some(&bytes)))
            ));
        }
        for member in &mut self.members {
            // One in ten misses the generation, and comes back with what it had before.
            if self.random.u8(..10) > 0 {
                let assignment = &assigned[&member.id];
                member.assignor.handle_assignment(assignment, generation);
                member.owned = assignment.partitions.clone();
                member.generation = Some(generation);
            }
        }
        Round {
            line,
            ours: ours.join(" "),
        }
    }
}

#[test]
fn ours_assign_as_javas_do() {
    let mut rounds = Vec::new();
    for name in ASSIGNORS {
        for seed in 0..GROUPS {
            let mut group = Group::of_seed(name, seed);
            for generation in 1..=ROUNDS {
                rounds.push(group.rebalance(generation));
                group.churn();
            }
        }
    }
    let mut command = Tools::new(Version::V4_3, "no cluster").java_program("Assignors.java");
    // Java's assignors log every assignment.
    command.env(
        "JAVA_TOOL_OPTIONS",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
    );
    let mut java = Process::start("Assignors", command);
    let input: Vec<&str> = rounds.iter().map(|round| &*round.line).collect();
    java.write(&format!("{}\n", input.join("\n")));
    java.close_stdin();
    java.wait(LIMIT);
    let theirs = java.stdout();
    let theirs: Vec<&str> = theirs.lines().collect();
    assert_eq!(theirs.len(), rounds.len(), "{}", java.stderr());
    for (round, theirs) in rounds.iter().zip(theirs) {
        assert_eq!(round.ours, theirs, "{}", round.line);
    }
    println!("{} rebalances, each as Java's", rounds.len());
}
