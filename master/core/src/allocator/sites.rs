//! What agents are like, and which of them meet a want's constraints.
//!
//! Agents with the same attributes and domain are of one class, and a constraint is evaluated once per class, so that a
//! look at one agent costs a look at a table. Constraints on `@hostname` are evaluated per agent. Its one surprise: a
//! class's number is used again once its last agent is gone, and verdicts on it are forgotten then.

use regex_lite::{Regex, RegexBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use tepui_proto::calls::{Comparison, Constraint};
use tepui_proto::events::{AttributeValue, FaultDomain};
use tepui_proto::{AgentId, limits};

/// What the allocator knows of an agent beside its books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its host.
    pub hostname: String,
    /// By name.
    pub attributes: Vec<(String, AttributeValue)>,
    /// Where it stands.
    pub domain: Option<FaultDomain>,
    /// Whether it is offered at all: not drained, deactivated, or away.
    pub is_open: bool,
    /// Whether frameworks that are in many roles may be offered it (Mesos: the agent's `MULTI_ROLE`).
    pub takes_many_roles: bool,
}

impl Default for Site {
    fn default() -> Self {
        Self {
            hostname: String::new(),
            attributes: Vec::new(),
            domain: None,
            is_open: true,
            takes_many_roles: true,
        }
    }
}

/// What makes agents equal to constraints: attributes, region and zone.
type ClassKey = (Vec<(String, AttributeValue)>, Option<(String, String)>);

fn class_key(site: &Site) -> ClassKey {
    let domain = site.domain.as_ref().map(|d| (d.region.clone(), d.zone.clone()));
    (site.attributes.clone(), domain)
}

/// All agents.
#[derive(Debug, Default)]
pub(super) struct Sites {
    all: BTreeMap<AgentId, (Site, usize)>,
    /// The class's number, and how many agents are of it.
    classes: BTreeMap<ClassKey, (usize, usize)>,
    unused: Vec<usize>,
    numbered: usize,
    closed: usize,
    /// Agents with as many tasks as they take, or no room for more.
    full: BTreeSet<AgentId>,
}

/// What became of an agent's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClassChange {
    Same,
    /// It is of another class than before; if it was the last of that, its number.
    Moved(Option<usize>),
}

impl Sites {
    pub(super) fn get(&self, agent: AgentId) -> Option<(&Site, usize)> {
        self.all.get(&agent).map(|(site, class)| (site, *class))
    }

    pub(super) fn set_full(&mut self, agent: AgentId, is_full: bool) {
        if is_full {
            self.full.insert(agent);
        } else {
            self.full.remove(&agent);
        }
    }

    pub(super) fn is_full(&self, agent: AgentId) -> bool {
        self.full.contains(&agent)
    }

    /// Whether an agent is open and takes more tasks.
    pub(super) fn has_room(&self, agent: AgentId) -> bool {
        self.all.get(&agent).is_some_and(|(site, _)| site.is_open) && !self.full.contains(&agent)
    }

