//! Telling everybody what was written and who came or went.
//!
//! Two tasks, so that neither encoding nor a reader's lock is on the path to the disk: the
//! publisher takes what the log has written, in order, and the announcer looks up whom a change
//! of presence concerns.

use crate::{
    announcements::Announcement,
    log::{Commit, Commits, Log},
    reply::event_frame,
    router::Router,
};
use protocol::{Committed, FederatedRoom, Room, Seq, federation::Event};
use room_log::Feed;
use tracing::warn;

/// Fans out what was written until the log has ended.
pub(crate) async fn publish(mut commits: Commits, feed: &Feed, router: &Router) {
    while let Some(batch) = commits.next().await {
        let mut messages: Vec<Committed> = Vec::with_capacity(batch.len());
        for commit in batch {
            match commit {
                Commit::Message(message) => {
                    if message.prev_seq == Seq::START
                        && let Room::Direct(direct) = &message.room
                    {
                        router.direct_opened(direct);
                    }
                    messages.push(message);
                }
                Commit::Opened { conversation } => router.direct_opened(&conversation),
                Commit::Closed { room, hosts } => {
                    // Up to here they get everything, and nothing from here on.
                    feed.publish(&messages);
                    messages.clear();
                    router.close_room(feed, &room, &hosts);
                }
                other => {
                    // What is told of a room keeps its place between the room's messages.
                    feed.publish(&messages);
                    messages.clear();
                    publish_change(other, feed);
                }
            }
        }
        feed.publish(&messages);
    }
}

fn publish_change(commit: Commit, feed: &Feed) {
    let (room, event): (FederatedRoom, Event) = match commit {
        Commit::Message(_) | Commit::Opened { .. } | Commit::Closed { .. } => return,
        Commit::Joined { room, user } => (room.clone(), Event::Joined { room, user }),
        Commit::Left { room, user } => (room.clone(), Event::Left { room, user }),
        Commit::Topic { room, user, topic } => (room.clone(), Event::Topic { room, user, topic }),
    };
    feed.publish_soft([&Room::Federated(room)], &event_frame(event));
}

/// Tells the followers of a user's rooms that the user came or went. Never returns.
pub(crate) async fn announce(router: &Router, log: &dyn Log, feed: &Feed) {
    loop {
        let Announcement { user, availability } = router.announcements().next().await;
        match log.rooms_of(&user).await {
            Ok(rooms) => {
                let frame = event_frame(Event::Presence { user, availability });
                feed.publish_soft(&rooms, &frame);
            }
            Err(error) => warn!(%error, %user, "presence is not told"),
        }
    }
}
