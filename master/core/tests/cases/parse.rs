//! Reads the format: `case` and `sorter` blocks, a step a line, `#` for comments.
//!
//! A line that means nothing is an error with its number, and takes its block with it; the others are read all the same.

use super::lines::{case_step, weight};
use super::step::{At, Block, Body, Case, Event, SorterStep, Step};
use super::words::{Bad, Words, bundle, list, roles, seconds, unknown};
use tepui_proto::{Bundle, DurationMs};

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct File {
    /// Blocks in which every line was understood.
    pub(crate) blocks: Vec<Block>,
    /// The name of the block, empty outside of any, and what is wrong with which line.
    pub(crate) errors: Vec<(String, At<Bad>)>,
}

pub(crate) fn parse(text: &str) -> File {
    let mut file = File::default();
    let mut open: Option<Block> = None;
    let mut is_broken = false;
    for (n, text) in text.lines().enumerate() {
        let line = n + 1;
        let Some(mut words) = Words::of(text) else { continue };
        let done = match words.verb() {
            "case" | "sorter" => {
                file.blocks.extend(open.take().filter(|_| !is_broken));
                is_broken = false;
                block(line, &mut words).map(|block| open = Some(block))
            }
            _ => step(open.as_mut(), line, &mut words),
        };
        if let Err(it) = done.and_then(|()| words.end()) {
            is_broken = true;
            let name = open.as_ref().map(|block| block.name.clone()).unwrap_or_default();
            file.errors.push((name, At { line, it }));
        }
    }
    file.blocks.extend(open.filter(|_| !is_broken));
    file
}

fn block(line: usize, words: &mut Words<'_>) -> Result<Block, Bad> {
    let body = match words.verb() {
        "case" => Body::Case(Case::default()),
        _ => Body::Sorter(Vec::new()),
    };
    Ok(Block { name: words.name("a name")?, line, body })
}

fn step(block: Option<&mut Block>, line: usize, words: &mut Words<'_>) -> Result<(), Bad> {
    match block.map(|block| &mut block.body) {
        None => Err(format!("`{}` stands before any `case` or `sorter`", words.verb())),
        Some(Body::Sorter(steps)) => {
            steps.push(At { line, it: sorter_step(words)? });
            Ok(())
        }
        Some(Body::Case(case)) if words.verb() == "set" => set(case, words),
        Some(Body::Case(case)) => {
            let it = case_step(words)?;
            if let Step::Event(event) = &it {
                note_names(case, event);
            }
            case.steps.push(At { line, it });
            Ok(())
        }
    }
}

fn note_names(case: &mut Case, event: &Event) {
    match event {
        Event::Agent { agent, used, .. } => {
            case.agents.insert(agent.clone());
            case.frameworks.extend(used.iter().map(|used| used.framework.clone()));
        }
        Event::Framework { framework, .. } => {
            case.frameworks.insert(framework.clone());
        }
        _ => {}
    }
}

fn set(case: &mut Case, words: &mut Words<'_>) -> Result<(), Bad> {
    if !case.steps.is_empty() {
        return Err("`set` stands before all other steps of a case".to_owned());
    }
    let mut word = words.next("interval= or exclude=")?;
    loop {
        match word.split_once('=') {
            Some(("interval", value)) => case.setup.interval = interval(value)?,
            Some(("exclude", names)) => {
                case.setup.excluded.extend(list(names).map(str::to_owned));
            }
            _ => return Err(unknown("set", word)),
        }
        match words.maybe() {
            Some(next) => word = next,
            None => return Ok(()),
        }
    }
}

fn interval(text: &str) -> Result<DurationMs, Bad> {
    let interval = seconds(text)?;
    if interval.0 == 0 { Err("an interval is not zero".to_owned()) } else { Ok(interval) }
}

fn sorter_step(words: &mut Words<'_>) -> Result<SorterStep, Bad> {
    let verb = words.verb();
    Ok(match verb {
        "total" => SorterStep::Total {
            agent: words.name("an agent")?,
            total: words.maybe().map_or_else(|| Ok(Bundle::default()), bundle)?,
        },
        "add" => SorterStep::Add(roles(words.next("clients")?)?),
        "remove" => SorterStep::Remove(roles(words.next("clients")?)?),
        "activate" => SorterStep::Activate(roles(words.next("clients")?)?),
        "deactivate" => SorterStep::Deactivate(roles(words.next("clients")?)?),
        "weight" => weight(words).map(|(role, milli)| SorterStep::Weight { role, milli })?,
        "order" => SorterStep::Order(roles(words.maybe().unwrap_or_default())?),
        "alloc" | "free" | "update" => {
            let (client, agent) = (words.role()?, words.name("an agent")?);
            let what = words.bundle()?;
            match verb {
                "alloc" => SorterStep::Alloc { client, agent, what },
                "free" => SorterStep::Free { client, agent, what },
                _ => {
                    let to = words.maybe().map_or_else(|| Ok(Bundle::default()), bundle)?;
                    SorterStep::Update { client, agent, from: what, to }
                }
            }
        }
        word => return Err(format!("unknown word `{word}` in a sorter block")),
    })
}
