//! What becomes of each system call of one architecture: nothing, one action, or conditions tried in order.
//!
//! When several rules name a call, the result is libseccomp's, since profiles were written against it: a rule without
//! conditions beats all that have some, wherever it stands; of two without conditions the first counts; rules with
//! conditions are tried in an order that does not depend on the profile's (see [`Rule::order`]).
//!
//! Three things are not libseccomp's. It merges the rules of one call into a tree, and where ranges or masks overlap some
//! of its trees give a call that a rule matches the default, or a call that none matches a rule's action: here a
//! call that rules match gets the action of one of them. And where a mask and an equality overlap with different
//! actions, which of them counts there depends on the order of the profile and on the halves of the values; here
//! it is the larger value. And which call socketcall(2) and ipc(2) stand for is read from 32 bits, as the kernel does.

use std::cmp::Ordering;

use super::arch::{self, ARM_PRIVATE, Arch, Syscall};

/// The comparison of a condition, after NE, LT and LE became negations of EQ, GE and GT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    /// `(argument & mask) == value`.
    Equal,
    /// `argument >= value`.
    AtLeast,
    /// `argument > value`.
    Above,
}

/// One condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) test: Test,
    /// The condition holds if the test fails.
    pub(super) negated: bool,
    pub(super) value: u64,
    pub(super) mask: u64,
}

impl Condition {
    /// The place among conditions of other rules: libseccomp puts higher arguments first, then equality before
    /// less-than before greater-than, then the narrower range.
    fn order(&self, other: &Condition) -> Ordering {
        let kind = |c: &Condition| match (c.test, c.negated) {
            (Test::Equal, _) => 1,
            (Test::AtLeast | Test::Above, true) => 2,
            (Test::AtLeast | Test::Above, false) => 3,
        };
        other.argument.cmp(&self.argument).then(kind(self).cmp(&kind(other))).then_with(|| match kind(self) {
            2 => self.value.cmp(&other.value),
            _ => other.value.cmp(&self.value),
        })
    }
}

/// A rule with conditions, all of which must hold; sorted by argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) action: u32,
    pub(super) conditions: Vec<Condition>,
}

impl Rule {
    /// See [`Condition::order`]; of two rules that begin alike the longer, narrower one comes first.
    fn order(&self, other: &Rule) -> Ordering {
        for (a, b) in self.conditions.iter().zip(&other.conditions) {
            match a.order(b) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
        }
        other.conditions.len().cmp(&self.conditions.len())
    }
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// No rule names it.
    Default,
    /// Whatever the arguments are.
    Always(u32),
    /// Index of [`Calls::chains`].
    Chain(usize),
}

/// Numbers below this have a place of their own; the kernel's reach 470 and grow by some five a year.
const COMMON: usize = 640;
/// So many private ones of arm follow.
const PRIVATE: usize = 16;

/// The place of a number.
fn index(number: u32) -> usize {
    match number {
        private if private >= ARM_PRIVATE => COMMON + (private - ARM_PRIVATE) as usize,
        common => common as usize,
    }
}

/// All calls of one architecture.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) arch: Arch,
    outcomes: Vec<Outcome>,
    /// Rules of calls that have conditions.
    pub(super) chains: Vec<Vec<Rule>>,
    /// The largest number that the profile names, private ones of arm aside.
    newest: u32,
}

impl Calls {
    pub(super) fn new(arch: Arch) -> Calls {
        Calls { arch, outcomes: vec![Outcome::Default; COMMON + PRIVATE], chains: Vec::new(), newest: 0 }
    }

    /// The profile knows this call, whatever its rule says.
    pub(super) fn know(&mut self, syscall: Syscall) {
        if let Some(number) = syscall.number(self.arch).filter(|number| *number < ARM_PRIVATE) {
            self.newest = self.newest.max(number);
        }
    }

