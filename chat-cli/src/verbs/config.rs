//! `chat config`: every setting, and where it comes from.

use crate::{
    args::{ConfigArgs, Connection},
    daemons,
    exit::{Exit, Failure, say},
    interactive, json,
    output::Output,
    paths::{self, Setting, Settings, Source},
    render, table,
};
use chat_agent::paths::terminal_config;
use serde_json::Value;

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code: 1 if a daemon's settings make no sense.
pub async fn run(
    settings: &Settings,
    outer: &Connection,
    args: &ConfigArgs,
) -> Result<(), Failure> {
    let (all, problems) = gather(settings, outer, &args.connection);
    let lines = if args.json {
        all.iter().map(json::setting).collect()
    } else {
        let rows: Vec<[String; 4]> = all.iter().map(row).collect();
        table::lines(&rows, render::columns())
    };
    let mut output = Output::default();
    let printed = output.print_all(&lines).await;
    for problem in &problems {
        say(problem);
    }
    let ended = if problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::silent(Exit::Failed))
    };
    output.finish(printed.and(ended)).await
}

/// All settings of terminal, agent and server, and what makes no sense among them.
fn gather(
    settings: &Settings,
    outer: &Connection,
    inner: &Connection,
) -> (Vec<Setting>, Vec<String>) {
    let mut all = paths::terminal_settings(settings, outer, inner);
    let mut problems = Vec::new();
    match interactive::preferences(&terminal_config()) {
        Ok(preferences) => all.extend(preferences),
        Err(error) => problems.push(format!("the settings of the terminal: {error}")),
    }
    let either = |inner: &Option<_>, outer: &Option<_>| inner.clone().or_else(|| outer.clone());
    let agent = daemons::agent_settings(
        either(&inner.socket, &outer.socket),
        either(&inner.state_dir, &outer.state_dir),
    );
    for (of, found) in [("agent", agent), ("server", daemons::server_settings())] {
        match found {
            Ok(found) => {
                // A terminal looks where the agent's settings say, if nothing else does.
                for own in all.iter_mut().filter(|own| own.source == Source::Default) {
                    let same = found
                        .iter()
                        .find(|its| its.of == "agent" && its.name == own.name);
                    if let Some(same) = same {
                        own.source = same.source.clone();
                    }
                }
                all.extend(found);
            }
            Err(error) => {
                let error = error.replace('\n', "; ");
                problems.push(format!("the settings of the {of}: {error}"));
            }
        }
    }
    (all, problems)
}

fn row(setting: &Setting) -> [String; 4] {
    let value = match &setting.value {
        Value::Null => format!("({})", setting.unset),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let texts = list.iter().filter_map(Value::as_str);
            texts.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    };
    let origin = match &setting.source {
        Source::Flag => "flag".to_owned(),
        Source::Environment(name) => format!("environment {name}"),
        Source::File(path) => format!("file {}", path.display()),
        Source::Default => "default".to_owned(),
    };
    [
        setting.of.to_owned(),
        setting.name.to_owned(),
        origin,
        value,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_told_with_its_source_and_what_its_absence_means() {
        let setting = Setting {
            of: "agent",
            name: "servers",
            value: Value::from(vec!["hub:7667", "spare:7667"]),
            unset: "",
            source: Source::File("/c/agent.toml".into()),
        };
        let expected = [
            "agent",
            "servers",
            "file /c/agent.toml",
            "hub:7667 spare:7667",
        ];
        assert_eq!(row(&setting), expected);
        let setting = Setting {
            value: Value::Null,
            unset: "as remembered",
            source: Source::Default,
            ..setting
        };
        assert_eq!(row(&setting)[2..], ["default", "(as remembered)"]);
    }
}
