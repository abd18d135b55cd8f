//! The thin binary around [`chat_server::run`].

use clap::Parser;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "chat-server", version)]
struct Cli {
    #[command(flatten)]
    args: chat_server::ServerArgs,
}

fn main() -> ExitCode {
    chat_server::run(&Cli::parse().args)
}
