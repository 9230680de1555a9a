//! Any bytes, cut anywhere, as each kind of frame: a message, a refusal, or a wait for more; never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;
use tepui_proto::cell::{CellCommand, CellEvent};
use tepui_proto::control::{
    AgentMessage, AgentStream, BlobChunk, LogChunk, MasterMessage, MasterStream,
};
use tepui_proto::frame::Decoder;
use tepui_proto::scheduler::{FromScheduler, ToScheduler};

fn decode<T: DeserializeOwned>(bytes: &[u8], cut: usize) {
    let mut decoder = Decoder::default();
    for piece in bytes.chunks(cut) {
        decoder.push(piece);
        loop {
            match decoder.pop::<T>() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (cut, bytes) = input;
    let cut = usize::from(cut).max(1);
    decode::<AgentStream>(&bytes, cut);
    decode::<AgentMessage>(&bytes, cut);
    decode::<MasterStream>(&bytes, cut);
    decode::<MasterMessage>(&bytes, cut);
    decode::<ToScheduler>(&bytes, cut);
    decode::<FromScheduler>(&bytes, cut);
    decode::<BlobChunk>(&bytes, cut);
    decode::<LogChunk>(&bytes, cut);
    decode::<CellCommand>(&bytes, cut);
    decode::<CellEvent>(&bytes, cut);
});
