//! `chat pending`: what one said that waits for the server.

use crate::{
    args::PendingArgs,
    client::{CallError, Session},
    exit::Failure,
    json,
    output::Output,
    paths::Settings,
    render::{self, Setting, Style},
};
use protocol::{
    Committed, Outgoing, Seq, UserName,
    local::{Reply, Request, SearchQuery},
};
use std::io::IsTerminal;

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &PendingArgs) -> Result<(), Failure> {
    let mut session = super::session(settings).await?;
    let me = session.user().clone();
    let style = Style::detect(std::io::stdout().is_terminal());
    let columns = render::columns();
    let mut output = Output::default();
    let result = each(&mut session, &SearchQuery::default(), async |message| {
        let line = if args.json {
            json::pending(&message, &me)
        } else {
            line(message, &me, &style, columns)
        };
        output.print(&line).await
    })
    .await;
    output.finish(result).await
}

/// Calls `visit` with every message that waits and that `query` looks for, page by page.
pub(super) async fn each(
    session: &mut Session,
    query: &SearchQuery,
    mut visit: impl AsyncFnMut(Outgoing) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let request = Request::Pending {
            query: query.clone(),
            after,
        };
        let Reply::Pending { messages, next } = session.call(request).await? else {
            return Err(CallError::Misfit.into());
        };
        for message in messages {
            visit(message).await?;
        }
        after = next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// A message that waits, as it will look, with the time when it was written.
#[must_use]
pub fn line(message: Outgoing, me: &UserName, style: &Style, columns: Option<usize>) -> String {
    let room = message.room.seen_by(me);
    let setting = Setting {
        columns,
        room: Some(&room),
        remark: "  (pending)",
        ..Setting::DATED
    };
    style.message(&as_committed(message), me, setting)
}

/// As if it had come into its room's log when it was written.
fn as_committed(message: Outgoing) -> Committed {
    Committed {
        room: message.room,
        seq: Seq::START,
        prev_seq: Seq::START,
        committed_at: message.sent_at,
        id: message.id,
        author: message.author,
        sent_at: message.sent_at,
        body: message.body,
    }
}
