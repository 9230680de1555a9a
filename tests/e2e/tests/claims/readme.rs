//! What the README shows is what there is.

use std::collections::BTreeSet;
use std::fs;
use tepui_e2e::{Cluster, guest, root};

/// What stands between `<!-- NAME -->` and `<!-- /NAME -->`.
fn block(name: &str) -> String {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (open, close) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let inside = readme.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
    inside.unwrap_or_else(|| panic!("the README has no block `{name}`")).0.to_owned()
}

/// A line with every number as `#` and every gap as one: what does not depend on the machine, or on which agent it was.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    let mut last = ' ';
    for c in line.trim().chars() {
        let c = match c {
            '0'..='9' => '#',
            '.' if last == '#' => continue,
            c if c.is_whitespace() => ' ',
            c => c,
        };
        if c != last || !(c == '#' || c == ' ') {
            shape.push(c);
        }
        last = c;
    }
    shape.trim_end().to_owned()
}

fn shapes(text: &str) -> BTreeSet<String> {
    text.lines().map(shape).filter(|shape| !shape.is_empty()).collect()
}

#[test]
fn the_demo_of_the_readme_is_what_one_sees() {
    let cluster = Cluster::start(2);
    let guests = guest("hello.wasm").parent().unwrap().to_owned();
    let block = block("demo");
    let mut commands = 0;
    for part in block.split("\n$ ").skip(1) {
        let (command, shown) = part.split_once('\n').unwrap();
        let shown = shapes(shown.trim_end().trim_end_matches("```"));
        let words: Vec<&str> = command.split(' ').collect();
        let seen = match words.as_slice() {
            ["tepui", "dev", "--agents", "2", "&"] => cluster.greeting().to_owned(),
            ["tepui", words @ ..] => {
                let ran = cluster.program(words).within(&guests).run();
                format!("{}{}", ran.text(), ran.stderr)
            }
            _ => panic!("what is `{command}`?"),
        };
        assert_eq!(shapes(&seen), shown, "{command}\n{seen}");
        commands += 1;
    }
    assert!(commands >= 5, "{block}");
}

#[test]
fn the_figures_of_the_readme_have_the_rows_of_the_bench() {
    let mut rows = BTreeSet::new();
    for file in fs::read_dir(root().join("tests/bench/src")).unwrap() {
        let source = fs::read_to_string(file.unwrap().path()).unwrap();
        for maker in ["Row::of(\"", "Row::named(\""] {
            let named = source.split(maker).skip(1).filter_map(|rest| rest.split_once('"'));
            rows.extend(named.map(|(name, _)| name.to_owned()));
        }
    }
    let block = block("bench");
    let lines = block.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let shown: BTreeSet<String> = lines.map(|(name, _)| name.to_owned()).collect();
    assert!(shown.len() > 5, "{block}");
    assert_eq!(shown, rows);
}

#[test]
fn the_scheduler_in_fifteen_lines_of_the_readme_is_the_one_that_is_built_and_run() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let source = fs::read_to_string(root().join("guests/fifteen/src/lib.rs")).unwrap();
    let block = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    let shown = block.unwrap_or_else(|| panic!("the README shows no scheduler"));
    let code = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("//!") && !line.is_empty());
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(code(shown), code(&source));
    assert_eq!(code(&source).len(), 15, "it is not fifteen lines any more");
}
