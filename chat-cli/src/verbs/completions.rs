//! `chat completions`: scripts that let a shell complete the words of `chat`.

use crate::{
    args::{Cli, CompletionsArgs, Shell},
    exit::Failure,
    output::Output,
};
use clap::CommandFactory;
use clap_complete::shells;

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut output = Output::default();
    let printed = output.line(script(args.shell).trim_end());
    output.finish(printed).await
}

fn script(shell: Shell) -> String {
    let mut command = Cli::command();
    let mut script = Vec::new();
    match shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut command, "chat", &mut script),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, "chat", &mut script),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut command, "chat", &mut script),
    }
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_is_told_every_verb_of_the_help() {
        let command = Cli::command();
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let verbs: Vec<&str> = verbs.map(clap::Command::get_name).collect();
        assert!(!verbs.is_empty());
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for verb in &verbs {
                assert!(script.contains(verb), "{shell:?} lacks {verb}");
            }
            assert!(
                script.contains("--nick") || script.contains("-l nick"),
                "{shell:?}"
            );
        }
    }
}