    /// Open ones that take no more tasks.
    pub(super) fn full(&self) -> usize {
        let is_open = |id: &&AgentId| self.all.get(id).is_some_and(|(site, _)| site.is_open);
        self.full.iter().filter(is_open).count()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = AgentId> {
        self.all.keys().copied()
    }

    /// Those that are not offered.
    pub(super) fn closed_ids(&self) -> impl Iterator<Item = AgentId> {
        // Mostly there is none; then nobody is looked at.
        let sites = (self.closed > 0).then_some(&self.all).into_iter().flatten();
        let closed = sites.filter(|(_, (site, _))| !site.is_open).map(|(id, _)| *id);
        let is_open = |id: &&AgentId| self.all.get(id).is_some_and(|(site, _)| site.is_open);
        closed.chain(self.full.iter().filter(is_open).copied())
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn closed(&self) -> usize {
        self.closed
    }

    pub(super) fn set(&mut self, agent: AgentId, site: Site) -> ClassChange {
        let key = class_key(&site);
        if let Some((old, _)) = self.all.get_mut(&agent) {
            let same = class_key(old) == key && old.hostname == site.hostname;
            self.closed -= usize::from(!old.is_open);
            self.closed += usize::from(!site.is_open);
            if same {
                *old = site;
                return ClassChange::Same;
            }
            self.closed -= usize::from(!site.is_open);
            self.closed += usize::from(!old.is_open);
        }
        let gone = self.remove(agent);
        self.closed += usize::from(!site.is_open);
        let class = if let Some((class, members)) = self.classes.get_mut(&key) {
            *members += 1;
            *class
        } else {
            let class = self.unused.pop().unwrap_or_else(|| {
                self.numbered += 1;
                self.numbered - 1
            });
            self.classes.insert(key, (class, 1));
            class
        };
        self.all.insert(agent, (site, class));
        ClassChange::Moved(gone)
    }

    /// Returns the number of a class of which this was the last.
    pub(super) fn remove(&mut self, agent: AgentId) -> Option<usize> {
        self.full.remove(&agent);
        let (site, class) = self.all.remove(&agent)?;
        self.closed -= usize::from(!site.is_open);
        let key = class_key(&site);
        let (_, members) = self.classes.get_mut(&key)?;
        *members -= 1;
        if *members > 0 {
            return None;
        }
        self.classes.remove(&key);
        self.unused.push(class);
        Some(class)
    }

    pub(super) fn set_open(&mut self, agent: AgentId, is_open: bool) {
        if let Some((site, _)) = self.all.get_mut(&agent)
            && site.is_open != is_open
        {
            site.is_open = is_open;
            if is_open {
                self.closed -= 1;
            } else {
                self.closed += 1;
            }
        }
    }
}

/// Why a constraint is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// There are too many of one want.
    #[error("{0} constraints; at most {most}", most = limits::CONSTRAINTS)]
    Many(usize),
    /// A name or an operand that is too long.
    #[error("a constraint's name and operand have at most {most} bytes each", most = limits::CONSTRAINT_BYTES)]
    Long,
    /// A regular expression of too much text.
    #[error("a regular expression of {0} bytes; at most {most}", most = limits::PATTERN_BYTES)]
    LongPattern(usize),
    /// It is not a regular expression, or one that is too large.
    #[error("`{0}` is not a regular expression that is taken here: {1}")]
    Regex(String, String),
}

/// One want's constraints, ready to be asked.
#[derive(Debug, Default)]
pub(super) struct Constraints {
    each: Vec<Compiled>,
    /// By class: unknown, met, not met.
    verdicts: Vec<Option<bool>>,
    is_by_host: bool,
}

#[derive(Debug)]
struct Compiled {
    constraint: Constraint,
    /// For `matches` and `matches-not`; one that cannot be read matches nothing, and was refused at the edge.
    regex: Option<Arc<Pattern>>,
}

/// Compiled regular expressions of one framework, each once.
#[derive(Debug, Default)]
pub(super) struct Patterns(BTreeMap<String, Option<Arc<Pattern>>>);

/// Texts of which a pattern remembers whether it matches them: hostnames, mostly.
const TEXTS: usize = 1_024;

/// A regular expression, and what it has been held against: many constraints and many looks ask the same. The lock is
/// never waited for: one thread has the leader.
#[derive(Debug)]
struct Pattern {
    regex: Regex,
    seen: PatternVerdicts,
}

#[expect(clippy::disallowed_types, reason = "many constraints share it, and it is a cache")]
type PatternVerdicts = std::sync::Mutex<BTreeMap<String, bool>>;

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = seen.get(text) {
            return *verdict;
        }
        if seen.len() >= TEXTS {
            seen.clear();
        }
        let verdict = self.regex.is_match(text);
        seen.insert(text.to_owned(), verdict);
        verdict
    }
}

impl Patterns {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of constraints that stay as they are.
    pub(super) fn keep(&mut self, constraints: &[Constraint], before: &Self) {
        for operand in patterns(constraints) {
            self.get(operand, before);
        }
    }

    /// Compiles one, unless it is here or among `before`.
    fn get(&mut self, operand: &str, before: &Self) -> Option<Arc<Pattern>> {
        if let Some(known) = self.0.get(operand) {
            return known.clone();
        }
        let known = before.0.get(operand).cloned();
        let made = |regex| Arc::new(Pattern { regex, seen: PatternVerdicts::default() });
        let regex = known.unwrap_or_else(|| compile(operand).ok().map(made));
        self.0.insert(operand.to_owned(), regex.clone());
        regex
    }
}

fn compile(operand: &str) -> Result<Regex, ConstraintError> {
    if operand.len() > limits::PATTERN_BYTES {
        return Err(ConstraintError::LongPattern(operand.len()));
    }
    RegexBuilder::new(operand)
        .size_limit(limits::PATTERN_COMPILED_BYTES)
        .nest_limit(16)
        .build()
        .map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim().to_owned();
            ConstraintError::Regex(operand.chars().take(64).collect(), why)
        })
}

fn is_regex(comparison: Comparison) -> bool {
    matches!(comparison, Comparison::Matches | Comparison::MatchesNot)
}

