//! What a person's commands do.

use super::{
    NEWEST,
    desk::{Desk, Next, Question, Talk, now},
};
use crate::{
    command::{self, Command},
    prompt, query,
    recall::Which,
    render::{self, NARROW},
    verbs::room,
};
use protocol::{
    Content, MessageId, Room,
    local::{From, Request},
};

/// Messages that a search shows.
const FOUND: u32 = 20;

impl Desk {
    /// Does what a typed line says; what takes more than this terminal is left to the caller.
    pub(super) fn command(&mut self, talk: &mut Talk, line: &str) -> Next {
        match command::parse(line) {
            Ok(Command::Quit) => return Next::Quit,
            Ok(Command::Nick(nick)) => return Next::Rename(nick),
            Ok(Command::Editor(text)) => return Next::Write(text),
            Ok(command) => self.obey(talk, command),
            Err(error) => self.note(&error.to_string()),
        }
        Next::GoOn
    }

    fn obey(&mut self, talk: &mut Talk, command: Command) {
        let here = self.current.clone();
        match command {
            Command::Nothing | Command::Quit | Command::Nick(_) | Command::Editor(_) => {}
            Command::Say(text) => self.say_in(talk, here, Content::Text(text)),
            Command::Me(text) => self.say_in(talk, here, Content::Action(text)),
            Command::Reply(which, text) => {
                if let Some(to) = self.which_of_others(talk, &which) {
                    self.say_in(talk, here, Content::Reply { to, text });
                }
            }
            Command::Edit(which, text) => {
                if let Some(of) = self.which_of_mine(talk, &which) {
                    self.say_in(talk, here, Content::Edit { of, text });
                }
            }
            Command::Delete(which) => {
                if let Some(of) = self.which_of_mine(talk, &which) {
                    self.say_in(talk, here, Content::Delete { of });
                }
            }
            Command::React { which, emoji, on } => {
                if let Some(to) = self.which_of_others(talk, &which) {
                    self.react(talk, to, &emoji, on);
                }
            }
            Command::Join(target) => {
                let room = target.resolve(talk.me());
                self.hint(talk, &room);
                self.open(talk, room);
            }
            Command::Switch(target) => {
                let room = target.resolve(talk.me());
                if talk.follow().contains(&room) {
                    self.go_to(talk, room);
                } else if self.known.get(&room) == Some(&true) {
                    self.open(talk, room);
                } else {
                    let label = self.label(&room, talk.me());
                    self.note(&format!("{label} is not open: /join opens it"));
                    self.hint(talk, &room);
                }
            }
            Command::Leave(target) => {
                let room = target.map_or(here, |target| target.resolve(talk.me()));
                self.leave(talk, room);
            }
            Command::Message(target, text) => {
                let room = target.resolve(talk.me());
                self.hint(talk, &room);
                self.say_in(talk, room, Content::Text(text));
            }
            Command::Who(target) => {
                let room = target.map_or(here, |target| target.resolve(talk.me()));
                let request = Request::Who {
                    room: room.clone(),
                    after: None,
                };
                talk.ask(Question::Who(room), request);
            }
            Command::Topic(None) => {
                let topic = self.topics.get(&here).filter(|topic| !topic.is_empty());
                let topic = topic.map_or("no topic is set", String::as_str).to_owned();
                self.note(&topic);
            }
            Command::Topic(Some(topic)) => {
                let request = Request::SetTopic { room: here, topic };
                talk.ask(Question::Do("the topic was not set"), request);
            }
            Command::Govern(verb, what) => match room::typed(verb, &what, talk.me()) {
                Ok(act) => {
                    let (room, id) = (here, MessageId::new());
                    let request = Request::Govern { room, id, act };
                    talk.ask(Question::Do("that was not done"), request);
                }
                Err(error) => self.note(&error.to_string()),
            },
            Command::Rooms => talk.ask(Question::Rooms, Request::Rooms { after: None }),
            Command::History(limit) => {
                let request = Request::History {
                    room: here.clone(),
                    before: None,
                    limit,
                };
                talk.ask(Question::History(here), request);
            }
            Command::Search(words) => self.search(talk, &words),
            Command::Status => talk.ask(Question::Status, Request::Status),
            Command::Away(away) => {
                talk.ask(Question::Do("that was not told"), Request::SetAway { away });
                self.note(if away {
                    "you show as away; /back ends that"
                } else {
                    "you show as here"
                });
            }
            Command::Ignore(None) => {
                let names = self.ignored.names();
                self.note(&if names.is_empty() {
                    "nobody is ignored".to_owned()
                } else {
                    format!("ignored: {}", names.join(", "))
                });
            }
            Command::Ignore(Some(who)) => self.ignore(&who, true),
            Command::Unignore(who) => self.ignore(&who, false),
            Command::Set(None) => self.note(&self.preferences.summary()),
            Command::Set(Some((name, None))) => match self.preferences.show(&name) {
                Ok(shown) => self.note(&shown),
                Err(error) => self.note(&error.to_string()),
            },
            Command::Set(Some((name, Some(value)))) => match self.preferences.set(&name, &value) {
                Ok(()) => {
                    self.choose_colours();
                    self.note(&self.preferences.summary());
                }
                Err(error) => self.note(&error.to_string()),
            },
            Command::Help => {
                let columns = render::columns();
                for (usage, what) in command::help() {
                    let mark = match columns {
                        Some(..NARROW) => format!("   {usage}\n      "),
                        _ => format!("   {usage:<25} "),
                    };
                    let line = self.style().under(&mark, what, columns);
                    self.backlog.push(line);
                }
                self.note("anything else is said here; // begins a line with /");
            }
        }
    }

