//! What every log promises the server; see `chat_server::log`.
//!
//! A second implementation is a [`Backing`] and one more `log_contract!`.

mod commits;
mod jetstream;
mod lifecycle;
mod messages;
mod model;
mod people;
mod running;
mod sqlite;

use chat_server::log::{Commits, Log};
use std::sync::Arc;

/// What the suite needs of an implementation beside the seam itself.
trait Backing: Sized + Send + Sync + 'static {
    /// A place for a log that nobody has used yet.
    fn new() -> Self;

    /// Opens the log there.
    async fn open(&mut self) -> (Arc<dyn Log>, Commits);

    /// Ends the log as if its process were killed at this moment: nobody says goodbye, and what
    /// only that process knew is gone.
    async fn kill(&mut self, log: Arc<dyn Log>);
}

/// The suite for one implementation.
macro_rules! log_contract {
    ($name:ident, $backing:ty) => {
        mod $name {
            log_contract!(@tests $backing;
                messages: seqs_rise_and_name_the_one_before,
                messages: a_message_sent_again_gets_its_first_place,
                messages: an_id_is_never_used_for_two_messages,
                messages: what_was_answered_can_be_read,
                messages: a_page_ends_at_its_limits_and_is_empty_only_at_the_end,
                messages: what_is_not_there_is_not_found,
                commits: what_is_written_comes_out_once_and_in_order,
                commits: what_changes_nothing_comes_out_of_nowhere,
                commits: a_full_log_refuses_and_loses_nothing,
                commits: many_writers_get_one_order,
                lifecycle: everything_survives_an_orderly_end,
                lifecycle: what_was_answered_survives_a_kill,
                lifecycle: what_was_not_answered_is_there_once_or_not_at_all,
                lifecycle: closing_answers_what_was_queued_and_refuses_the_rest,
                lifecycle: what_was_refused_holds_up_its_lane_until_the_next_attempt,
                people: members_come_and_go,
                people: members_are_listed_in_order_page_by_page,
                people: rooms_are_listed_in_order_page_by_page,
                people: topics_are_set_and_removed,
                people: a_user_is_in_a_limited_number_of_rooms,
                people: a_direct_conversation_is_known_to_both_hosts,
                people: direct_conversations_are_listed_page_by_page,
                people: a_message_to_a_host_that_never_came_waits_for_it,
                people: a_host_creates_a_limited_number_of_rooms,
            );

            #[test]
            fn whatever_is_done_the_log_agrees_with_the_model() {
                super::model::check::<$backing>();
            }
        }
    };
    (@tests $backing:ty; $($module:ident: $test:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::running::within_limit(super::$module::$test::<$backing>()).await;
            }
        )*
    };
}

log_contract!(in_sqlite, super::sqlite::SqliteFile);
log_contract!(in_jetstream, super::jetstream::JetStream);
