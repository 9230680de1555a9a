//! Reads one line of a `case`: what happens, or what must hold.

use super::step::{Capability, Check, Client, Event, Inverse, Offered, Step, Used, Whose};
use super::words::{
    Bad, Words, attributes, bundle, capabilities, count, decimal, list, milli, role, roles,
    scalars, seconds, smallest, unknown,
};
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::{Bundle, Role};

pub(crate) fn case_step(words: &mut Words<'_>) -> Result<Step, Bad> {
    match words.verb() {
        "rounds" => rounds(words),
        "offer" | "none" | "offer-total" | "offer-agents" | "inverse" | "share" => {
            check(words).map(Step::Check)
        }
        "agent" | "update-agent" | "agent-attrs" | "unavailable" | "remove-agent" | "whitelist" => {
            agent_event(words).map(Step::Event)
        }
        "framework" | "min" | "suppress" | "revive" | "deactivate" | "activate"
        | "remove-framework" => framework_event(words).map(Step::Event),
        _ => other_event(words).map(Step::Event),
    }
}

fn rounds(words: &mut Words<'_>) -> Result<Step, Bad> {
    let rounds = count(words.next("how many")?)?;
    let mut expected = BTreeMap::new();
    while let Some(word) = words.maybe() {
        let (framework, times) = word.split_once('=').ok_or_else(|| unknown("rounds", word))?;
        expected.insert(framework.to_owned(), count(times)?);
    }
    Ok(Step::Rounds { count: rounds, expected })
}

fn check(words: &mut Words<'_>) -> Result<Check, Bad> {
    Ok(match words.verb() {
        "none" => Check::Nothing,
        "offer" => Check::Offer(Offered {
            framework: words.name("a framework")?,
            role: words.role()?,
            agent: words.name("an agent")?,
            bundle: words.bundle()?,
        }),
        "offer-total" => Check::OfferTotal {
            framework: words.name("a framework")?,
            role: words.role()?,
            sum: words.maybe().map_or_else(|| Ok(Bundle::default()), bundle)?,
        },
        "offer-agents" => {
            let framework = words.name("a framework")?;
            let agents = count(words.next("a number of agents")?)?;
            let count = usize::try_from(agents).map_err(|e| e.to_string())?;
            Check::OfferAgents { framework, count }
        }
        "inverse" => Check::Inverse(Inverse {
            framework: words.name("a framework")?,
            agent: words.name("an agent")?,
        }),
        _ => {
            let role = words.role()?;
            let expected = match words.next("a share, or `absent`")? {
                "absent" => None,
                share => Some(decimal(share)?),
            };
            Check::Share { role, expected }
        }
    })
}

fn agent_event(words: &mut Words<'_>) -> Result<Event, Bad> {
    if words.verb() == "whitelist" {
        let agents = words.maybe().unwrap_or_default();
        return Ok(Event::Whitelist(list(agents).map(str::to_owned).collect()));
    }
    let agent = words.name("an agent")?;
    Ok(match words.verb() {
        "agent" => {
            let total = words.bundle()?;
            let (mut used, mut takes_many_roles) = (Vec::new(), true);
            while let Some(word) = words.maybe() {
                match word.split_once('=') {
                    Some(("used", value)) => used.push(used_by(value)?),
                    Some(("caps", "none")) => takes_many_roles = false,
                    _ => return Err(unknown("agent", word)),
                }
            }
            Event::Agent { agent, total, used, takes_many_roles }
        }
        "update-agent" => Event::UpdateAgent { agent, total: words.bundle()? },
        "agent-attrs" => {
            let attributes = attributes(words.maybe().unwrap_or_default())?;
            Event::AgentAttributes { agent, attributes }
        }
        "unavailable" => {
            // When it begins is told to frameworks, and decides nothing.
            words.seconds()?;
            Event::Unavailable { agent }
        }
        _ => Event::RemoveAgent { agent },
    })
}

fn used_by(text: &str) -> Result<Used, Bad> {
    let mut parts = text.splitn(3, ':');
    let (Some(framework), Some(in_role), Some(what)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(format!("`used={text}` is not `used=FRAMEWORK:ROLE:RESOURCES`"));
    };
    Ok(Used { framework: framework.to_owned(), role: role(in_role)?, what: bundle(what)? })
}