    /// The message of somebody else that is meant; says so if there is none.
    fn which_of_others(&mut self, talk: &Talk, which: &Which) -> Option<MessageId> {
        let recall = &self.transcript.recall;
        let found = recall.find(&self.current, which, talk.me(), false);
        let id = found.map(|said| said.id);
        if id.is_none() {
            self.note("there is no such message of somebody else in this room");
        }
        id
    }

    /// The message of one's own that is meant, on its way or not; says so if there is none, or
    /// not any more.
    fn which_of_mine(&mut self, talk: &Talk, which: &Which) -> Option<MessageId> {
        let recall = &self.transcript.recall;
        match recall.find(&self.current, which, talk.me(), true) {
            Some(said) if said.taken_back => {
                let before = match which {
                    Which::Back(number) => format!("; ^{} is the one before", number + 1),
                    Which::By(_) => String::new(),
                };
                self.note(&format!("you took that message back already{before}"));
                None
            }
            Some(said) => Some(said.id),
            None => {
                self.note("there is no such message of yours in this room");
                None
            }
        }
    }

    fn react(&mut self, talk: &mut Talk, to: MessageId, emoji: &str, on: bool) {
        let room = self.current.clone();
        let emoji = match with_emoji(emoji) {
            Ok(emoji) => emoji,
            Err(error) => return self.note(&error),
        };
        let said = self.transcript.recall.get(&room, to);
        if !on && said.is_some_and(|said| !said.has_reaction(talk.me(), &emoji)) {
            return self.note(&format!("you have not reacted to that with {emoji}"));
        }
        self.say_in(talk, room, Content::React { to, emoji, on });
    }

    /// Goes to another room that is open; stays where there is no such room.
    pub(super) fn switch(&mut self, talk: &mut Talk, which: prompt::Which) {
        let rooms: Vec<&Room> = talk.follow().rooms().collect();
        let here = rooms.iter().position(|room| **room == self.current);
        let there = match which {
            prompt::Which::Number(number) => usize::from(number).checked_sub(1),
            // The current room may have been left elsewhere.
            prompt::Which::Next => Some(here.map_or(0, |here| (here + 1) % rooms.len())),
            prompt::Which::Previous => {
                let last = rooms.len().saturating_sub(1);
                Some(here.map_or(last, |here| (here + last) % rooms.len()))
            }
        };
        let room = there.and_then(|at| rooms.get(at).map(|room| (*room).clone()));
        if let Some(room) = room {
            self.go_to(talk, room);
        }
    }

    /// Makes an open room the current one.
    pub(super) fn go_to(&mut self, talk: &mut Talk, room: Room) {
        if self.current == room {
            return;
        }
        self.current = room;
        self.tell_noise();
        let label = self.label(&self.current, talk.me());
        let rule = self.transcript.rule(&label, render::columns());
        self.backlog.push(rule);
        self.ask_names(talk);
    }

    /// Makes a room the current one, and opens it if it is not.
    fn open(&mut self, talk: &mut Talk, room: Room) {
        let is_new = !talk.follow().contains(&room);
        if is_new {
            talk.read(room.clone(), From::Newest(NEWEST));
        }
        self.go_to(talk, room.clone());
        // A conversation with one person is open by itself, from what is new in it.
        if matches!(room, Room::Direct(_)) && self.visited.insert(room.clone()) && !is_new {
            let request = Request::History {
                room: room.clone(),
                before: None,
                limit: NEWEST,
            };
            talk.ask(Question::History(room), request);
        }
    }

