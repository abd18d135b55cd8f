//! `chat man`: manual pages out of the definitions of the command line.

use crate::{
    args::{Cli, ManArgs},
    exit::{Exit, Failure},
    output::Output,
};
use clap::CommandFactory;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use std::{fs, io};

/// A page and the file it belongs into.
struct Page {
    file: String,
    text: Vec<u8>,
}

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(args: &ManArgs) -> Result<(), Failure> {
    let pages = pages().map_err(|error| Failure::failed(format_args!("manual pages: {error}")))?;
    let Some(dir) = &args.dir else {
        let mut output = Output::default();
        let first = pages.first().map_or(&[][..], |page| &page.text);
        let printed = output.line(String::from_utf8_lossy(first).trim_end());
        return output.finish(printed).await;
    };
    let failed =
        |error| Failure::failed(format_args!("cannot write to {}: {error}", dir.display()));
    fs::create_dir_all(dir).map_err(failed)?;
    for Page { file, text } in pages {
        fs::write(dir.join(file), text).map_err(failed)?;
    }
    Ok(())
}

/// chat(1), then one for each verb.
fn pages() -> io::Result<Vec<Page>> {
    // Those that the help has no line for, too.
    let mut command = Cli::command().mut_subcommands(|verb| verb.hide(false));
    command.build();
    let mut pages = vec![page(&command)?];
    exit_codes().to_writer(&mut pages[0].text)?;
    for verb in command.get_subcommands() {
        add(verb, &mut pages)?;
    }
    Ok(pages)
}

/// A page for `command`, and one for each of the words behind it.
fn add(command: &clap::Command, pages: &mut Vec<Page>) -> io::Result<()> {
    pages.push(page(command)?);
    command
        .get_subcommands()
        .filter(|word| word.get_name() != "help")
        .try_for_each(|word| add(word, pages))
}

fn page(command: &clap::Command) -> io::Result<Page> {
    let man = Man::new(command.clone())
        .source(concat!("chat ", env!("CARGO_PKG_VERSION")))
        .manual("Chat");
    let mut text = Vec::new();
    man.render(&mut text)?;
    let file = man.get_filename();
    Ok(Page { file, text })
}

fn exit_codes() -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["EXIT STATUS"]);
    for (exit, meaning) in Exit::ALL {
        section.control("TP", []);
        section.text([bold((exit as u8).to_string())]);
        section.text([roman(meaning)]);
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a section, without its head.
    fn section(page: &str, name: &str) -> String {
        let head = format!(".SH {name}");
        let (_, rest) = page.split_once(&head).unwrap_or_default();
        let text = rest.split(".SH ").next().unwrap_or_default();
        text.trim().to_owned()
    }

    #[test]
    fn every_verb_has_a_page_that_says_what_it_is_and_how_it_is_written() {
        let pages = pages().unwrap();
        let mut expected = vec!["chat.1".to_owned()];
        for verb in Cli::command().get_subcommands() {
            expected.push(format!("chat-{}.1", verb.get_name()));
            for word in verb.get_subcommands() {
                expected.push(format!("chat-{}-{}.1", verb.get_name(), word.get_name()));
            }
        }
        let files: Vec<&str> = pages.iter().map(|page| &*page.file).collect();
        assert_eq!(files, expected);
        for Page { file, text } in &pages {
            let text = String::from_utf8(text.clone()).unwrap();
            let name = file.trim_end_matches(".1");
            let (said, what) = section(&text, "NAME")
                .split_once(" \\- ")
                .map(|(said, what)| (said.replace("\\-", "-"), what.to_owned()))
                .unwrap_or_default();
            assert_eq!(said, name, "{file}");
            assert!(!what.is_empty(), "{file}");
            // Words are told apart by spaces, and some have a dash of their own.
            let synopsis = section(&text, "SYNOPSIS")
                .replace("\\-", " ")
                .replace('-', " ");
            let words = name.replace('-', " ");
            assert!(synopsis.contains(&words), "{file}: {synopsis:?}");
            assert!(!section(&text, "DESCRIPTION").is_empty(), "{file}");
        }
    }

    #[test]
    fn the_first_page_lists_all_verbs_and_exit_codes() {
        let text = String::from_utf8(pages().unwrap().swap_remove(0).text).unwrap();
        let text = text.replace("\\-", "-");
        for verb in Cli::command().get_subcommands() {
            let page = format!("chat-{}(1)", verb.get_name());
            assert!(text.contains(&page), "{page}");
        }
        let codes = section(&text, "\"EXIT STATUS\"");
        assert!(
            codes.contains("124") && codes.contains("--timeout"),
            "{codes}"
        );
    }
}
