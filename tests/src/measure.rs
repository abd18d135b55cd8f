//! What the benches share: samples, processor time, and one way to report.
//!
//! A figure alone says more about the machine than about the program. So each is reported beside
//! a named baseline that the same run measured on the same machine, and their ratio.

use rustix::param::clock_ticks_per_second;
use serde::Serialize;
use std::{
    env,
    fmt::Write as _,
    fs, io,
    num::NonZero,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// Whether this is a real run: `cargo bench` says so. Otherwise `cargo test --benches` only asks
/// whether the bench still works.
#[must_use]
pub fn is_bench_run() -> bool {
    env::args().any(|argument| argument == "--bench")
}

/// `full` in a real run, and a twentieth of it otherwise.
#[must_use]
pub fn scaled(full: usize) -> usize {
    if is_bench_run() { full } else { full / 20 }
}

/// Durations that belong together.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    sorted: Vec<Duration>,
}

impl Samples {
    /// Adds more of them.
    pub fn extend(&mut self, samples: impl IntoIterator<Item = Duration>) {
        self.sorted.extend(samples);
        self.sorted.sort_unstable();
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The smallest sample that at least `percent` of a hundred do not exceed, in microseconds.
    ///
    /// # Panics
    ///
    /// If there are none.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        let sample = self.sorted[rank - 1];
        sample.as_secs_f64() * 1e6
    }
}

/// The middle one of `values`, the lower of two.
///
/// # Panics
///
/// If there are none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

/// `count` in `elapsed`, by the second.
#[must_use]
pub fn per_second(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

/// `spent` on `count` things, in microseconds each.
#[must_use]
pub fn micros_each(spent: Duration, count: usize) -> f64 {
    spent.as_secs_f64() * 1e6 / count as f64
}

/// The processor time that a process has used, all its threads, in user and kernel mode. Known
/// to a hundredth of a second.
///
/// # Panics
///
/// If there is no such process.
#[must_use]
pub fn processor_time(pid: u32) -> Duration {
    time_of(&format!("/proc/{pid}/stat"))
}

/// As [`processor_time`], of the calling thread alone.
#[must_use]
pub fn processor_time_of_thread() -> Duration {
    time_of("/proc/thread-self/stat")
}

fn time_of(path: &str) -> Duration {
    let stat = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    ticks(&stat)
        .map(|ticks| Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
        .unwrap_or_else(|| panic!("{path}: {stat:?}"))
}

/// The memory that is a process' own, in bytes: its part of what it shares with others counted, too
/// (`Pss`).
///
/// # Panics
///
/// If there is no such process.
#[must_use]
pub fn private_memory(pid: u32) -> u64 {
    1_024 * number_in(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// How many bytes a process has had the disk write.
///
/// # Panics
///
/// If there is no such process.
#[must_use]
pub fn bytes_written(pid: u32) -> u64 {
    number_in(&format!("/proc/{pid}/io"), "write_bytes:")
}

/// How many processors this process may use; 1 if that is not known.
#[must_use]
pub fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

fn number_in(path: &str, field: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let words = text.lines().find_map(|line| line.strip_prefix(field));
    let number = words.and_then(|words| words.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("{path} has no {field}"))
}

/// User and system time in one line of `/proc/PID/stat`.
fn ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, which may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// One figure beside its baseline; one line of `target/bench/NAME.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What was measured, as `bench/figure`.
    pub bench: String,
    /// How much it was.
    pub figure: f64,
    /// Of what, for both values.
    pub unit: &'static str,
    /// What it is compared with.
    pub baseline: &'static str,
    /// How much that was, in the same run.
    pub baseline_value: f64,
    /// `figure / baseline_value`.
    pub ratio: f64,
}

/// What one bench has found, printed and written when it has finished.
#[derive(Debug)]
pub struct Report {
    bench: &'static str,
    setting: String,
    figures: Vec<Figure>,
    notes: Vec<String>,
}

impl Report {
    /// The report of `bench`, which measures under the conditions that `setting` describes.
    #[must_use]
    pub fn new(bench: &'static str, setting: String) -> Self {
        Self {
            bench,
            setting,
            figures: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a figure and what it is compared with.
    pub fn add(
        &mut self,
        name: &str,
        figure: f64,
        unit: &'static str,
        baseline: &'static str,
        baseline_value: f64,
    ) {
        self.figures.push(Figure {
            bench: format!("{}/{name}", self.bench),
            figure,
            unit,
            baseline,
            baseline_value,
            ratio: figure / baseline_value,
        });
    }

    /// Adds a sentence that helps to read the figures.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Prints everything and writes `target/bench/NAME.json`, one object a line.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn finish(&self) -> io::Result<()> {
        println!("{}", self.text());
        let dir = target_dir().join("bench");
        fs::create_dir_all(&dir)?;
        let mut lines = String::new();
        for figure in &self.figures {
            lines.push_str(&serde_json::to_string(figure)?);
            lines.push('\n');
        }
        fs::write(dir.join(self.bench).with_extension("json"), lines)
    }

    fn text(&self) -> String {
        let mut text = format!("\n{}: {}\n", self.bench, self.setting);
        let rows: Vec<[String; 4]> = self.figures.iter().map(row).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let [name, figure, baseline] = [width(0), width(1), width(2)];
        for row in &rows {
            let _infallible = writeln!(
                text,
                "  {:name$}  {:>figure$}  {:>baseline$}  {}",
                row[0], row[1], row[2], row[3]
            );
        }
        for note in &self.notes {
            let _infallible = writeln!(text, "  ({note})");
        }
        text
    }
}

fn row(figure: &Figure) -> [String; 4] {
    let (_, name) = figure.bench.split_once('/').unwrap_or_default();
    [
        name.replace('_', " "),
        format!("{} {}", number(figure.figure), figure.unit),
        format!("{} {}", figure.baseline, number(figure.baseline_value)),
        format!("ratio {}", number(figure.ratio)),
    ]
}

/// Three digits at least, thousands apart.
fn number(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Cargo's target directory: `<target>/<profile>/deps/<this bench>`.
fn target_dir() -> PathBuf {
    let this = env::current_exe().expect("path of the bench executable");
    this.ancestors()
        .nth(3)
        .map_or_else(|| Path::new("target").to_owned(), Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let mut samples = Samples::default();
        samples.extend((1..=200).rev().map(Duration::from_micros));
        for (percent, micros) in [(0, 1.0), (50, 100.0), (99, 198.0), (100, 200.0)] {
            assert!((samples.percentile(percent) - micros).abs() < 1e-6);
        }
        let middle = median(&[3.0, 1.0, 2.0, 9.0]);
        assert!((middle - 2.0).abs() < 1e-6);
    }

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0 1 0 100 200 300";
        assert_eq!(ticks(stat), Some(42));
        let own = std::process::id();
        assert!(processor_time(own) >= processor_time_of_thread());
        assert!(private_memory(own) > 0);
    }

    #[test]
    fn a_report_can_be_read_by_people_and_programs() {
        let mut report = Report::new("commit", "2 agents".to_owned());
        report.add(
            "messages_committed",
            12_345.6,
            "messages/s",
            "bare",
            24_691.2,
        );
        let text = report.text();
        assert!(
            text.contains("messages committed  12,346 messages/s  bare 24,691  ratio 0.50"),
            "{text}"
        );
        let line = serde_json::to_value(&report.figures[0]).unwrap();
        let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            [
                "bench",
                "figure",
                "unit",
                "baseline",
                "baseline_value",
                "ratio"
            ]
        );
    }
}
