//! Orders to the shell. All are to be performed in order, and only after the entries of the same batch are committed.

use crate::entry::Entry;
use crate::input::{ConnectionId, Ticket};
use crate::refusal::Refusal;
use tepui_proto::api::FrameworkView;
use tepui_proto::calls::Response;
use tepui_proto::control::MasterMessage;
use tepui_proto::scheduler::{Open, ToScheduler};
use tepui_proto::{Digest, FrameworkId, Incarnation};

/// What a batch of inputs led to.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be committed as one.
    pub entries: Vec<Entry>,
    /// To be performed then.
    pub orders: Vec<Effect>,
}

/// An order.
#[derive(Debug)]
pub enum Effect {
    /// Send this on an agent's control stream.
    Send {
        /// Over which connection; gone connections are passed over.
        connection: ConnectionId,
        /// What.
        message: MasterMessage,
    },
    /// End a connection.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Stable.
        code: &'static str,
    },
    /// Open a stream for a scheduler and send the durable state. Its end, and each frame, is an input.
    OpenScheduler {
        /// Over which connection.
        connection: ConnectionId,
        /// What to say first.
        open: Open,
        /// Then, in order.
        pages: Vec<ToScheduler>,
    },
    /// Send a turn.
    SendTurn {
        /// Whose.
        framework: FrameworkId,
        /// On the stream of this instance.
        incarnation: Incarnation,
        /// A `ToScheduler::Turn`.
        turn: ToScheduler,
    },
    /// Close a scheduler's stream.
    CloseScheduler {
        /// Whose.
        framework: FrameworkId,
        /// Which instance.
        incarnation: Incarnation,
    },
    /// Answer a ticket.
    Reply {
        /// Which.
        ticket: Ticket,
        /// With what.
        result: Result<ReplyBody, Refusal>,
    },
    /// Nothing refers to these blobs any more; their bytes may go.
    ForgetBlobs(Vec<Digest>),
}

/// A good answer.
#[derive(Debug)]
pub enum ReplyBody {
    /// It is done.
    Done,
    /// It was accepted; whether it was there before.
    Framework {
        /// As it is now.
        view: Box<FrameworkView>,
        /// Whether this was an upgrade.
        upgraded: bool,
    },
    /// What the scheduler answered.
    Response(Response),
}
