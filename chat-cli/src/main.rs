//! The thin binary around [`chat_cli::main`].

use std::process::ExitCode;

fn main() -> ExitCode {
    chat_cli::main()
}