    /// Adds a rule for a name.
    pub(super) fn add(&mut self, name: &str, syscall: Syscall, action: u32, conditions: &[Condition]) {
        if let Some(number) = syscall.number(self.arch) {
            self.add_number(number, action, conditions.to_vec());
        }
        if self.arch.has_multiplexers()
            && let Some((number, call)) = arch::multiplexed(name)
        {
            // The first argument says which call it is, and the conditions on it are lost: the call's own
            // arguments are in memory, where no filter can look. The kernel takes the first from the lower half alone:
            // libseccomp compares it whole where arguments have 64 bits, so that a denied call is reached by another upper half.
            let mut conditions: Vec<Condition> = conditions.iter().filter(|c| c.argument != 0).copied().collect();
            let which =
                Condition { argument: 0, test: Test::Equal, negated: false, value: call, mask: u32::MAX.into() };
            conditions.insert(0, which);
            self.add_number(number, action, conditions);
        }
    }

    /// The largest number that the profile names, private ones of arm aside; 0: none.
    pub(super) fn newest(&self) -> u32 {
        self.newest
    }

    /// The rules with conditions of a call, in the order in which they are tried.
    pub(super) fn chain(&self, number: u32) -> &[Rule] {
        match self.outcomes.get(index(number)) {
            Some(Outcome::Chain(chain)) => &self.chains[*chain],
            _ => &[],
        }
    }

    /// The actions of all rules that count.
    pub(super) fn actions(&self) -> impl Iterator<Item = u32> {
        let chained = |chain: usize| self.chains[chain].iter().map(|rule| rule.action);
        self.outcomes.iter().flat_map(move |outcome| match *outcome {
            Outcome::Default => Vec::new(),
            Outcome::Always(action) => vec![action],
            Outcome::Chain(chain) => chained(chain).collect(),
        })
    }

    fn add_number(&mut self, number: u32, action: u32, mut conditions: Vec<Condition>) {
        let index = index(number);
        if self.arch.is_32_bit() {
            for condition in &mut conditions {
                condition.value &= u64::from(u32::MAX);
                condition.mask &= u64::from(u32::MAX);
            }
        }
        // No bit is looked at: libseccomp leaves such a condition out, and a rule without another one has none.
        conditions.retain(|condition| condition.mask != 0);
        let outcome = &mut self.outcomes[index];
        match *outcome {
            Outcome::Always(_) => {}
            _ if conditions.is_empty() => *outcome = Outcome::Always(action),
            Outcome::Chain(chain) => {
                let (chain, new) = (&mut self.chains[chain], Rule { action, conditions });
                let place = chain.partition_point(|rule| rule.order(&new).is_le());
                if place == 0 || chain[place - 1] != new {
                    chain.insert(place, new);
                }
            }
            Outcome::Default => {
                self.chains.push(vec![Rule { action, conditions }]);
                *outcome = Outcome::Chain(self.chains.len() - 1);
            }
        }
    }

    /// Appends the ranges of numbers with the same outcome, the first of each, from `base` on. Numbers after the
    /// newest that the profile knows get `beyond`.
    pub(super) fn ranges(&self, base: u32, beyond: Option<u32>, out: &mut Vec<(u32, usize, Outcome)>, group: usize) {
        let beyond = beyond.filter(|_| self.newest > 0).map_or(Outcome::Default, Outcome::Always);
        let newest = self.newest as usize;
        let mut last = None;
        let mut push = |number: u32, outcome: Outcome| {
            if last != Some(outcome) {
                out.push((base + number, group, outcome));
                last = Some(outcome);
            }
        };
        for (number, outcome) in self.outcomes[..COMMON].iter().enumerate() {
            push(number as u32, if number > newest { beyond } else { *outcome });
        }
        if self.arch == Arch::Arm {
            for (number, outcome) in self.outcomes[COMMON..].iter().enumerate() {
                push(ARM_PRIVATE + number as u32, if *outcome == Outcome::Default { beyond } else { *outcome });
            }
            push(ARM_PRIVATE + PRIVATE as u32, beyond);
        }
    }
}
