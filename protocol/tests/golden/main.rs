//! The encoding stands still: every variant of both vocabularies against committed bytes.
//!
//! `golden/v1.txt` has a line for each. Append a variant, append its sample, and run with
//! `CHAT_BLESS=1` to write its line; a line that changes breaks everybody who runs an older
//! build.

mod samples;
mod table;

use protocol::{admin, federation, local};
use samples::REQUEST;
use std::{convert::identity, env, fs};
use table::Table;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1.txt");

#[test]
fn every_variant_is_encoded_as_ever() {
    let mut table = Table::default();
    add_shared(&mut table);
    add_federation(&mut table);
    add_local(&mut table);
    add_admin(&mut table);
    if env::var_os("CHAT_BLESS").is_some() {
        fs::write(FILE, table.render()).unwrap();
    }
    table.compare(&committed());
}

/// Read at run time, so that a fresh `CHAT_BLESS` is compared and not what was compiled in.
fn committed() -> String {
    fs::read_to_string(FILE).unwrap_or_else(|error| panic!("{FILE}: {error}"))
}

fn add_shared(table: &mut Table) {
    table.variants("Content", samples::contents(), identity);
    table.variants("Availability", samples::availabilities(), identity);
    table.variants("Act", samples::acts(), identity);
    table.variants("Denied", samples::denials(), identity);
    table.variants("LogKeeper", samples::log_keepers(), identity);
    table.variants("Durability", samples::durabilities(), identity);
    table.variants("LogHealth", samples::log_healths(), identity);
}

fn add_federation(table: &mut Table) {
    use federation::{AgentFrame, ServerFrame};
    table.variants(
        "federation::Request",
        samples::federation_requests(),
        |request| AgentFrame {
            id: REQUEST,
            request,
        },
    );
    table.variants(
        "federation::ServerFrame",
        samples::server_frames(),
        identity,
    );
    table.variants(
        "federation::Reply",
        samples::federation_replies(),
        |reply| ServerFrame::Reply {
            id: REQUEST,
            result: Ok(reply),
        },
    );
    table.variants(
        "federation::Refusal",
        samples::federation_refusals(),
        |refusal| ServerFrame::Reply {
            id: REQUEST,
            result: Err(refusal),
        },
    );
    table.variants(
        "federation::Event",
        samples::federation_events(),
        ServerFrame::Event,
    );
    table.variants(
        "federation::LimitedText",
        samples::limited_texts(),
        identity,
    );
    table.variants("federation::TooMany", samples::too_many(), identity);
    table.variants(
        "federation::BadInvitation",
        samples::bad_invitations(),
        identity,
    );
}

fn add_admin(table: &mut Table) {
    use admin::{CommandFrame, ServerFrame};
    table.variants("admin::Request", samples::admin_requests(), |request| {
        CommandFrame {
            id: REQUEST,
            request,
        }
    });
    table.variants("admin::Reply", samples::admin_replies(), |reply| {
        ServerFrame {
            id: REQUEST,
            result: Ok(reply),
        }
    });
    table.variants("admin::Refusal", samples::admin_refusals(), |refusal| {
        ServerFrame {
            id: REQUEST,
            result: Err(refusal),
        }
    });
    table.variants(
        "admin::InvitationState",
        samples::invitation_states(),
        identity,
    );
    table.variants("admin::AgentState", samples::agent_states(), identity);
}

fn add_local(table: &mut Table) {
    use local::{AgentFrame, TerminalFrame};
    table.variants("local::Request", samples::local_requests(), |request| {
        TerminalFrame {
            id: REQUEST,
            request,
        }
    });
    table.variants("local::AgentFrame", samples::agent_frames(), identity);
    table.variants("local::Reply", samples::local_replies(), |reply| {
        AgentFrame::Reply {
            id: REQUEST,
            result: Ok(reply),
        }
    });
    table.variants("local::Refusal", samples::local_refusals(), |refusal| {
        AgentFrame::Reply {
            id: REQUEST,
            result: Err(refusal),
        }
    });
    table.variants("local::Event", samples::local_events(), AgentFrame::Event);
    table.variants("local::From", samples::froms(), identity);
    table.variants("local::Author", samples::authors(), identity);
    table.variants("local::Delivery", samples::deliveries(), identity);
    table.variants("local::LinkStatus", samples::links(), identity);
}
