use std::collections::BTreeMap;

use dml_train::Score;
use serde::Deserialize;

/// What happened in a run, as far as a report shows it.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Number of trainable numbers.
    pub parameters: Option<usize>,
    /// Number of optimiser steps.
    pub steps: Option<usize>,
    /// The phases that have begun.
    pub phases: Vec<Phase>,
    /// The evaluations in order.
    pub evaluations: Vec<Evaluation>,
    /// Wall-clock seconds, if the run came to an end.
    pub seconds: Option<f64>,
    /// Whether the run is known to have stopped before its end.
    pub interrupted: bool,
    /// Lines that could not be understood, such as one that was cut off when a process was killed.
    pub unreadable: usize,
}

/// A phase of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Phase {
    /// Its number, from 1.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// Its round; 0 is the prologue.
    pub round: usize,
    /// Its length in steps.
    pub steps: usize,
    /// Its length in samples.
    pub samples: usize,
    /// The mean of each term of the loss over its steps.
    pub terms: BTreeMap<String, f64>,
    /// The weight of each term in its last step, where weights are learnt.
    pub weights: BTreeMap<String, f64>,
    /// How far each preserved task's recorded answers had moved when they were recorded: task, mean Kullback-Leibler
    /// divergence in nats where they are probabilities, mean cosine.
    pub drifts: Vec<(String, Option<f64>, f64)>,
    /// The mean cosine of the gradients of two losses on the shared root, by their names.
    pub gradient_cosines: BTreeMap<String, f64>,
    /// Wall-clock seconds, once it is over.
    pub seconds: Option<f64>,
}

/// All tasks evaluated at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The phase's number, or 0 before training.
    pub phase: usize,
    /// Its name.
    pub name: String,
    /// Epochs over all datasets by then.
    pub epochs: f64,
    /// The scores.
    pub scores: Vec<Score>,
}

/// The events of `metrics.jsonl` that matter here; others, and further fields, are passed over.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line {
    Started {
        steps: usize,
        parameters: usize,
    },
    Resumed {},
    Drift {
        phase: usize,
        task: String,
        kl: Option<f64>,
        cosine: f64,
    },
    GradientCosine {
        phase: usize,
        pairs: BTreeMap<String, f64>,
    },
    PhaseFinished {
        phase: usize,
        seconds: f64,
    },
    PhaseStarted {
        phase: usize,
        name: String,
        round: usize,
        steps: usize,
        samples: usize,
    },
    Step {
        phase: usize,
        terms: BTreeMap<String, f64>,
        #[serde(default)]
        weights: BTreeMap<String, f64>,
    },
    Evaluated {
        phase: usize,
        name: String,
        epochs: f64,
        scores: Vec<Score>,
    },
    Finished {
        interrupted: bool,
        seconds: f64,
    },
    #[serde(other)]
    Other,
}

impl History {
    /// Reads the lines of `metrics.jsonl`. Where a run was continued from an earlier moment, what came after that moment
    /// and was done again counts once, as it was done last.
    pub fn parse(text: &str) -> Self {
        let mut history = Self::default();
        let (mut terms, mut cosines) = (Means::default(), Means::default());
        let mut resumed = false;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let Ok(line) = serde_json::from_str(line) else {
                history.unreadable += 1;
                continue;
            };
            match line {
                Line::Started { steps, parameters } => {
                    (history.steps, history.parameters) = (Some(steps), Some(parameters));
                    (history.seconds, history.interrupted) = (None, false);
                }
                Line::Resumed {} => resumed = true,
                Line::PhaseStarted { phase, .. } if resumed && history.phase(phase).is_some() => {
                    resumed = false
                }
                Line::PhaseStarted { phase: number, name, round, steps, samples } => {
                    resumed = false;
                    history.phases.retain(|known| known.number < number);
                    history.evaluations.retain(|known| known.phase < number);
                    (terms, cosines) = (Means::default(), Means::default());
                    history.phases.push(Phase { number, name, round, steps, samples, ..Phase::default() });
                }
                Line::Step { phase, terms: values, weights } => {
                    terms.add(&values);
                    if let Some(phase) = history.phase(phase) {
                        (phase.terms, phase.weights) = (terms.means(), weights);
                    }
                }
                Line::GradientCosine { phase, pairs } => {
                    cosines.add(&pairs);
                    history
                        .phase(phase)
                        .into_iter()
                        .for_each(|phase| phase.gradient_cosines = cosines.means());
                }
                Line::Drift { phase, task, kl, cosine } => {
                    history.phase(phase).into_iter().for_each(|p| p.drifts.push((task.clone(), kl, cosine)));
                }
                Line::PhaseFinished { phase, seconds } => {
                    history.phase(phase).into_iter().for_each(|phase| phase.seconds = Some(seconds));
                }
                Line::Evaluated { phase, name, epochs, scores } => {
                    history.evaluations.retain(|known| known.epochs < epochs);
                    history.evaluations.push(Evaluation { phase, name, epochs, scores });
                }
                Line::Finished { interrupted, seconds } => {
                    (history.seconds, history.interrupted) = (Some(seconds), interrupted);
                }
                Line::Other => {}
            }
        }
        history
    }

    /// The newest phase, if this is its number.
    fn phase(&mut self, number: usize) -> Option<&mut Phase> {
        self.phases.last_mut().filter(|phase| phase.number == number)
    }

    /// Where each phase begins and ends on the axis of epochs. Nothing where epochs cannot be told.
    pub fn spans(&self) -> Vec<(f64, f64, &str)> {
        let seen = |until: usize| -> usize {
            self.phases.iter().filter(|phase| phase.number <= until).map(|phase| phase.samples).sum()
        };
        // The last evaluation after a whole phase tells how many samples an epoch over all datasets has.
        let mut ends = self.phases.iter().filter_map(|phase| {
            let last = self.evaluations.iter().rfind(|evaluation| evaluation.phase == phase.number)?;
            Some((last.epochs, seen(phase.number)))
        });
        let Some((epochs, samples)) = ends.next().filter(|(epochs, _)| *epochs > 0.0) else { return vec![] };
        let place = |samples_seen: usize| samples_seen as f64 * epochs / samples as f64;
        let ends = self.phases.iter().map(|phase| (phase, seen(phase.number)));
        ends.map(|(phase, end)| (place(end - phase.samples), place(end), phase.name.as_str())).collect()
    }
}