/// The regular expressions of constraints.
pub(crate) fn patterns(constraints: &[Constraint]) -> impl Iterator<Item = &str> {
    constraints.iter().filter(|c| is_regex(c.comparison)).map(|c| c.operand.as_str())
}

/// Regular expressions that were checked, and what came of it: each is compiled once to be checked, good or bad.
pub type CheckedPatterns = BTreeMap<String, Result<(), ConstraintError>>;

/// Checks constraints before they get anywhere. Regular expressions that were `checked` before are not compiled again.
///
/// # Errors
/// Says what is wrong with them.
pub fn check_constraints(
    constraints: &[Constraint],
    checked: &mut CheckedPatterns,
) -> Result<(), ConstraintError> {
    if constraints.len() > limits::CONSTRAINTS {
        return Err(ConstraintError::Many(constraints.len()));
    }
    for constraint in constraints {
        let longest = constraint.attribute.len().max(constraint.operand.len());
        if longest > limits::CONSTRAINT_BYTES {
            return Err(ConstraintError::Long);
        }
    }
    for operand in patterns(constraints) {
        if let Some(known) = checked.get(operand) {
            known.clone()?;
            continue;
        }
        let verdict = compile(operand).map(drop);
        checked.insert(operand.to_owned(), verdict.clone());
        verdict?;
    }
    Ok(())
}

impl Constraints {
    pub(super) fn new(constraints: &[Constraint], now: &mut Patterns, before: &Patterns) -> Self {
        let each = constraints.iter().map(|constraint| Compiled {
            constraint: constraint.clone(),
            regex: is_regex(constraint.comparison)
                .then(|| now.get(&constraint.operand, before))
                .flatten(),
        });
        Self {
            each: each.collect(),
            verdicts: Vec::new(),
            is_by_host: constraints.iter().any(|c| c.attribute == "@hostname"),
        }
    }

    /// Whether agents of one class may differ.
    pub(super) fn is_by_host(&self) -> bool {
        self.is_by_host
    }

    pub(super) fn are_met(&mut self, site: &Site, class: usize) -> bool {
        if self.each.is_empty() {
            return true;
        }
        if self.is_by_host {
            return self.each.iter().all(|compiled| compiled.is_met(site));
        }
        if let Some(Some(verdict)) = self.verdicts.get(class) {
            return *verdict;
        }
        let verdict = self.each.iter().all(|compiled| compiled.is_met(site));
        if self.verdicts.len() <= class {
            self.verdicts.resize(class + 1, None);
        }
        if let Some(slot) = self.verdicts.get_mut(class) {
            *slot = Some(verdict);
        }
        verdict
    }

    pub(super) fn forget_class(&mut self, class: usize) {
        if let Some(slot) = self.verdicts.get_mut(class) {
            *slot = None;
        }
    }
}

impl Compiled {
    /// An attribute that is not text passes whatever is asked of its text, as in Mesos: the operator's mistake leaves
    /// nobody without offers.
    fn is_met(&self, site: &Site) -> bool {
        let operand = self.constraint.operand.as_str();
        let text = match value_of(site, &self.constraint.attribute) {
            Value::Other => return self.constraint.comparison != Comparison::Absent,
            Value::Text(text) => Some(text),
            Value::Absent => None,
        };
        let is_there = text.is_some();
        let matches = || text.is_some_and(|t| self.regex.as_ref().is_some_and(|r| r.matches(t)));
        match self.constraint.comparison {
            Comparison::Exists => is_there,
            Comparison::Absent => !is_there,
            Comparison::Equals => text == Some(operand),
            Comparison::Differs => text != Some(operand),
            Comparison::Matches => matches(),
            Comparison::MatchesNot => self.regex.is_some() && !matches(),
        }
    }
}

/// What an agent has under a name.
enum Value<'a> {
    Absent,
    Text(&'a str),
    /// A number or ranges.
    Other,
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Absent, Self::Text)
    }
}

fn value_of<'a>(site: &'a Site, name: &str) -> Value<'a> {
    match name {
        "@hostname" => Value::Text(&site.hostname),
        "@region" => site.domain.as_ref().map(|domain| domain.region.as_str()).into(),
        "@zone" => site.domain.as_ref().map(|domain| domain.zone.as_str()).into(),
        _ => match site.attributes.iter().find(|(have, _)| have == name).map(|(_, value)| value) {
            None => Value::Absent,
            Some(AttributeValue::Text(text)) => Value::Text(text),
            Some(AttributeValue::Milli(_) | AttributeValue::Ranges(_)) => Value::Other,
        },
    }
}