    /// Says so if there is a room by the name of a person whom one has not talked to.
    fn hint(&mut self, talk: &Talk, room: &Room) {
        if !matches!(room, Room::Direct(_)) || talk.follow().contains(room) {
            return;
        }
        let name = room.seen_by(talk.me());
        let open = talk.follow().rooms();
        let there = open.chain(self.known.keys()).find(|other| {
            !matches!(other, Room::Direct(_)) && other.seen_by(talk.me()).get(1..) == Some(&name)
        });
        if let Some(there) = there.map(|there| there.seen_by(talk.me())) {
            self.note(&format!(
                "{name} is a person here: did you mean the room {there}?"
            ));
        }
    }

    fn leave(&mut self, talk: &mut Talk, room: Room) {
        if !talk.follow().contains(&room) {
            let label = self.label(&room, talk.me());
            return self.note(&format!("{label} is not open"));
        }
        if self.current == room {
            let other = talk.follow().rooms().find(|other| **other != room);
            let Some(other) = other.cloned() else {
                return self.note("this is the only open room: /join opens another, /quit leaves");
            };
            // Now, because the prompt is shown next: it cannot change once a line is typed.
            self.go_to(talk, other);
        }
        if matches!(room, Room::Direct(_)) {
            self.close(talk, &room);
            let label = self.label(&room, talk.me());
            self.note(&format!("{label} is closed until somebody writes there"));
        } else {
            let request = Request::Leave { room: room.clone() };
            talk.ask(Question::Leave(room), request);
        }
    }

    /// Does not read a room any more.
    pub(super) fn close(&mut self, talk: &mut Talk, room: &Room) {
        talk.unread(room);
        self.caught_up.remove(room);
        // What is still on its way there is not seen to arrive.
        self.mine.retain(|mine| mine.room != *room);
    }

    fn search(&mut self, talk: &mut Talk, words: &str) {
        match query::parse(words, talk.me(), now(), &self.style().zone) {
            Ok(query) => {
                let request = Request::Search {
                    query: query.clone(),
                    older_than: None,
                    limit: FOUND,
                };
                talk.ask(Question::Search, request);
                let after = None;
                talk.ask(Question::Pending, Request::Pending { query, after });
            }
            Err(error) => self.note(&error.to_string()),
        }
    }

    fn ignore(&mut self, who: &str, on: bool) {
        match self.ignored.set(who, on) {
            Ok(said) => self.note(&said),
            Err(error) => self.note(&error.to_string()),
        }
    }
}

/// What a person wrote for an emoji: a `:shortcode:` becomes it; if there is none, what to say of
/// that.
fn with_emoji(text: &str) -> Result<String, String> {
    let code = text
        .strip_prefix(':')
        .and_then(|rest| rest.strip_suffix(':'));
    let Some(code) = code.filter(|code| !code.is_empty()) else {
        return Ok(text.to_owned());
    };
    if let Some(emoji) = emojis::get_by_shortcode(code) {
        return Ok(emoji.to_string());
    }
    let nearest = nearest_shortcode(code);
    let hint = nearest.map_or_else(String::new, |code| format!(", did you mean :{code}:?"));
    Err(format!("there is no emoji :{code}:{hint}"))
}

/// The shortcode with the fewest letters to change, if they are few.
fn nearest_shortcode(typed: &str) -> Option<&'static str> {
    // Longer ones would make the comparison costly.
    if typed.len() > 40 {
        return None;
    }
    let codes = emojis::iter().flat_map(emojis::Emoji::shortcodes);
    codes
        .map(|code| (command::distance(typed, code), code))
        .filter(|(distance, code)| *distance <= code.len() / 3)
        .min()
        .map(|(_, code)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortcode_is_an_emoji_or_is_answered_with_the_nearest() {
        assert_eq!(with_emoji(":tada:").unwrap(), "🎉");
        assert_eq!(with_emoji("ok").unwrap(), "ok");
        let error = with_emoji(":tda:").unwrap_err();
        assert_eq!(error, "there is no emoji :tda:, did you mean :tada:?");
        let error = with_emoji(":no_such_thing_at_all:").unwrap_err();
        assert_eq!(error, "there is no emoji :no_such_thing_at_all:");
    }
}
