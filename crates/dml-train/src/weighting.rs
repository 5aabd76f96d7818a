use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::schedule::{Phase, Schedule};
use crate::trainer::step::terms;
use crate::{Result, TrainError};

/// First part of the names under which log variances are trained; the rest is that of their term.
pub(crate) const PREFIX: &str = "uncertainty.";

/// How the terms of a phase's loss are weighed against each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// By the weights of the schedule: λ and scales.
    #[default]
    Fixed,
    /// By the uncertainty of each, learnt with the network (see [`dml_losses::uncertainty`]): the weight of a term is
    /// exp(−s), where s begins at 0, and s / 2 is added to the loss. A supervised task has one s, and one where it is preserved.
    /// The schedule's weights, which the named methods leave at 1, scale a term with its s; a term of weight 0 stays out.
    /// Cosines are taken from 1, so that no loss is negative.
    Uncertainty,
}

/// The logarithm of the variance of each term, where they are trained.
#[derive(Default)]
pub(crate) struct LogVariances(BTreeMap<String, Var>);

impl LogVariances {
    /// One for every term of the schedule, at 0.
    pub(crate) fn of(schedule: &Schedule, device: &Device) -> Result<Self> {
        let names = schedule.phases().flat_map(|(_, phase)| terms(phase));
        let names = names.filter(|(_, weight)| *weight > 0.0).map(|(name, _)| name);
        let new = |name| -> Result<_> { Ok((name, Var::from_tensor(&Tensor::new(0f32, device)?)?)) };
        Ok(Self(names.map(new).collect::<Result<_>>()?))
    }

    /// A term's part of the loss, before its weight: of `loss`, which is not less than `least`.
    pub(crate) fn objective(&self, term: &str, loss: &Tensor, least: f64) -> Result<Option<Tensor>> {
        let Some(s) = self.0.get(term) else { return Ok(None) };
        Ok(Some(dml_losses::uncertainty(&(loss - least)?, &s.as_tensor().to_dtype(loss.dtype())?)?))
    }

    /// Those that a phase trains, with the names of parameters.
    pub(crate) fn vars(&self, phase: &Phase) -> Vec<(String, Var)> {
        let weighs = |name: &str| terms(phase).any(|(term, weight)| term == name && weight > 0.0);
        let taking_part = self.0.iter().filter(|(name, _)| weighs(name));
        taking_part.map(|(name, var)| (format!("{PREFIX}{name}"), var.clone())).collect()
    }

    /// The names, in the order of [`Self::tensors`].
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.0.values().map(Var::as_tensor)
    }

    /// The numbers themselves.
    pub(crate) fn values(&self) -> Result<BTreeMap<String, f64>> {
        let value = |var: &Var| -> Result<f64> { Ok(f64::from(var.as_tensor().to_scalar::<f32>()?)) };
        self.0.iter().map(|(name, var)| Ok((name.clone(), value(var)?))).collect()
    }

    /// Sets them to the numbers that [`Self::values`] gave, or all to 0 where there are none.
    pub(crate) fn load(&self, values: &BTreeMap<String, f64>) -> Result<()> {
        if let Some(name) = values.keys().find(|name| !self.0.contains_key(*name)) {
            return Err(TrainError::invalid(format!("no term {name:?} has a log variance")));
        }
        for (name, var) in &self.0 {
            let value = values.get(name).copied().unwrap_or_default();
            var.set(&Tensor::new(value as f32, var.device())?)?;
        }
        Ok(())
    }
}
