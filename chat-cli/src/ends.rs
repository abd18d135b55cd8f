//! Being told to end, for commands that end in order.

use crate::exit::Failure;
use futures_util::FutureExt;
use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask this process to end. While this exists they do not end it by themselves.
#[derive(Debug)]
pub struct Ends {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Ends {
    /// Takes the signals from now on.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the system does not let it.
    pub fn take() -> Result<Self, Failure> {
        let take = || {
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hangup: signal(SignalKind::hangup())?,
            })
        };
        take().map_err(|error: std::io::Error| {
            Failure::failed(format_args!("signals cannot be handled: {error}"))
        })
    }

    /// Forgets Ctrl-C as far as it came already.
    pub fn forget_interrupts(&mut self) {
        while self.interrupt.recv().now_or_never().flatten().is_some() {}
    }

    /// Waits for the next one, and says which.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Number {
        tokio::select! {
            _ = self.interrupt.recv() => Number::INT,
            _ = self.terminate.recv() => Number::TERM,
            _ = self.hangup.recv() => Number::HUP,
        }
    }
}
