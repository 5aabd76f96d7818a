use std::collections::BTreeMap;

use candle_core::{Tensor, Var, backprop::GradStore};
use dml_ops::{Adam, AdamConfig};
use serde::{Deserialize, Serialize};

use crate::schedule::Phase;
use crate::weighting;
use crate::{Result, TrainError};

/// Which phases share Adam's moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdamSharing {
    /// One state for the whole run: the moments of one task scale the steps of the other.
    Shared,
    /// One state for each supervised task (or set of tasks, in mixed phases).
    PerTask,
    /// A fresh state at the start of each phase.
    PerPhase,
}

/// Learning rates of the parameter groups.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearningRates {
    /// Of the shared root.
    pub root: f64,
    /// Of the task heads.
    pub heads: f64,
}

/// Adam with as many states as the sharing asks for.
#[derive(Debug)]
pub(crate) struct Optimizer {
    sharing: AdamSharing,
    rates: LearningRates,
    /// Of learnt weights.
    weighting: f64,
    states: BTreeMap<String, Adam>,
    current: String,
}

impl Optimizer {
    pub(crate) fn new(sharing: AdamSharing, rates: LearningRates, weighting: f64) -> Result<Self> {
        for (name, rate) in [("root", rates.root), ("heads", rates.heads), ("losses' weights", weighting)] {
            if !(rate.is_finite() && rate >= 0.0) {
                return Err(TrainError::invalid(format!(
                    "the learning rate {rate} of the {name} is not a number from 0 up"
                )));
            }
        }
        Ok(Self { sharing, rates, weighting, states: BTreeMap::new(), current: String::new() })
    }

    /// Takes up the phase's state; `goes_on` where some of its steps are done.
    pub(crate) fn start_phase(&mut self, phase: &Phase, goes_on: bool) {
        if phase.restart && !goes_on {
            self.states.clear();
        }
        self.current = match self.sharing {
            AdamSharing::Shared => "all".into(),
            AdamSharing::PerTask => phase.supervised().into_iter().collect::<Vec<_>>().join("+"),
            AdamSharing::PerPhase => {
                if !goes_on {
                    self.states.clear();
                }
                "phase".into()
            }
        };
        self.states.entry(self.current.clone()).or_insert_with(|| Adam::new(AdamConfig::default()));
    }

    /// One step for each variable that has a gradient.
    pub(crate) fn step(&mut self, vars: &[(String, Var)], gradients: &GradStore) -> Result<()> {
        let Some(adam) = self.states.get_mut(&self.current) else {
            return Err(TrainError::invalid("the optimiser was asked for a step before its first phase"));
        };
        let rate = |name: &str| match name {
            _ if name.starts_with("root.") => self.rates.root,
            _ if name.starts_with(weighting::PREFIX) => self.weighting,
            _ => self.rates.heads,
        };
        let reached =
            vars.iter().filter_map(|(name, var)| Some((name.as_str(), var, gradients.get(var)?, rate(name))));
        Ok(adam.update_all(&reached.collect::<Vec<_>>())?)
    }

    /// Takes up the states that [`Self::tensors`] gave, in place of all there are.
    pub(crate) fn restore(&mut self, tensors: BTreeMap<String, Tensor>) -> Result<()> {
        let mut states: BTreeMap<String, BTreeMap<String, Tensor>> = BTreeMap::new();
        for (name, tensor) in tensors {
            let Some((state, parameter)) = name.split_once('/') else {
                return Err(TrainError::invalid(format!("{name:?} names no state of the optimiser")));
            };
            states.entry(state.into()).or_default().insert(parameter.into(), tensor);
        }
        self.states.clear();
        for (name, state) in states {
            self.states.insert(name, Adam::from_state(AdamConfig::default(), state)?);
        }
        Ok(())
    }

    /// Moments and step counts of all states, as `<state>/<parameter>.<m|v|step>`.
    pub(crate) fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut all = BTreeMap::new();
        for (state, adam) in &self.states {
            all.extend(adam.state()?.into_iter().map(|(name, tensor)| (format!("{state}/{name}"), tensor)));
        }
        Ok(all)
    }
}
