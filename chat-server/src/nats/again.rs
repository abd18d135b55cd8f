//! Asking again while no answer comes.
//!
//! Whoever was to answer may have died with the question, or lead no more: then nobody says anything,
//! and the cluster has somebody else within seconds. So the question is put again beside the first
//! one, and whichever is answered first counts: one that is only slow is not lost by it.

use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{future::Future, time::Duration};
use tokio::time::{Instant, timeout_at};

/// No answer to any of the attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silence;

/// Puts a question that may be put more than once: again after `pause`, then after twice as long, and
/// so on. The first answer ends it, a refusal as well as any other.
///
/// # Errors
///
/// [`Silence`] if there was none within `within`.
pub(super) async fn until_answered<T, Asked>(
    pause: Duration,
    within: Duration,
    ask: impl Fn() -> Asked,
) -> Result<T, Silence>
where
    Asked: Future<Output = T>,
{
    let deadline = Instant::now() + within;
    let mut pause = pause;
    let mut asked = FuturesUnordered::new();
    loop {
        asked.push(ask());
        let next = (Instant::now() + pause).min(deadline);
        pause *= 2;
        if let Ok(Some(answer)) = timeout_at(next, asked.next()).await {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            return Err(Silence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, future::pending};
    use tokio::time::sleep;

    const PAUSE: Duration = Duration::from_secs(1);
    const WITHIN: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_question_that_died_with_whom_it_was_put_to_is_answered_by_another() {
        let attempts = Cell::new(0);
        let answer = until_answered(PAUSE, WITHIN, || {
            attempts.set(attempts.get() + 1);
            let attempt = attempts.get();
            async move {
                match attempt {
                    1 => pending().await,
                    other => other,
                }
            }
        });
        assert_eq!(answer.await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_only_late_counts() {
        let attempts = Cell::new(0);
        let answer = until_answered(PAUSE, WITHIN, || {
            attempts.set(attempts.get() + 1);
            let attempt = attempts.get();
            async move {
                sleep(PAUSE * 2).await;
                attempt
            }
        });
        assert_eq!(answer.await, Ok(1));
        assert_eq!(attempts.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_for_ever() {
        let begun = Instant::now();
        let answer = until_answered(PAUSE, WITHIN, pending::<()>).await;
        assert_eq!((answer, begun.elapsed()), (Err(Silence), WITHIN));
    }
}
