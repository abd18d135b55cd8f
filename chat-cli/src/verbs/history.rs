//! `chat history`: a room's last messages, oldest first.

use crate::{
    args::HistoryArgs,
    client::{CallError, Session},
    exit::Failure,
    json,
    output::Output,
    paths::Settings,
    recall::Recall,
    render::{self, Setting, Style},
};
use protocol::{
    Committed, Cursor, Epoch, Room,
    limits::MAX_PAGE_ENTRIES,
    local::{Reply, Request},
};
use std::io::IsTerminal;

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &HistoryArgs) -> Result<(), Failure> {
    let mut session = super::session(settings).await?;
    let room = args.room.resolve(session.user());
    super::say_if_offline(&mut session, &room, "only what is known here is shown").await?;
    let mut history = History {
        room,
        session,
        json: args.json,
        style: Style::detect(std::io::stdout().is_terminal()),
        columns: render::columns(),
        recall: Recall::default(),
        output: Output::default(),
    };
    let result = history.print_last(args.before, args.limit).await;
    history.output.finish(result).await
}

struct History {
    session: Session,
    room: Room,
    json: bool,
    style: Style,
    /// Of the terminal, if it is one.
    columns: Option<usize>,
    recall: Recall,
    output: Output,
}

/// Messages that follow each other, oldest first.
struct Page {
    epoch: Epoch,
    messages: Vec<Committed>,
    more: bool,
}

impl History {
    /// Prints the last `limit` messages before `before`.
    ///
    /// Pages come newest first, to be printed oldest first. So the way back only notes where the
    /// pages lie, and each is fetched again to be printed: memory is bounded whatever the limit.
    /// The newest is kept, as what is newest changes.
    async fn print_last(&mut self, before: Option<Cursor>, limit: u32) -> Result<(), Failure> {
        let newest = self.page(before, limit).await?;
        let mut older = Vec::new();
        let mut left = limit.saturating_sub(count(&newest));
        let mut next = newest.begins().filter(|_| newest.more);
        while left > 0
            && let Some(before) = next
        {
            let page = self.page(Some(before), left).await?;
            older.push((before, left));
            left = left.saturating_sub(count(&page));
            next = page.begins().filter(|_| page.more);
        }
        for (before, limit) in older.into_iter().rev() {
            let page = self.page(Some(before), limit).await?;
            self.print(page).await?;
        }
        self.print(newest).await
    }

    async fn page(&mut self, before: Option<Cursor>, limit: u32) -> Result<Page, Failure> {
        let most = u32::try_from(MAX_PAGE_ENTRIES).unwrap_or(u32::MAX);
        let request = Request::History {
            room: self.room.clone(),
            before,
            limit: limit.min(most),
        };
        match self.session.call(request).await? {
            Reply::History {
                epoch,
                messages,
                more,
            } => Ok(Page {
                epoch,
                messages,
                more,
            }),
            _ => Err(CallError::Misfit.into()),
        }
    }

    async fn print(&mut self, page: Page) -> Result<(), Failure> {
        let me = self.session.user().clone();
        for message in &page.messages {
            let line = if self.json {
                json::message(message, &me, json::cursor(page.epoch, message.seq))
            } else {
                let quote = self.recall.take(message);
                let setting = Setting {
                    columns: self.columns,
                    quote: quote.as_ref(),
                    ..Setting::DATED
                };
                self.style.message(message, &me, setting)
            };
            self.output.print(&line).await?;
        }
        Ok(())
    }
}

impl Page {
    /// What is before this page is before here; `None` if it is empty.
    fn begins(&self) -> Option<Cursor> {
        let seq = self.messages.first()?.seq;
        let epoch = self.epoch;
        Some(Cursor { epoch, seq })
    }
}

fn count(page: &Page) -> u32 {
    u32::try_from(page.messages.len()).unwrap_or(u32::MAX)
}
