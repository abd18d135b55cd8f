//! `chat server status`: how a running server and its log are.

use crate::{
    administration::Server,
    args::server::StatusArgs,
    client::CallError,
    exit::Failure,
    json, listing,
    render::{self, count},
    table,
};
use protocol::{
    Features, LogStatus,
    admin::{Reply, Request},
};

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code; also if the server is of a version that does not tell.
pub(super) async fn run(args: &StatusArgs) -> Result<(), Failure> {
    let mut server = Server::connect(&args.place).await?;
    if !server.features().has(Features::LOG_STATUS) {
        return Err(Failure::failed(
            "the server is of an earlier version, which does not tell this: upgrade it",
        ));
    }
    let Reply::Status {
        software,
        connected,
        users,
        draining,
        log,
    } = server.ask(Request::Status).await?
    else {
        return Err(CallError::Misfit.into());
    };
    let lines = if args.json {
        vec![json::server(&software, connected, users, draining, &log)]
    } else {
        let hosts = format!(
            "{} connected, {} there",
            count(connected.into(), "host"),
            count(users.into(), "user")
        );
        let does = match draining {
            true => "sends its hosts to other servers",
            false => "lets hosts in",
        };
        let mut rows = vec![
            ["server".to_owned(), format!("{software}, {does}")],
            ["hosts".to_owned(), hosts],
            ["log".to_owned(), listing::log(&log)],
        ];
        rows.extend(warnings(&log));
        table::lines(&rows, render::columns())
    };
    super::print(lines).await
}

/// What is promised less than could be, and what does not work.
fn warnings(log: &LogStatus) -> Vec<[String; 2]> {
    let weaker = log.weaker.clone().map(|text| ["warning".to_owned(), text]);
    let trouble = log.health.reason().map(|reason| {
        let trouble = format!(
            "the log is {} ({reason}): agents keep what they have for it, and nothing that was \
             acknowledged is lost; this server needs no restart",
            log.health.word()
        );
        ["problem".to_owned(), trouble]
    });
    weaker.into_iter().chain(trouble).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::LogHealth;

    #[test]
    fn a_log_that_is_well_and_keeps_the_promise_gives_no_warning() {
        let well = LogStatus::database();
        assert!(warnings(&well).is_empty());
        let reason = "NATS: not connected".to_owned();
        let away = LogStatus {
            weaker: Some("nobody has vouched".to_owned()),
            health: LogHealth::Away { reason },
            ..well
        };
        let [[warning, _], [problem, told]] = &warnings(&away)[..] else {
            panic!("{:?}", warnings(&away));
        };
        assert_eq!((warning.as_str(), problem.as_str()), ("warning", "problem"));
        assert!(told.contains("away (NATS: not connected)"), "{told}");
    }
}
