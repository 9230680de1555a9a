//! What the README shows is what there is.

use std::fs;
use tepui_e2e::root;

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
