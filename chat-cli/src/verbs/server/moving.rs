//! `chat server export` and `chat server import`: the file, the bar, and what is said at the end.

use crate::{
    args::server::MoveArgs,
    daemons::{self, Moved, Progress, Step},
    exit::{Exit, Failure, say},
    json,
    output::Output,
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};
use tokio::{runtime::Builder, task::spawn_blocking};

/// Bytes of the file that are read or written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes a log into a file.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub(super) async fn export(args: &MoveArgs) -> Result<(), Failure> {
    if is_standard(&args.file) {
        if args.json {
            return Err(Failure::usage(
                "--json prints on standard output, where the log is to go: name a file",
            ));
        }
        let moved = exported(args, io::stdout()).await?;
        return told(args, "exported", &moved).await;
    }
    let path = &args.file;
    let cannot = |reason: io::Error| {
        let otherwise = match reason.kind() {
            io::ErrorKind::AlreadyExists if path.is_file() => "; name another file, or remove it",
            io::ErrorKind::AlreadyExists => "; name a file that does not exist",
            _ => "",
        };
        Failure::failed(format!(
            "cannot write {}: {reason}{otherwise}",
            path.display()
        ))
    };
    // What people said is nobody else's to read.
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(cannot)?;
    let done = match file.try_clone() {
        Ok(output) => exported(args, output).await,
        Err(reason) => Err(cannot(reason)),
    };
    let done = done.and_then(|moved| file.sync_all().map(|()| moved).map_err(cannot));
    let moved = done.inspect_err(|_| {
        // Of no use to anybody, and in the way of the next attempt.
        let _ = fs::remove_file(path);
    })?;
    told(args, "exported", &moved).await
}

async fn exported(args: &MoveArgs, file: impl Write + Send + 'static) -> Result<Moved, Failure> {
    let store = args.store.clone();
    let moving = move || async move {
        let mut output = BufWriter::with_capacity(BUFFER_BYTES, file);
        let mut bar = Bar::default();
        let mut watch = |progress| bar.show(progress);
        let moved = Box::pin(daemons::export(&store, &mut output, &mut watch)).await;
        bar.end();
        moved
    };
    apart(moving).await
}

/// Does work that waits for files and pipes, on threads of its own: whoever keeps a connection meanwhile
/// goes on.
async fn apart<F>(work: impl FnOnce() -> F + Send + 'static) -> Result<Moved, Failure>
where
    F: Future<Output = Result<Moved, daemons::MoveError>>,
{
    let working = spawn_blocking(move || {
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        let moved = runtime.block_on(work());
        runtime.shutdown_background();
        Ok::<_, io::Error>(moved)
    });
    let cannot = |reason: io::Error| Failure::failed(format!("cannot start: {reason}"));
    let worked = working.await.map_err(|error| cannot(error.into()))?;
    worked.map_err(cannot)?.map_err(failed)
}

/// Writes a file into a log.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub(super) async fn import(args: &MoveArgs) -> Result<(), Failure> {
    let path = &args.file;
    let mut file: Box<dyn BufRead + Send> = if is_standard(path) {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, io::stdin()))
    } else {
        let opened = File::open(path);
        let file = opened.map_err(|reason| {
            Failure::failed(format!("cannot read {}: {reason}", path.display()))
        })?;
        Box::new(BufReader::with_capacity(BUFFER_BYTES, file))
    };
    let store = args.store.clone();
    let moving = move || async move {
        let mut bar = Bar::default();
        let mut watch = |progress| bar.show(progress);
        let moved = Box::pin(daemons::import(&store, &mut *file, &mut watch)).await;
        bar.end();
        moved
    };
    told(args, "imported and checked", &apart(moving).await?).await
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn failed(error: daemons::MoveError) -> Failure {
    let exit = match error {
        daemons::MoveError::Config(_) => Exit::Usage,
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}

async fn told(args: &MoveArgs, what: &str, moved: &Moved) -> Result<(), Failure> {
    if args.json {
        return super::print(vec![json::moved(moved)]).await;
    }
    let Moved {
        log,
        rooms,
        messages,
        hosts,
        invitations,
        notes,
    } = moved;
    say(&format!(
        "{what}: {}, {}, {} of hosts, {} ({log})",
        number(*rooms, "room"),
        number(*messages, "message"),
        number(*hosts, "key"),
        number(*invitations, "invitation")
    ));
    for note in notes {
        say(&format!("note: {note}"));
    }
    // Nothing but the end of it, so that whoever reads standard output sees that it came.
    let output = Output::default();
    output.finish(Ok(())).await
}

fn number(number: u64, what: &str) -> String {
    let many = if number == 1 { "" } else { "s" };
    format!("{number} {what}{many}")
}

/// How far it is, for whoever watches a terminal.
#[derive(Default)]
struct Bar {
    bar: Option<(Step, ProgressBar)>,
}

impl Bar {
    fn show(&mut self, progress: Progress) {
        let Progress { step, messages, of } = progress;
        let bar = match &self.bar {
            Some((before, bar)) if *before == step => bar,
            _ => {
                self.end();
                let bar = ProgressBar::new(of);
                let style =
                    "{prefix} [{bar:30}] {human_pos} of about {human_len} messages, {eta} left";
                if let Ok(style) = ProgressStyle::with_template(style) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_prefix(match step {
                    Step::Export => "exporting",
                    Step::Import => "importing",
                    Step::Check => "checking",
                });
                &self.bar.insert((step, bar)).1
            }
        };
        // It was an estimate.
        bar.set_length(of.max(messages));
        bar.set_position(messages);
    }

    fn end(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
