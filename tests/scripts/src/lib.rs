//! Stories: lines that say what happens to a leader, each followed by what came of it.
//!
//! Owns the little language of `stories/*.txt`. A line that begins with `>` is expected output; `#` is a comment.
//! Never compares anything itself: [`tell`] gives the whole story anew, and the test compares the texts.

mod cast;
mod print;

use cast::Cast;

/// Tells a story: every line of it that is not output, each followed by its output.
///
/// # Panics
/// At a line that is not understood, with its number.
pub fn tell(story: &str) -> String {
    let mut cast = Cast::new();
    let mut told = String::new();
    for (at, line) in story.lines().enumerate() {
        if line.starts_with('>') {
            continue;
        }
        told.push_str(line);
        told.push('\n');
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let happened = cast.happen(&words);
        assert!(happened.is_some(), "line {} is not understood: {line}", at + 1);
        for outcome in happened.unwrap_or_default() {
            told.push_str("> ");
            told.push_str(&outcome);
            told.push('\n');
        }
    }
    told
}
