use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use dml_train::{Event, Planned, Score, SweepEvent};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::progress::{Progress, complain, headline, say};

/// Parts of the bar that a run takes.
const PARTS: u64 = 1000;

/// A bar over all runs of a sweep, and a line for each that ends.
pub(super) struct SweepProgress {
    /// The bar of what comes before runs, while there is such.
    preparing: Option<Progress>,
    bar: ProgressBar,
    lines: bool,
    runs: usize,
    jobs: usize,
    /// Runs that are over.
    done: usize,
    /// Those among them that were run now, and when the first of these began.
    ran: usize,
    began: Option<Instant>,
    /// Steps done and to do of the runs that are going on.
    going: BTreeMap<usize, (u64, u64)>,
}

impl SweepProgress {
    /// `lines`: whether finished runs are told on the standard output.
    pub(super) fn new(runs: usize, jobs: usize, lines: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(runs as u64 * PARTS), target);
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:30} {msg}") {
            bar.set_style(style);
        }
        Self { preparing: None, bar, lines, runs, jobs, done: 0, ran: 0, began: None, going: BTreeMap::new() }
    }

    pub(super) fn show(&mut self, event: &SweepEvent) {
        if let SweepEvent::Preparing(event) = event {
            return self.preparing.get_or_insert_with(|| Progress::new("")).show(event);
        }
        self.preparing = None;
        match event {
            SweepEvent::Preparing(_) => {}
            SweepEvent::Kept(_) => self.done += 1,
            SweepEvent::Running { number, planned, event } => self.running(*number, planned, event),
            SweepEvent::Finished { number, planned, scores, seconds } => {
                self.going.remove(number);
                (self.done, self.ran) = (self.done + 1, self.ran + 1);
                let left = self.left().map(|left| format!(", {left} left")).unwrap_or_default();
                let own: Vec<Score> =
                    scores.iter().filter(|score| score.eval == score.task).cloned().collect();
                let (place, label, scores) = (self.place(), label(planned), headline(&own));
                self.line(&format!("[{place}] {label}: {scores}   ({seconds:.1} s{left})"));
            }
            SweepEvent::Diverged { planned, error } => {
                self.done += 1;
                let text = format!("[{}] {}: {error}", self.place(), label(planned));
                self.bar.suspend(|| complain(&text));
            }
        }
        self.draw();
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn running(&mut self, number: usize, planned: &Planned, event: &Event) {
        match event {
            Event::Started { steps, done, .. } => {
                self.began.get_or_insert_with(Instant::now);
                self.going.insert(number, (*done as u64, *steps as u64));
                self.bar.set_message(label(planned));
            }
            Event::Step { .. } => {
                if let Some((done, _)) = self.going.get_mut(&number) {
                    *done += 1;
                }
                let left = self.left().map(|left| format!("  {left} left")).unwrap_or_default();
                self.bar.set_message(format!("{}{left}", label(planned)));
            }
            Event::Resumed { steps, .. } => {
                let text = format!("{} goes on after {steps} steps", label(planned));
                self.bar.suspend(|| complain(&text));
            }
            _ => {}
        }
    }

    fn draw(&self) {
        let done = self.done as f64 + self.part();
        self.bar.set_prefix(format!("{} runs", self.place()));
        self.bar.set_position((done * PARTS as f64) as u64);
    }

    fn line(&self, text: &str) {
        if self.lines {
            self.bar.suspend(|| say(text));
        }
    }

    fn place(&self) -> String {
        format!("{}/{}", self.done, self.runs)
    }

    /// The parts done of the runs that are going on.
    fn part(&self) -> f64 {
        self.going.values().map(|&(done, of)| done as f64 / of.max(1) as f64).sum()
    }

    /// The time that is left, once there is something to tell it by.
    fn left(&self) -> Option<HumanDuration> {
        let done = self.ran as f64 + self.part();
        let elapsed = self.began?.elapsed().as_secs_f64();
        let still = (self.runs - self.done) as f64 - self.part();
        // The first steps are no measure of the rest.
        let enough = done > 0.02 * self.jobs as f64 && still > 0.0;
        enough.then(|| HumanDuration(Duration::from_secs_f64(elapsed / done * still)))
    }
}

/// Method, seed and settings of a run on one line.
pub(super) fn label(planned: &Planned) -> String {
    let short = |key: &str| key.rsplit('.').next().unwrap_or_default().to_string();
    let settings = planned.settings.iter().map(|(key, value)| format!(" {}={value}", short(key)));
    format!("{} seed {}{}", planned.config.method, planned.config.seed, settings.collect::<String>())
}
