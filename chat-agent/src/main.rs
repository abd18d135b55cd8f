//! The thin binary around [`chat_agent::run`].

use clap::Parser;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "chat-agent", version)]
struct Cli {
    #[command(flatten)]
    args: chat_agent::AgentArgs,
}

fn main() -> ExitCode {
    chat_agent::run(&Cli::parse().args)
}
