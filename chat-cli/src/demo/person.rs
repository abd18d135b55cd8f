//! One person of the tour: a conversation on a task of its own, which does as it is told and
//! reports what it sees.

use crate::{
    conversation::{Conversation, Happening},
    exit::Failure,
    outbound::{Fate, Until},
};
use protocol::{
    Content, MessageId, Room, Seq,
    local::{Event, From, LinkStatus, Reply, Request},
};
use tokio::{sync::mpsc, time::Instant};

/// What a person is told to do.
#[derive(Debug)]
pub(super) enum Order {
    Read(Room),
    Say {
        id: MessageId,
        room: Room,
        text: String,
    },
    AskLink,
}

/// What a person saw.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) who: usize,
    pub(super) at: Instant,
    pub(super) what: Saw,
}

#[derive(Debug)]
pub(super) enum Saw {
    Open(Room),
    Message { id: MessageId, room: Room, seq: Seq },
    Queued(MessageId),
    Committed(MessageId),
    Link(LinkStatus),
    Trouble(String),
}

/// Lives until told nothing more.
pub(super) async fn live(
    who: usize,
    mut talk: Conversation<()>,
    mut orders: mpsc::Receiver<Order>,
    reports: mpsc::Sender<Report>,
) -> Result<(), Failure> {
    loop {
        let happening = tokio::select! {
            order = orders.recv() => {
                match order {
                    None => return Ok(()),
                    Some(Order::Read(room)) => talk.read(room, From::Beginning),
                    Some(Order::Say { id, room, text }) => {
                        talk.say(id, room, Content::Text(text), Until::Committed);
                    }
                    Some(Order::AskLink) => talk.ask((), Request::Status),
                }
                continue;
            }
            happening = talk.next() => happening?,
        };
        let at = Instant::now();
        let what = match happening {
            Happening::CaughtUp { room, .. } => Saw::Open(room),
            Happening::Message(message) => Saw::Message {
                id: message.id,
                room: message.room,
                seq: message.seq,
            },
            Happening::Fate(Fate::Queued(id)) => Saw::Queued(id),
            Happening::Fate(Fate::Committed(id, _)) => Saw::Committed(id),
            Happening::Fate(Fate::Refused {
                reason, content, ..
            }) => {
                let text = content.text().unwrap_or_default();
                Saw::Trouble(format!("{text:?} was refused: {reason}"))
            }
            Happening::Event(Event::Link(link)) => Saw::Link(link),
            Happening::Answer((), Some(Ok(Reply::Status(status)))) => Saw::Link(status.link),
            Happening::OpenRefused(room, refusal) => {
                Saw::Trouble(format!("{room} cannot be read: {refusal}"))
            }
            Happening::Disconnected(reason) => Saw::Trouble(reason),
            _ => continue,
        };
        if reports.send(Report { who, at, what }).await.is_err() {
            return Ok(());
        }
    }
}
