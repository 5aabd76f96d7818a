//! What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Instant;

use dml_teacher::{CaptionScore, OrderEvent};
use dml_train::{Event, Score};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Draws events.
pub(crate) struct Progress {
    bar: ProgressBar,
    terminal: bool,
    phases: usize,
    phase: String,
    weights: BTreeMap<String, f64>,
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
            weights: BTreeMap::new(),
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
            Event::Started { phases, steps, done, .. } => {
                self.phases = *phases;
                self.phase.clear();
                self.weights.clear();
                self.samples = 0;
                self.began = Instant::now();
                self.bar.reset();
                self.bar.set_style(style("{msg} {bar:30} {pos}/{len} steps  {eta} left"));
                self.bar.set_length(*steps as u64);
                self.bar.set_position(*done as u64);
                self.bar.reset_eta();
            }
            Event::Resumed { path, steps, .. } => {
                self.notice(&format!("going on from {} ({steps} steps are done)", path.display()));
            }
            Event::Skipped { path, problem } => self.notice(&format!(
                "warning: the checkpoint {} is not whole ({problem}); the one before it is taken",
                path.display()
            )),
            Event::PhaseStarted { phase, name, weights, .. } => {
                self.phase = format!("{}phase {phase}/{} {name}", self.label, self.phases);
                self.weights = weights.clone();
            }
            Event::Evaluating { done, of } => {
                self.bar.set_message(format!("{}  evaluating, batch {done}/{of}", self.phase));
            }
            Event::Step { samples, terms, weights, .. } => {
                self.samples += samples;
                self.weights.extend(weights.clone());
                let rate = self.samples as f64 / self.began.elapsed().as_secs_f64();
                let term = |(name, value): (&String, &f64)| match self.weights.get(name) {
                    Some(weight) if *weight != 1.0 => format!("{weight:.2} × {name} {value:.3}"),
                    _ => format!("{name} {value:.3}"),
                };
                let terms: Vec<String> = terms.iter().map(term).collect();
                self.bar.set_message(format!("{}  {}  {rate:.0} samples/s", self.phase, terms.join("  ")));
                self.bar.inc(1);
            }
            Event::Finished { .. } => self.bar.finish_and_clear(),
            _ => {}
        }
    }

    /// Prints a line above the bar, on the standard error.
    fn notice(&self, text: &str) {
        self.bar.suspend(|| complain(text));
    }

    /// Prints a line above the bar.
    pub(crate) fn line(&self, text: &str) {
        self.bar.suspend(|| say(text));
    }

    /// Where the run is, such as `phase 3/24 class`, once it is in a phase.
    pub(crate) fn place(&self) -> Option<&str> {
        (!self.phase.is_empty()).then_some(&self.phase)
    }
}

/// What a person sees while a file is fetched: a bar on a terminal, a line elsewhere.
pub(crate) struct FetchProgress {
    bar: ProgressBar,
    terminal: bool,
}

impl Default for FetchProgress {
    fn default() -> Self {
        let Progress { bar, terminal, .. } = Progress::new("");
        Self { bar, terminal }
    }
}

impl FetchProgress {
    /// Bytes of a file begin to come; `from` of them are there already.
    pub(crate) fn start(&self, what: String, of: Option<u64>, from: u64) {
        self.bar.reset();
        match of {
            Some(of) => {
                self.bar
                    .set_style(style("{msg} {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left"));
                self.bar.set_length(of);
            }
            None => self.bar.set_style(style("{msg} {spinner} {bytes}  {bytes_per_sec}")),
        }
        self.bar.set_position(from);
        if !self.terminal {
            complain(&what);
        }
        self.bar.set_message(what);
    }

    pub(crate) fn advance(&self, at: u64) {
        self.bar.set_position(at);
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// What a person sees while a sentence encoder is trained.
pub(crate) struct TeacherProgress {
    bar: ProgressBar,
    epochs: usize,
    epoch: usize,
    losses: f64,
    pairs: usize,
    began: Instant,
}

impl Default for TeacherProgress {
    fn default() -> Self {
        let (bar, began) = (Progress::new("").bar, Instant::now());
        Self { bar, epochs: 0, epoch: 0, losses: 0.0, pairs: 0, began }
    }
}

impl TeacherProgress {
    pub(crate) fn show(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::Started { words, captions, epochs } => {
                self.epochs = *epochs;
                complain(&format!("{captions} captions, {words} words, {epochs} epochs"));
            }
            OrderEvent::Epoch { epoch, steps } => {
                (self.epoch, self.losses, self.pairs, self.began) = (*epoch, 0.0, 0, Instant::now());
                self.bar.reset();
                self.bar.set_style(style("{msg} {bar:30} {pos}/{len} steps  {eta} left"));
                self.bar.set_length(*steps as u64);
            }
            OrderEvent::Step { loss, pairs } => {
                self.losses += loss * *pairs as f64;
                self.pairs += pairs;
                self.bar.set_message(self.place());
                self.bar.inc(1);
            }
            OrderEvent::Judged { scores, best, .. } => {
                let score = |(set, score): &(String, CaptionScore)| {
                    let (r1, chance) = (score.retrieval.r1, score.chance(1));
                    format!("  {set} R@1 {r1:.1} R@10 {:.1} (chance {chance:.1})", score.retrieval.r10)
                };
                let scores: String = scores.iter().map(score).collect();
                let saved = if *best { "  saved" } else { "" };
                self.bar.suspend(|| say(&format!("{}{scores}{saved}", self.place())));
            }
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Epoch, mean loss and speed.
    fn place(&self) -> String {
        let (loss, rate) =
            (self.losses / self.pairs as f64, self.pairs as f64 / self.began.elapsed().as_secs_f64());
        format!("epoch {}/{}  loss {loss:.4}  {rate:.0} captions/s", self.epoch, self.epochs)
    }
}

/// The main measures of an evaluation on one line.
pub(crate) fn headline(scores: &[Score]) -> String {
    let main: Vec<String> = scores.iter().filter(|score| is_main(score)).map(short).collect();
    main.join("   ")
}

/// What a phase did, on one line: time, rate, and the main measures before and after it.
pub(crate) fn phase_line(place: &str, event: &Event, scores: &[Score]) -> Option<String> {
    let Event::PhaseFinished { seconds, samples_per_second, changes, .. } = event else { return None };
    let before = |score: &Score| changes.iter().find(|change| change.key == score.key()).map(|c| c.before);
    let main = scores.iter().filter(|score| is_main(score)).filter_map(|score| {
        let (name, before) = (name(score), before(score)?);
        Some(format!("{name} {before:.1} → {:.1}", score.value))
    });
    let parts: Vec<String> = main.collect();
    if parts.is_empty() {
        return None;
    }
    Some(format!("{place:<28} {seconds:>6.1} s {samples_per_second:>6.0} samples/s   {}", parts.join("   ")))
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
    format!("{} {:.1}", name(score), score.value)
}

/// A score's name, as short as it can be told from the others.
pub(crate) fn name(score: &Score) -> String {
    let pool = match score.protocol.split(' ').next() {
        Some("pools") => " (pools)",
        Some("whole") => " (whole set)",
        _ => "",
    };
    format!("{} {}{pool}", score.eval, score.measure.trim_start_matches("item→text "))
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
