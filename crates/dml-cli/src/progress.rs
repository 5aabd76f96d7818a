//! What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use dml_train::{Event, Score};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Draws events.
pub(crate) struct Progress {
    bar: ProgressBar,
    terminal: bool,
    phases: usize,
    phase: String,
    samples: usize,
    began: Instant,
    label: String,
}

impl Progress {
    /// `label` stands before everything, such as the method and seed in a comparison.
    pub(crate) fn new(label: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self {
            bar: ProgressBar::with_draw_target(None, target),
            terminal,
            phases: 0,
            phase: String::new(),
            samples: 0,
            began: Instant::now(),
            label: if label.is_empty() { String::new() } else { format!("{label}  ") },
        }
    }

    /// Shows what an event means for the bar; says nothing about scores.
    pub(crate) fn show(&mut self, event: &Event) {
        match event {
            Event::Preparing { what, done, of } => {
                self.bar.set_style(style("{msg} {bar:30} {pos}/{len}  {eta} left"));
                self.bar.set_length(*of as u64);
                self.bar.set_position(*done as u64);
                if self.terminal {
                    self.bar.set_message(what.clone());
                } else if *done == 0 {
                    complain(&format!("preparing {what} ({of})"));
                }
            }
            Event::Started { phases, steps, .. } => {
                self.phases = *phases;
                self.phase.clear();
                self.samples = 0;
                self.began = Instant::now();
                self.bar.reset();
                self.bar.set_style(style("{msg} {bar:30} {pos}/{len} steps  {eta} left"));
                self.bar.set_length(*steps as u64);
                self.bar.set_position(0);
            }
            Event::PhaseStarted { phase, name, .. } => {
                self.phase = format!("{}phase {phase}/{} {name}", self.label, self.phases);
            }
            Event::Step { samples, terms, .. } => {
                self.samples += samples;
                let rate = self.samples as f64 / self.began.elapsed().as_secs_f64();
                let terms: Vec<String> =
                    terms.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
                self.bar.set_message(format!("{}  {}  {rate:.0} samples/s", self.phase, terms.join("  ")));
                self.bar.inc(1);
            }
            Event::Finished { .. } => self.bar.finish_and_clear(),
            _ => {}
        }
    }

    /// Prints a line above the bar.
    pub(crate) fn line(&self, text: &str) {
        self.bar.suspend(|| say(text));
    }

    /// Where the run is, such as `phase 3/24 class`.
    pub(crate) fn place(&self) -> &str {
        if self.phase.is_empty() { "start" } else { &self.phase }
    }
}

/// The main measures of an evaluation on one line.
pub(crate) fn headline(scores: &[Score]) -> String {
    let main: Vec<String> = scores.iter().filter(|score| is_main(score)).map(short).collect();
    main.join("   ")
}

/// Whether a score belongs in a short table.
pub(crate) fn is_main(score: &Score) -> bool {
    is_main_key(&score.key())
}

/// Parts of the names of the main measures, the most important first.
pub(crate) const MAIN: [&str; 6] = [
    "hit@1",
    "accuracy",
    "mAP | all points",
    "precision@1",
    "item→text R@1 | pools",
    "item→text R@10 | whole",
];

/// The same, by the score's key.
pub(crate) fn is_main_key(key: &str) -> bool {
    MAIN.iter().any(|main| key.contains(main))
}

fn short(score: &Score) -> String {
    let pool = match score.protocol.split(' ').next() {
        Some("pools") => " (pools)",
        Some("whole") => " (whole set)",
        _ => "",
    };
    format!("{} {}{pool} {:.1}", score.eval, score.measure.trim_start_matches("item→text "), score.value)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A line on the standard output. A reader that has gone away is no error of ours.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A line on the standard error.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