fn framework_event(words: &mut Words<'_>) -> Result<Event, Bad> {
    let framework = words.name("a framework")?;
    Ok(match words.verb() {
        "framework" => Event::Framework { framework, client: client(words)? },
        "min" => {
            let role = words.role()?;
            let amounts = smallest(words.maybe().unwrap_or_default())?;
            Event::Smallest { framework, role, amounts }
        }
        "suppress" => Event::Suppress { framework, role: words.maybe().map(role).transpose()? },
        "revive" => Event::Revive { framework, role: words.maybe().map(role).transpose()? },
        "deactivate" => Event::Deactivate { framework },
        "activate" => Event::Activate { framework },
        _ => Event::RemoveFramework { framework },
    })
}

fn client(words: &mut Words<'_>) -> Result<Client, Bad> {
    let mut client = Client {
        capabilities: BTreeSet::from([Capability::ManyRoles]),
        is_active: true,
        ..Client::default()
    };
    while let Some(word) = words.maybe() {
        match word.split_once('=') {
            Some(("roles", names)) => client.roles = roles(names)?,
            Some(("caps", names)) => client.capabilities.extend(capabilities(names)?),
            Some(("min", value)) => {
                let (name, amounts) =
                    value.split_once(':').ok_or_else(|| unknown("min=", value))?;
                client.smallest.entry(role(name)?).or_default().extend(smallest(amounts)?);
            }
            None if word == "inactive" => client.is_active = false,
            _ => return Err(unknown("framework", word)),
        }
    }
    if client.roles.is_empty() { Err("`framework` needs roles=".to_owned()) } else { Ok(client) }
}

fn other_event(words: &mut Words<'_>) -> Result<Event, Bad> {
    Ok(match words.verb() {
        "recover" => recover(words)?,
        "recover-all" => Event::RecoverAll,
        "convert" => Event::Convert {
            whose: whose(words)?,
            from: words.bundle()?,
            // Nothing after it: what is converted is gone.
            to: words.maybe().map_or_else(|| Ok(Bundle::default()), bundle)?,
        },
        "reserve-free" => {
            let (agent, role) = (words.name("an agent")?, words.role()?);
            let what = words.bundle()?;
            let is_allowed = match words.next("`ok` or `fail`")? {
                "ok" => true,
                "fail" => false,
                word => return Err(unknown("reserve-free", word)),
            };
            Event::ReserveFree { agent, role, what, is_allowed }
        }
        "quota" => quota(words)?,
        "weight" => weight(words).map(|(role, milli)| Event::Weight { role, milli })?,
        "tick" => Event::Tick(words.seconds()?),
        word => return Err(format!("unknown word `{word}`")),
    })
}

fn whose(words: &mut Words<'_>) -> Result<Whose, Bad> {
    let framework = words.name("a framework")?;
    Ok(Whose { framework, agent: words.name("an agent")?, role: words.role()? })
}

fn recover(words: &mut Words<'_>) -> Result<Event, Bad> {
    let whose = whose(words)?;
    let what = match words.next("resources, or `all`")? {
        "all" => None,
        text => Some(bundle(text)?),
    };
    let filter = match words.maybe().map(|word| (word, word.split_once('='))) {
        None => None,
        Some((_, Some(("filter", value)))) => Some(seconds(value)?),
        Some((word, _)) => return Err(unknown("recover", word)),
    };
    Ok(Event::Recover { whose, what, filter })
}

fn quota(words: &mut Words<'_>) -> Result<Event, Bad> {
    let role = words.role()?;
    let (mut guarantee, mut limit) = (None, None);
    while let Some(word) = words.maybe() {
        match word.split_once('=') {
            Some(("guarantees", value)) if guarantee.is_none() => guarantee = Some(scalars(value)?),
            Some(("limits", value)) if limit.is_none() => limit = Some(scalars(value)?),
            _ => return Err(unknown("quota", word)),
        }
    }
    match (guarantee, limit) {
        (None, None) => Err("`quota` needs guarantees= or limits=".to_owned()),
        (guarantee, limit) => Ok(Event::Quota {
            role,
            guarantee: guarantee.unwrap_or_default(),
            limit: limit.unwrap_or_default(),
        }),
    }
}

/// A role, and its weight in thousandths.
pub(crate) fn weight(words: &mut Words<'_>) -> Result<(Role, u64), Bad> {
    let role = words.role()?;
    match milli(words.next("a weight")?)? {
        0 => Err("a weight is not zero".to_owned()),
        milli => Ok((role, milli)),
    }
}
