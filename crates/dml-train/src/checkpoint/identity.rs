use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::evaluate::EvalSet;
use crate::schedule::Schedule;
use crate::targets::Targets;
use crate::trainer::{Problem, Settings};
use crate::weighting::Weighting;
use crate::{Result, TrainError};

/// What a run computes with, as text by dotted name: only a run that agrees in all of it may go on from a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Identity(BTreeMap<String, String>);

impl Identity {
    pub(crate) fn new(problem: &Problem, settings: &Settings, schedule: &Schedule) -> Result<Self> {
        let mut all = BTreeMap::new();
        let Settings { seed, batch, learning_rates, adam, .. } = settings;
        let parts = serde_json::json!({
            "schedule": schedule,
            "seed": seed,
            "batch": batch,
            "learning_rates": learning_rates,
            "adam": adam,
            "network": problem.net,
            "tasks": problem.tasks,
        });
        flatten("", &parts, &mut all);
        // Only where they count: other runs are what they were before there were these settings.
        if settings.ema.evaluate || schedule.has_mean_teacher() {
            all.insert("ema".into(), format!("{:?}", settings.ema));
        }
        if settings.weighting == Weighting::Uncertainty {
            all.insert("weighting".into(), format!("uncertainty {}", settings.weighting_learning_rate));
        }
        for (name, set) in problem.sets {
            all.insert(format!("dataset.{name}"), set.dataset.fingerprint());
            all.insert(format!("labels.{name}"), digest(&set.targets)?);
        }
        for (number, EvalSet { dataset, judged }) in problem.evals.iter().enumerate() {
            let number = number + 1;
            all.insert(format!("evaluation.{number}"), dataset.fingerprint());
            for (name, task, targets) in judged {
                all.insert(format!("evaluation.{number}.{name}"), format!("{task} {}", digest(targets)?));
            }
        }
        Ok(Self(all))
    }

    /// The same with all else in which the ranks of a run must agree: they would wait for each other otherwise.
    pub(crate) fn of_rank(&self, settings: &Settings, parameters: &str) -> Result<Self> {
        let mut all = self.0.clone();
        let Settings { wire, recording, evaluate_throughout, monitor, checkpoints, resume, folder, .. } =
            settings;
        let parts = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "parameters": parameters,
            "wire": format!("{wire:?}"),
            "recording": recording,
            "evaluate_throughout": evaluate_throughout,
            "monitor": monitor,
            "checkpoints": checkpoints,
            "resume": resume,
            "folder": folder.is_some(),
        });
        flatten("", &parts, &mut all);
        Ok(Self(all))
    }

    /// A line for everything in which a checkpoint's run differs from this one.
    pub(crate) fn changes(&self, before: &Self) -> Vec<String> {
        let change = |(name, is, was): (&str, String, String)| format!("{name}: was {was}, is {is}");
        self.differences(before).into_iter().map(change).collect()
    }

    /// Everything that differs, with its text here and there.
    pub(crate) fn differences<'a>(&'a self, other: &'a Self) -> Vec<(&'a str, String, String)> {
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let text = |of: &Self, name: &String| of.0.get(name).cloned().unwrap_or_else(|| "absent".into());
        names
            .into_iter()
            .filter(|name| self.0.get(*name) != other.0.get(*name))
            .map(|name| (name.as_str(), text(self, name), text(other, name)))
            .collect()
    }
}

fn flatten(name: &str, value: &Value, all: &mut BTreeMap<String, String>) {
    let below = |key: &str| if name.is_empty() { key.to_string() } else { format!("{name}.{key}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| flatten(&below(key), value, all)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| flatten(&below(&i.to_string()), value, all));
        }
        other => drop(all.insert(name.to_string(), other.to_string())),
    }
}

/// A short text that changes with any of the numbers.
fn digest(targets: &Targets) -> Result<String> {
    let mut hash = Sha256::new();
    let names = |names: &[String]| serde_json::to_vec(names).map_err(|e| TrainError::invalid(e.to_string()));
    match targets {
        Targets::Classes { names: all, of } => {
            hash.update(names(all)?);
            of.iter().for_each(|class| hash.update(class.to_le_bytes()));
        }
        Targets::MultiLabel { names: all, flags } => {
            hash.update(names(all)?);
            flags.iter().for_each(|flag| hash.update(flag.to_le_bytes()));
        }
        Targets::Captions { vectors, dim, rows } => {
            hash.update(dim.to_le_bytes());
            vectors.iter().for_each(|value| hash.update(value.to_le_bytes()));
            rows.iter()
                .flat_map(|range| [range.start, range.end])
                .for_each(|row| hash.update(row.to_le_bytes()));
        }
    }
    Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}
