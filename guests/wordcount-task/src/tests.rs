//! Cuts may go anywhere, also through words, and the counts stay those of the whole.

use super::*;
use std::collections::BTreeMap;

const TEXT: &[u8] = b"The quick brown fox, the-lazy dog's (x) caf\xc3\xa9 THE end";

fn plain(text: &[u8]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for word in text.split(|byte| !byte.is_ascii_alphabetic()).filter(|word| !word.is_empty()) {
        *counts.entry(String::from_utf8(word.to_ascii_lowercase()).unwrap()).or_insert(0) += 1;
    }
    counts
}

/// One tally per piece, as a map task would write it.
fn map(blob: u32, text: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut at = 0;
    let mut files = Vec::new();
    for end in cuts.iter().copied().chain([text.len()]) {
        if end > at {
            files.push(map_one(blob, text, at, end));
        }
        at = end;
    }
    files
}

fn map_one(blob: u32, text: &[u8], first: usize, end: usize) -> Vec<u8> {
    let (length, last) = ((end - first) as u64, end == text.len());
    let piece = Piece { blob, first: first as u64, length, last, path: "p0".to_owned() };
    assert_eq!(Piece::parse(&piece.to_string()), Some(piece.clone()));
    let mut tally = Tally::default();
    tally.scan(&piece, &text[first..end]).unwrap();
    let mut file = Vec::new();
    tally.write(&mut file).unwrap();
    file
}

fn reduce(files: &[Vec<u8>]) -> Tally {
    let mut tally = Tally::default();
    files.iter().for_each(|file| tally.read(file.as_slice()).unwrap());
    tally
}

fn counts(tally: &Tally) -> BTreeMap<String, u64> {
    tally.ranking().unwrap().into_iter().map(|(word, count)| (word.to_owned(), count)).collect()
}

#[test]
fn every_cut_gives_the_counts_of_the_whole() {
    let whole = plain(TEXT);
    for a in 0..=TEXT.len() {
        assert_eq!(counts(&reduce(&map(0, TEXT, &[a]))), whole, "cut at {a}");
        for b in a..=TEXT.len() {
            assert_eq!(counts(&reduce(&map(0, TEXT, &[a, b]))), whole, "cut at {a} and {b}");
        }
    }
}

#[test]
fn words_may_be_longer_than_pieces() {
    let text = [b"x".repeat(50), b" ".to_vec(), b"Y".repeat(30)].concat();
    let cuts: Vec<usize> = (1..text.len()).collect();
    assert_eq!(counts(&reduce(&map(0, &text, &cuts))), plain(&text));
    assert_eq!(counts(&reduce(&map(0, &b"z".repeat(9), &[1, 2, 3, 7]))), plain(&b"z".repeat(9)));
}

#[test]
fn reduces_may_form_any_tree_in_any_order() {
    let files = map(0, TEXT, &[3, 4, 9, 10, 17, 22, 30, 31]);
    for split in 0..files.len() {
        for step in [1, 2, 4, 5, 7] {
            let mut order: Vec<Vec<u8>> = (0..files.len())
                .map(|at| files[(at * step + split) % files.len()].clone())
                .collect();
            let right = order.split_off(split);
            let halves = [order, right].map(|half| {
                let mut file = Vec::new();
                reduce(&half).write(&mut file).unwrap();
                file
            });
            assert_eq!(counts(&reduce(&halves)), plain(TEXT), "split {split} step {step}");
        }
    }
}

#[test]
fn blobs_do_not_run_into_each_other() {
    let files = [map(0, b"one tw", &[2]), map(1, b"o three", &[1])].concat();
    let expected = plain(b"one tw o three");
    assert_eq!(counts(&reduce(&files)), expected);
}

#[test]
fn what_is_missing_or_doubled_is_an_error() {
    let files = map(0, TEXT, &[10, 20]);
    for missing in 0..files.len() {
        let mut rest = files.clone();
        rest.remove(missing);
        assert!(matches!(reduce(&rest).ranking(), Err(CountsError::Incomplete { .. })));
    }
    let mut tally = reduce(&files[..2]);
    assert!(matches!(tally.read(files[1].as_slice()), Err(CountsError::Overlap { .. })));
    assert!(matches!(tally.read(b"count x y\n".as_slice()), Err(CountsError::Line(_))));
    let piece = Piece { blob: 0, first: 0, length: 3, last: true, path: "p0".to_owned() };
    assert!(Tally::default().scan(&piece, b"ab".as_slice()).is_err());
    assert_eq!(Piece::parse("0:0:0:1:p"), None);
}

#[test]
fn the_result_is_sorted_by_count_then_word() {
    let mut result = Vec::new();
    reduce(&map(0, b"b a c b A b", &[])).write_result(&mut result).unwrap();
    assert_eq!(String::from_utf8(result).unwrap(), "words 6 distinct 3\n3 b\n2 a\n1 c\n");
    let mut nothing = Vec::new();
    Tally::default().write_result(&mut nothing).unwrap();
    assert_eq!(nothing, b"words 0 distinct 0\n");
}
