//! The prompt before the line: a marker of the state, and the room.
//!
//! The editor measures a prompt once a line, and paints it often. So a marker may change while a
//! line is edited as long as it keeps its width. It stands before the room: behind it, the blanks
//! that keep the width would be between the prompt and what is typed.

use super::Shared;
use rustyline::Prompt;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

/// The highest number of waiting messages that is shown as it is.
const MOST: usize = 99;

/// Different numbers of waiting messages that are shown.
const COUNTS: usize = MOST + 2;

/// How far what is said gets at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// To other hosts.
    Connected,
    /// Nowhere yet: the server or the agent is looked for.
    Looking,
    /// To this host, which belongs to no server.
    Local,
}

impl State {
    const ALL: [Self; 3] = [Self::Connected, Self::Looking, Self::Local];

    const fn symbol(self, unicode: bool) -> char {
        match (self, unicode) {
            (Self::Connected, true) => '●',
            (Self::Looking, true) => '◌',
            (Self::Local, true) => '○',
            (Self::Connected, false) => '*',
            (Self::Looking, false) => '~',
            (Self::Local, false) => '-',
        }
    }

    const fn colour(self) -> &'static str {
        match self {
            Self::Connected => "32",
            Self::Looking => "33",
            Self::Local => "2",
        }
    }
}

/// How the marker may look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) colour: bool,
    pub(super) unicode: bool,
}

/// The state that is shown at the moment.
#[derive(Debug)]
pub(super) struct Marker {
    look: Look,
    /// Which of the texts of a label it is.
    at: AtomicUsize,
}

impl Marker {
    pub(super) fn new(look: Look) -> Self {
        Self {
            look,
            at: AtomicUsize::new(Self::index(State::Looking, 0)),
        }
    }

    /// Whether that changes what is to be seen.
    pub(super) fn set(&self, state: State, waiting: u32) -> bool {
        let at = Self::index(state, waiting);
        self.at.swap(at, Ordering::Relaxed) != at
    }

    fn index(state: State, waiting: u32) -> usize {
        let waiting = usize::try_from(waiting).unwrap_or(usize::MAX);
        state as usize * COUNTS + waiting.min(MOST + 1)
    }
}

/// A prompt that tells when the editor measures and paints it: the terminal is in raw mode then.
///
/// The editor measures at the beginning of a line, and when the terminal's width has changed.
pub(super) struct Label {
    room: String,
    /// Each is made when it is needed first, and stays: the editor borrows it.
    texts: Box<[OnceLock<Text>]>,
    shared: Arc<Shared>,
}

#[derive(Debug, PartialEq, Eq)]
struct Text {
    raw: String,
    styled: String,
}

impl Label {
    pub(super) fn new(room: String, shared: Arc<Shared>) -> Self {
        let texts = std::iter::repeat_with(OnceLock::new);
        Self {
            room,
            texts: texts.take(State::ALL.len() * COUNTS).collect(),
            shared,
        }
    }

    fn text(&self) -> &Text {
        let at = self.shared.marker.at.load(Ordering::Relaxed);
        self.texts[at].get_or_init(|| {
            let state = State::ALL[at / COUNTS];
            text(&self.room, state, at % COUNTS, self.shared.marker.look)
        })
    }
}

fn text(room: &str, state: State, waiting: usize, look: Look) -> Text {
    let symbol = state.symbol(look.unicode);
    let count = match waiting {
        0 => String::new(),
        1..=MOST => waiting.to_string(),
        _ => format!("{MOST}+"),
    };
    let raw = format!("{symbol}{count:<3} {room}> ");
    let styled = if look.colour {
        let colour = state.colour();
        format!("\x1b[{colour}m{symbol}{count:<3}\x1b[0m {room}> ")
    } else {
        raw.clone()
    };
    Text { raw, styled }
}

impl Prompt for Label {
    fn raw(&self) -> &str {
        let text = &self.text().raw;
        if self.shared.gate.measured() {
            self.shared.modes.note_editing();
            self.shared.screen.begin(text);
        } else {
            self.shared.screen.resized();
        }
        text
    }

    fn styled(&self) -> &str {
        self.shared.gate.painted();
        &self.text().styled
    }
}

/// Whether the terminal shows more than ASCII, each symbol in one column.
pub(super) fn is_unicode(var: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(var)
        .find(|value| !value.is_empty())
        .unwrap_or_default();
    // Terminals there may give two columns to symbols that have one elsewhere.
    let wide = ["ja", "ko", "zh"]
        .iter()
        .any(|language| locale.starts_with(language));
    let charset = locale.to_ascii_uppercase();
    !wide && (charset.contains("UTF-8") || charset.contains("UTF8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::{gate::Gate, modes::Modes, screen::Screen};
    use rustix::pty::{OpenptFlags, openpt};
    use rustyline::GraphemeClusterMode;
    use std::sync::{Mutex, atomic::AtomicBool};
    use unicode_width::UnicodeWidthStr;

    const PLAIN: Look = Look {
        colour: false,
        unicode: false,
    };

    #[test]
    fn the_state_never_changes_the_width() {
        let shown = |state, waiting| text("&lobby", state, waiting, PLAIN).raw;
        assert_eq!(shown(State::Connected, 0), "*    &lobby> ");
        assert_eq!(shown(State::Looking, 7), "~7   &lobby> ");
        assert_eq!(shown(State::Local, 100), "-99+ &lobby> ");
        let look = Look {
            colour: false,
            unicode: true,
        };
        for state in State::ALL {
            for waiting in 0..COUNTS {
                assert_eq!(text("&lobby", state, waiting, look).raw.width(), 13);
            }
        }
    }

    #[test]
    fn only_the_marker_has_a_colour() {
        let colour = true;
        let look = Look { colour, ..PLAIN };
        let shown = text("#ops", State::Connected, 3, look);
        assert_eq!(shown.raw, "*3   #ops> ");
        assert_eq!(shown.styled, "\x1b[32m*3  \x1b[0m #ops> ");
        let plain = text("#ops", State::Connected, 3, PLAIN);
        assert_eq!(plain.raw, plain.styled);
    }

    #[test]
    fn a_prompt_shows_the_state_there_is() {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let shared = Arc::new(Shared {
            gate: Gate::default(),
            marker: Marker::new(PLAIN),
            screen: Screen::new(GraphemeClusterMode::WcWidth),
            modes: Modes::of(&terminal, &terminal).unwrap(),
            words: Mutex::default(),
            interrupts: Mutex::default(),
            continued: AtomicBool::new(false),
        });
        let label = Label::new("#ops".to_owned(), Arc::clone(&shared));
        let marker = &shared.marker;
        let first = label.styled();
        assert!(marker.set(State::Connected, 2));
        assert!(!marker.set(State::Connected, 2));
        assert_eq!((first, label.styled()), ("~    #ops> ", "*2   #ops> "));
        marker.set(State::Local, u32::MAX);
        assert_eq!(label.styled(), "-99+ #ops> ");
    }

    #[test]
    fn the_locale_says_what_can_be_shown() {
        let unicode = |set: &'static [(&str, &str)]| {
            is_unicode(|name| Some(set.iter().find(|(key, _)| *key == name)?.1.to_owned()))
        };
        assert!(!unicode(&[]));
        assert!(unicode(&[("LANG", "de_DE.UTF-8")]));
        assert!(unicode(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")]));
        assert!(!unicode(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]));
        assert!(!unicode(&[("LANG", "ja_JP.UTF-8")]));
    }
}
