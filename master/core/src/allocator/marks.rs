//! Who is passed over at an agent without being asked, by what is known of him: bits by class of agents, and marks by look.
//!
//! A mark is small, and all of them lie together, so that passing over a thousand costs what asking a few does. Whatever is
//! noted here would come out again if the client were asked. Its one surprise: what explains it to people is counted here
//! too, and told to the tallies later.

use super::order::ClientKey;
use slotmap::SecondaryMap;

/// Classes of agents of which verdicts are kept; those with higher numbers are judged each time.
const CLASSES: usize = 256;
const WORD: usize = u64::BITS as usize;

/// How long a verdict stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// It may be another for what is left of the agent.
    Once,
    /// As long as this agent is looked at, whatever is taken of it.
    Look,
    /// For all agents of this class, until the client asks for something else.
    Class,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// The last look that it was left out of for good.
    left_out: u64,
    /// The last look at whose beginning all that was free was refused.
    hidden: u64,
    /// The last look that was counted.
    counted: u64,
    /// Looks that it was passed over in and that its tally was not told of: by a refusal, by constraints.
    by_refusal: u32,
    by_constraint: u32,
    /// Classes of which no agent meets the constraints of any want.
    unmet: [u64; CLASSES / WORD],
}

/// What a client was passed over for, to be counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct PassedOver {
    pub(super) by_refusal: u32,
    pub(super) by_constraint: u32,
}

/// A mark for each client.
#[derive(Debug, Default)]
pub(super) struct Marks {
    marks: SecondaryMap<ClientKey, Mark>,
    /// Whose tallies were not told yet.
    untold: Vec<ClientKey>,
}

impl Marks {
    pub(super) fn insert(&mut self, client: ClientKey) {
        self.marks.insert(client, Mark::default());
    }

    pub(super) fn remove(&mut self, client: ClientKey) {
        self.marks.remove(client);
    }

    /// A client asks for something else: no constraint is known to be unmet.
    pub(super) fn reset(&mut self, client: ClientKey) {
        if let Some(mark) = self.marks.get_mut(client) {
            mark.unmet = [0; CLASSES / WORD];
        }
    }

    /// A class's number is going to mean something else.
    pub(super) fn forget_class(&mut self, class: usize) {
        for mark in self.marks.values_mut() {
            if let Some(word) = mark.unmet.get_mut(class / WORD) {
                *word &= !(1 << (class % WORD));
            }
        }
    }

    /// Whether a client is known to be left out, and so need not be asked. With `class`, bits and refusals say so too.
    pub(super) fn passes_over(
        &mut self,
        client: ClientKey,
        look: u64,
        class: Option<usize>,
        counts: bool,
    ) -> bool {
        let Some(mark) = self.marks.get_mut(client) else { return false };
        if mark.left_out == look {
            return true;
        }
        let Some(class) = class else { return false };
        let is_hidden = mark.hidden == look;
        let is_unmet =
            mark.unmet.get(class / WORD).is_some_and(|word| word >> (class % WORD) & 1 > 0);
        if !is_hidden && !is_unmet {
            return false;
        }
        mark.left_out = look;
        if counts && mark.counted != look {
            mark.counted = look;
            if mark.by_refusal + mark.by_constraint == 0 {
                self.untold.push(client);
            }
            *(if is_hidden { &mut mark.by_refusal } else { &mut mark.by_constraint }) += 1;
        }
        true
    }

    /// Whether this is the first verdict on a client in a look.
    pub(super) fn counts(&mut self, client: ClientKey, look: u64) -> bool {
        let mark = self.marks.get_mut(client);
        mark.is_some_and(|mark| std::mem::replace(&mut mark.counted, look) != look)
    }

    /// All that is free of the agent is refused.
    pub(super) fn hide(&mut self, client: ClientKey, look: u64) {
        if let Some(mark) = self.marks.get_mut(client) {
            mark.hidden = look;
        }
    }

    /// A client was asked, and is left out for so long.
    pub(super) fn leave_out(&mut self, client: ClientKey, look: u64, class: usize, stands: Stands) {
        let Some(mark) = self.marks.get_mut(client) else { return };
        if stands != Stands::Once {
            mark.left_out = look;
        }
        if stands == Stands::Class
            && let Some(word) = mark.unmet.get_mut(class / WORD)
        {
            *word |= 1 << (class % WORD);
        }
    }

    /// Who was passed over and not counted in a tally yet.
    pub(super) fn take_untold(&mut self) -> Vec<ClientKey> {
        std::mem::take(&mut self.untold)
    }

    /// What is to be counted of a client. It is not told again.
    pub(super) fn take(&mut self, client: ClientKey) -> Option<PassedOver> {
        let mark = self.marks.get_mut(client)?;
        let (by_refusal, by_constraint) = (mark.by_refusal, mark.by_constraint);
        (mark.by_refusal, mark.by_constraint) = (0, 0);
        Some(PassedOver { by_refusal, by_constraint })
    }
}
