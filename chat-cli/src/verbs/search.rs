//! `chat search`: what this host has of the rooms one is in.

use super::pending;
use crate::{
    args::SearchArgs,
    client::{CallError, Session},
    exit::{Exit, Failure},
    json,
    output::Output,
    paths::Settings,
    query,
    render::{self, Setting, Style},
};
use protocol::{
    MessageId, Outgoing,
    limits::MAX_PAGE_ENTRIES,
    local::{Hit, Reply, Request, SearchMark, SearchQuery},
};
use std::{
    collections::{HashSet, VecDeque},
    io::IsTerminal,
    time::SystemTime,
};

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code; a silent one if nothing was found.
pub async fn run(settings: &Settings, args: &SearchArgs) -> Result<(), Failure> {
    let session = super::session(settings).await?;
    let style = Style::detect(std::io::stdout().is_terminal());
    let words = args.words.iter().map(String::as_str);
    let now = SystemTime::now().into();
    let query =
        query::parse_args(words, session.user(), now, &style.zone).map_err(Failure::usage)?;
    let mut search = Search {
        session,
        query,
        json: args.json,
        style,
        columns: render::columns(),
        output: Output::default(),
    };
    let result = search.run(args.limit).await;
    search.output.finish(result).await
}

struct Search {
    session: Session,
    query: SearchQuery,
    json: bool,
    style: Style,
    /// Of the terminal, if it is one.
    columns: Option<usize>,
    output: Output,
}

/// What follows each other among what was found, newest first.
struct Page {
    hits: Vec<Hit>,
    next: Option<SearchMark>,
}

impl Search {
    /// Prints what is found in the logs, and behind it what waits to come there.
    async fn run(&mut self, limit: u32) -> Result<(), Failure> {
        // Asked first, so that what is committed in between is not missed; nor printed twice.
        let pending = self.pending(limit).await?;
        let left = limit.saturating_sub(u32::try_from(pending.len()).unwrap_or(u32::MAX));
        let mut waits: HashSet<MessageId> = pending.iter().map(|message| message.id).collect();
        let found = left > 0 && self.print_newest(left, &mut waits).await?;
        if !found && waits.is_empty() {
            return Err(Failure::silent(Exit::Failed));
        }
        let me = self.session.user().clone();
        for message in pending {
            if !waits.contains(&message.id) {
                continue;
            }
            let line = if self.json {
                json::pending(&message, &me)
            } else {
                pending::line(message, &me, &self.style, self.columns)
            };
            self.output.print(&line).await?;
        }
        Ok(())
    }

    /// The newest `limit` messages that wait, oldest first.
    async fn pending(&mut self, limit: u32) -> Result<VecDeque<Outgoing>, Failure> {
        let mut newest = VecDeque::new();
        pending::each(&mut self.session, &self.query, async |message| {
            newest.push_back(message);
            if newest.len() > limit as usize {
                newest.pop_front();
            }
            Ok(())
        })
        .await?;
        Ok(newest)
    }

    /// Prints the newest `limit` messages that are found, oldest first.
    ///
    /// Pages come newest first, so the way back only notes where they lie and what is on them,
    /// and each is fetched again to be printed: memory is bounded whatever the limit. The newest
    /// is kept. What was printed is taken out of `waits`. Whether there was anything.
    async fn print_newest(
        &mut self,
        limit: u32,
        waits: &mut HashSet<MessageId>,
    ) -> Result<bool, Failure> {
        let newest = self.page(None, limit).await?;
        let mut left = limit.saturating_sub(count(&newest));
        let mut next = newest.next;
        let mut older: Vec<(SearchMark, HashSet<MessageId>)> = Vec::new();
        while left > 0
            && let Some(mark) = next
        {
            let page = self.page(Some(mark), left).await?;
            left = left.saturating_sub(count(&page));
            next = page.next;
            if !page.hits.is_empty() {
                older.push((mark, page.hits.iter().map(|hit| hit.message.id).collect()));
            }
        }
        if newest.hits.is_empty() && older.is_empty() {
            return Ok(false);
        }
        for (mark, ids) in older.into_iter().rev() {
            let limit = u32::try_from(ids.len()).unwrap_or(u32::MAX);
            let mut page = self.page(Some(mark), limit).await?;
            // In the place of what was edited or taken back since then, older ones would come
            // that were printed already.
            page.hits.retain(|hit| ids.contains(&hit.message.id));
            self.print(&page, waits).await?;
        }
        self.print(&newest, waits).await?;
        Ok(true)
    }

    async fn page(&mut self, older_than: Option<SearchMark>, limit: u32) -> Result<Page, Failure> {
        let most = u32::try_from(MAX_PAGE_ENTRIES).unwrap_or(u32::MAX);
        let request = Request::Search {
            query: self.query.clone(),
            older_than,
            limit: limit.min(most),
        };
        match self.session.call(request).await? {
            Reply::Found { hits, next } => Ok(Page { hits, next }),
            _ => Err(CallError::Misfit.into()),
        }
    }

    async fn print(&mut self, page: &Page, waits: &mut HashSet<MessageId>) -> Result<(), Failure> {
        let me = self.session.user();
        for Hit { epoch, message } in page.hits.iter().rev() {
            waits.remove(&message.id);
            let line = if self.json {
                json::message(message, me, json::cursor(*epoch, message.seq))
            } else {
                let room = message.room.seen_by(me);
                let setting = Setting {
                    columns: self.columns,
                    room: Some(&room),
                    ..Setting::DATED
                };
                self.style.message(message, me, setting)
            };
            self.output.print(&line).await?;
        }
        Ok(())
    }
}

fn count(page: &Page) -> u32 {
    u32::try_from(page.hits.len()).unwrap_or(u32::MAX)
}
