//! Words, counted by another program than the one that is tested, and text to count them in.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What `wordcount` has to write of these files: written from the definition of a word alone.
pub fn count(files: &[Vec<u8>]) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for file in files {
        for word in file.split(|byte| !byte.is_ascii_alphabetic()).filter(|word| !word.is_empty()) {
            let word = String::from_utf8(word.to_ascii_lowercase()).unwrap();
            *counts.entry(word).or_default() += 1;
        }
    }
    let mut text = format!("words {} distinct {}\n", counts.values().sum::<u64>(), counts.len());
    let mut ranked: Vec<(String, u64)> = counts.into_iter().collect();
    ranked.sort_by_key(|(word, count)| (Reverse(*count), word.clone()));
    for (word, count) in ranked {
        writeln!(text, "{count} {word}").unwrap();
    }
    text
}

/// So many bytes of text without sense, the same for a seed: words of one to twelve letters over a small alphabet, in
/// both cases, between bytes of every sort.
pub fn scramble(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    // Knuth's constants for a linear generator; the high bits are the good ones.
    let mut next = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let separators = b" \n\t.,;-_'0123\x00\x80\xc3\xff";
    let mut text = Vec::with_capacity(bytes + 16);
    while text.len() < bytes {
        for _ in 0..=next(12) {
            let letter = b"aeinorst"[usize::try_from(next(8)).unwrap()];
            text.push(if next(5) == 0 { letter.to_ascii_uppercase() } else { letter });
        }
        for _ in 0..=next(3) {
            text.push(separators[usize::try_from(next(separators.len() as u64)).unwrap()]);
        }
    }
    text.truncate(bytes);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_ascii_letters_in_lower_case() {
        let files = [b"It's 2 it,IT\xc3\xa9x".to_vec(), Vec::new()];
        assert_eq!(count(&files), "words 5 distinct 3\n3 it\n1 s\n1 x\n");
        assert_eq!(scramble(7, 1_000), scramble(7, 1_000));
    }
}
