//! What the person says, until it is in its room's log.

use super::{
    NEWEST,
    desk::{Desk, Talk},
    transcript,
};
use crate::{outbound::Until, render};
use protocol::{
    Content, MessageId, Room, UserName,
    local::{From, LinkStatus},
};
use std::time::Duration;
use tokio::time::Instant;

/// How long a message may be on its way before that is said.
pub(super) const PENDING_AFTER: Duration = Duration::from_secs(1);

/// Bytes of text typed ahead of what the conversation can take, and kept at most.
const WAITING_BYTES: usize = 1024 * 1024;

/// A message of one's own that is not in its room's log yet.
pub(super) struct Mine {
    pub(super) id: MessageId,
    pub(super) room: Room,
    pub(super) text: String,
    pub(super) said: Instant,
    pub(super) queued: bool,
    pub(super) shown: bool,
}

impl Desk {
    /// Says what was typed: a line that begins with two slashes begins with one.
    pub(super) fn say(&mut self, talk: &mut Talk, text: String) {
        let text = text.strip_prefix('/').map_or(text.as_str(), |rest| rest);
        let room = self.current.clone();
        self.say_in(talk, room, Content::Text(text.to_owned()));
    }

    pub(super) fn say_in(&mut self, talk: &mut Talk, room: Room, content: Content) {
        if let Err(error) = content.encode() {
            return self.note(&format!("not sent: {error}"));
        }
        let bytes = size(&content);
        if self.waiting_bytes + bytes > WAITING_BYTES {
            let text = self.describe(&room, &content, talk.me());
            return self.note(&format!("not sent, too much waits for the agent: {text}"));
        }
        if !talk.follow().contains(&room) {
            // What is said, and the answers, are to be seen; the room may have been left elsewhere.
            talk.read(room.clone(), From::Unread(NEWEST));
        }
        self.waiting_bytes += bytes;
        let id = MessageId::new();
        self.transcript.recall.say(id, &room, talk.me(), &content);
        self.waiting.push_back((id, room, content));
        self.say_waiting(talk);
    }

    /// Says what waits as far as the conversation has room for it.
    pub(super) fn say_waiting(&mut self, talk: &mut Talk) {
        if !self.waiting.is_empty() && !talk.outbound().has_room() {
            talk.outbound_mut().forget_queued();
            self.mine.retain(|mine| !mine.queued);
        }
        while talk.outbound().has_room()
            && let Some((id, room, content)) = self.waiting.pop_front()
        {
            self.waiting_bytes -= size(&content);
            self.mine.push_back(Mine {
                id,
                room: room.clone(),
                text: self.describe(&room, &content, talk.me()),
                said: Instant::now(),
                queued: false,
                shown: false,
            });
            talk.say(id, room, content, Until::Committed);
        }
    }

    /// How many messages are not durable on this host yet, as far as is known.
    pub(super) fn unaccepted(&self, talk: &Talk) -> usize {
        self.waiting.len() + talk.outbound().unaccepted()
    }

    /// Says which messages are still on their way: at once if it is known that they will be.
    pub(super) fn tell_pending(&mut self, talk: &Talk, now: Instant) {
        let offline = match &self.link {
            Some(LinkStatus::LocalOnly) => {
                Some("this host has no server: kept until `chat join HOST` names one")
            }
            Some(LinkStatus::Waiting { .. } | LinkStatus::Connecting { .. }) => {
                Some("kept on this host until the server has it")
            }
            Some(LinkStatus::Online { .. }) | None => None,
        };
        let mut lines = Vec::new();
        for mine in self.mine.iter_mut().filter(|mine| !mine.shown) {
            let is_local = mine.room.is_local_to(&talk.me().host);
            let away = offline.filter(|_| mine.queued && !is_local);
            if now < mine.said + PENDING_AFTER && away.is_none() {
                continue;
            }
            mine.shown = true;
            let why = match (away, mine.queued) {
                (Some(why), _) => why,
                (None, true) => "kept on this host until the server has it",
                (None, false) => "not accepted by the agent yet",
            };
            let text = render::lines(&mine.text, 3);
            let to = if mine.room == self.current {
                String::new()
            } else {
                format!("{}: ", transcript::label(&mine.room, talk.me()))
            };
            lines.push(format!("{to}{text}  (pending: {why})"));
        }
        for line in lines {
            let line = self.own_line(".. ", &line);
            self.backlog.push(line);
        }
    }

    /// What a message of one's own says, while it is on its way; what it is about is named.
    pub(super) fn describe(&self, room: &Room, content: &Content, me: &UserName) -> String {
        let about = content.about();
        let said = about.and_then(|id| self.transcript.recall.get(room, id));
        let quote = said.map(|said| &said.quote);
        let words = quote.map_or("an earlier message", |quote| &quote.excerpt);
        match content {
            Content::Delete { .. } => format!("take back: {words}"),
            Content::Edit { text, .. } => format!("{text} (edit of: {words})"),
            Content::React { emoji, on, .. } => {
                let verb = if *on { "" } else { "(no more) " };
                let of = quote.map_or(String::new(), |quote| {
                    format!("{}: ", render::name_seen_by(&quote.author, me))
                });
                format!("{verb}{emoji} → {of}{words}")
            }
            content => content.text().unwrap_or_default().to_owned(),
        }
    }
}

/// Bytes of words.
fn size(content: &Content) -> usize {
    content.text().map_or(0, str::len)
}
