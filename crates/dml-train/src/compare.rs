use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::Result;
use crate::event::Event;
use crate::experiment::{Experiment, Run};
use crate::method::Method;
use crate::summary::History;

/// Scores of several methods over several seeds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    /// The seeds that every method was run with.
    pub seeds: Vec<u64>,
    /// A row for each method, in the order asked for.
    pub rows: Vec<(Method, BTreeMap<String, Cell>)>,
}

/// One score of one method.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cell {
    /// The score after the last phase, for each seed.
    pub values: Vec<f64>,
    /// What a phase of another task costs the score, for each seed; empty where there is no such phase.
    pub switch_costs: Vec<f64>,
    /// Difference to the single-task method that trains the score's task, seed by seed, where that method was run.
    pub to_single: Vec<f64>,
    /// Whether more is better.
    pub higher_is_better: bool,
}

/// Mean and sample standard deviation; the deviation is none for fewer than two values.
pub fn mean_and_sd(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()))
}

/// Runs every method with every seed. If it is stopped, the comparison holds the seeds that all methods have finished.
///
/// # Errors
/// If a run fails.
pub fn compare(
    experiment: &Experiment,
    methods: &[Method],
    seeds: &[u64],
    stop: &Arc<AtomicBool>,
    sink: &mut dyn FnMut(Method, u64, &Event),
) -> Result<Comparison> {
    let mut comparison =
        Comparison { seeds: vec![], rows: methods.iter().map(|&method| (method, BTreeMap::new())).collect() };
    for &seed in seeds {
        let mut finished = Vec::new();
        for &method in methods {
            let mut history = History::default();
            let run = Run { method, seed, folder: None, resume: false, stop: stop.clone() };
            let outcome = experiment.run(&run, &mut |event| {
                if let Event::Evaluated { name, scores, .. } = event {
                    history.push(name, scores);
                }
                sink(method, seed, event);
            })?;
            if outcome.interrupted || stop.load(Ordering::Relaxed) {
                return Ok(comparison);
            }
            // Where tasks change at every step there is no phase whose cost could be told.
            let costs = if method == Method::Steps { BTreeMap::new() } else { history.switch_costs() };
            finished.push((outcome.scores, costs));
        }
        comparison.add(seed, finished);
    }
    Ok(comparison)
}

impl Comparison {
    fn add(&mut self, seed: u64, finished: Vec<(Vec<crate::evaluate::Score>, BTreeMap<String, f64>)>) {
        self.seeds.push(seed);
        let single = |class: bool| {
            let method = if class { Method::ClassOnly } else { Method::CaptionOnly };
            let row = self.rows.iter().position(|(m, _)| *m == method)?;
            Some(finished[row].0.clone())
        };
        let singles = [single(true), single(false)];
        for ((method, cells), (scores, costs)) in self.rows.iter_mut().zip(finished) {
            let (class, caption) = method.trains();
            for score in scores {
                let is_class = score.task == crate::experiment::CLASS;
                if !(if is_class { class } else { caption }) {
                    continue;
                }
                let cell = cells.entry(score.key()).or_default();
                cell.higher_is_better = score.higher_is_better;
                cell.values.push(score.value);
                cell.switch_costs.extend(costs.get(&score.key()));
                let single = singles[usize::from(!is_class)].iter().flatten();
                cell.to_single
                    .extend(single.filter(|s| s.key() == score.key()).map(|s| score.value - s.value));
            }
        }
    }
}
