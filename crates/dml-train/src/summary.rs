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

    /// What the phase after a switch away from a score's task costs it on average, in the score's unit and counted
    /// positive when it gets worse. Phases are named after their task.
    pub(crate) fn switch_costs(&self) -> BTreeMap<String, f64> {
        let mut costs: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for pair in self.evaluations.windows(2) {
            let ((before_phase, before), (phase, after)) = (&pair[0], &pair[1]);
            for (old, new) in before.iter().zip(after) {
                let is_switch = before_phase == &old.task && phase != &old.task;
                if is_switch && old.key() == new.key() {
                    let loss =
                        if old.higher_is_better { old.value - new.value } else { new.value - old.value };
                    costs.entry(old.key()).or_default().push(loss);
                }
            }
        }
        costs
            .into_iter()
            .map(|(key, values)| (key, values.iter().sum::<f64>() / values.len() as f64))
            .collect()
    }
}