/// Sums and numbers of named values.
#[derive(Default)]
struct Means(BTreeMap<String, (f64, usize)>);

impl Means {
    fn add(&mut self, values: &BTreeMap<String, f64>) {
        for (name, value) in values {
            let (sum, count) = self.0.entry(name.clone()).or_default();
            (*sum, *count) = (*sum + value, *count + 1);
        }
    }

    fn means(&self) -> BTreeMap<String, f64> {
        self.0.iter().map(|(name, (sum, count))| (name.clone(), sum / *count as f64)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"
{"event":"started","phases":2,"steps":4,"parameters":10}
{"event":"evaluated","phase":0,"name":"before training","epochs":0.0,"scores":[]}
{"event":"phase-started","phase":1,"name":"caption","round":1,"steps":2,"samples":30,"new field":1}
{"event":"step","phase":1,"step":1,"samples":15,"terms":{"caption loss":1.0}}
{"event":"step","phase":1,"step":2,"samples":15,"terms":{"caption loss":0.5},"weights":{"caption loss":1.5}}
{"event":"evaluated","phase":1,"name":"caption","epochs":0.75,"scores":[]}
{"event":"an event of tomorrow"}
{"event":"phase-started","phase":2,"name":"class","round":1,"steps":2,"samples":10}
{"event":"step","phase":2,"step":1,"samples":5,"terms":{"class loss":9.0}}
{"event":"evalu"#;

    #[test]
    fn a_log_that_was_cut_off_and_continued() {
        let history = History::parse(LOG);
        assert_eq!(history.unreadable, 1);
        assert_eq!(history.phases.len(), 2);
        assert_eq!(history.phases[0].terms["caption loss"], 0.75);
        assert_eq!(history.phases[0].weights["caption loss"], 1.5);
        assert_eq!(history.spans(), [(0.0, 0.75, "caption"), (0.75, 1.0, "class")]);
        assert!(history.seconds.is_none());

        let again = r#"
{"event":"phase-started","phase":2,"name":"class","round":1,"steps":2,"samples":10}
{"event":"step","phase":2,"step":1,"samples":5,"terms":{"class loss":3.0}}
{"event":"evaluated","phase":2,"name":"class","epochs":1.0,"scores":[]}
{"event":"finished","interrupted":false,"seconds":2.5}"#;
        let history = History::parse(&format!("{LOG}\n{again}"));
        let phases: Vec<usize> = history.phases.iter().map(|phase| phase.number).collect();
        assert_eq!(phases, [1, 2]);
        assert_eq!(history.phases[1].terms["class loss"], 3.0);
        assert_eq!(history.evaluations.len(), 3);
        assert_eq!(history.seconds, Some(2.5));
    }

    #[test]
    fn a_phase_that_goes_on_keeps_what_it_had() {
        let more = r#"
{"event":"resumed","path":"checkpoints/3","steps":3,"phase":2,"step":1}
{"event":"phase-started","phase":2,"name":"class","round":1,"steps":2,"samples":10,"weights":{}}
{"event":"drift","phase":2,"dataset":"class","task":"caption","samples":9,"kl":null,"cosine":0.5}
{"event":"step","phase":2,"step":2,"samples":5,"terms":{"class loss":1.0}}
{"event":"phase-finished","phase":2,"name":"class","seconds":1.5,"samples_per_second":2.0,"changes":[]}"#;
        let history = History::parse(&format!("{LOG}\n{more}"));
        assert_eq!((history.phases.len(), history.evaluations.len()), (2, 2));
        let phase = &history.phases[1];
        assert_eq!((phase.terms["class loss"], phase.seconds), (5.0, Some(1.5)));
        assert_eq!(phase.drifts, [("caption".to_string(), None, 0.5)]);
    }
}
