use std::collections::BTreeMap;

use crate::evaluate::Score;

/// The scores of a run as they came, so that what a switch of tasks costs can be read off.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    evaluations: Vec<(String, Vec<Score>)>,
}

impl History {
    pub(crate) fn push(&mut self, phase: &str, scores: &[Score]) {
        self.evaluations.push((phase.to_string(), scores.to_vec()));
    }

    /// What a phase of another task costs a score on average, in the score's unit and counted positive when it gets
    /// worse: from the evaluation after the task's own phase to the one after the next phase that is no warm-up.
    /// Phases are named after their task.
    pub(crate) fn switch_costs(&self) -> BTreeMap<String, f64> {
        let mut costs: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let mut own: BTreeMap<String, f64> = BTreeMap::new();
        for (phase, scores) in self.evaluations.iter().filter(|(phase, _)| !phase.ends_with("warm-up")) {
            for score in scores {
                if *phase == score.task {
                    own.insert(score.key(), score.value);
                } else if let Some(before) = own.remove(&score.key()) {
                    let loss =
                        if score.higher_is_better { before - score.value } else { score.value - before };
                    costs.entry(score.key()).or_default().push(loss);
                }
            }
        }
        costs
            .into_iter()
            .map(|(key, values)| (key, values.iter().sum::<f64>() / values.len() as f64))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_costs_what_the_next_phase_of_another_task_takes() {
        let score = |task: &str, value, higher_is_better| Score {
            eval: task.into(),
            task: task.into(),
            measure: "m".into(),
            protocol: "p".into(),
            value,
            higher_is_better,
            n: 1,
        };
        let mut history = History::default();
        for (phase, a, b) in
            [("b", 10.0, 5.0), ("a", 50.0, 7.0), ("b warm-up", 49.0, 6.0), ("b", 30.0, 3.0), ("a", 60.0, 4.0)]
        {
            history.push(phase, &[score("a", a, true), score("b", b, false)]);
        }
        let costs = history.switch_costs();
        assert_eq!(costs["a | m | p"], 20.0);
        // Ranks: 5 to 7, then 3 to 4.
        assert_eq!(costs["b | m | p"], 1.5);
    }
}
