//! Frames from an enemy: any bytes, and good frames with bytes changed, cut anywhere.

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use tepui_proto::control::{AgentMessage, MasterMessage};
use tepui_proto::frame::{self, Decoder};
use tepui_proto::scheduler::{FromScheduler, ToScheduler};
use tepui_proto::{DurationMs, LaunchNumber, TaskKey, Term, limits};

/// How many whole messages come out before the first refusal.
fn decoded<T: DeserializeOwned>(bytes: &[u8], cut: usize) -> usize {
    let mut decoder = Decoder::default();
    let mut count = 0;
    for piece in bytes.chunks(cut.max(1)) {
        decoder.push(piece);
        loop {
            match decoder.pop::<T>() {
                Ok(Some(_)) => count += 1,
                Ok(None) => break,
                Err(_) => return count,
            }
        }
    }
    count
}

/// As [`decoded`]; how the bytes are cut on the way must not matter.
fn counted<T: DeserializeOwned>(bytes: &[u8], cut: usize) -> Result<usize, TestCaseError> {
    let count = decoded::<T>(bytes, cut);
    prop_assert_eq!(count, decoded::<T>(bytes, bytes.len()), "cut into pieces of {}", cut);
    Ok(count)
}

/// A length, a version, and a body of one byte.
const SMALLEST: usize = 6;

fn kill() -> MasterMessage {
    let key = TaskKey { framework: tepui_proto::FrameworkId(7), task: "map-1".into() };
    MasterMessage::Kill { term: Term(3), launch: LaunchNumber(9), key, grace: DurationMs(3_000) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_a_message_a_refusal_or_a_wait(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 1usize..50) {
        // Headers that pass make bodies that are looked at.
        let mut framed = u32::try_from(bytes.len() + 1).unwrap_or(1).to_le_bytes().to_vec();
        framed.push(limits::WIRE_VERSION);
        framed.extend_from_slice(&bytes);
        for input in [&bytes, &framed] {
            for count in [
                counted::<AgentMessage>(input, cut)?,
                counted::<MasterMessage>(input, cut)?,
                counted::<ToScheduler>(input, cut)?,
                counted::<FromScheduler>(input, cut)?,
            ] {
                // Of so few bytes at most one message comes, but for a few of the smallest.
                prop_assert!(count * SMALLEST <= input.len(), "{count} of {} bytes", input.len());
            }
        }
    }

    #[test]
    fn a_changed_byte_never_makes_more_than_was_sent(at in 0usize..80, to in any::<u8>(), cut in 1usize..50) {
        let mut bytes = frame::encode(&kill()).expect("a small message fits a frame");
        bytes.extend(frame::encode(&kill()).expect("a small message fits a frame"));
        prop_assert_eq!(decoded::<MasterMessage>(&bytes, cut), 2);
        let place = at % bytes.len();
        if let Some(byte) = bytes.get_mut(place) {
            *byte = to;
        }
        prop_assert!(decoded::<MasterMessage>(&bytes, cut) <= 2);
    }
}
