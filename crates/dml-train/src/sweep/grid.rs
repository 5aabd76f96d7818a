use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::config::Config;
use crate::method::Method;
use crate::{Result, TrainError};

/// The values that one setting takes in a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// Any key of the configuration, such as `training.lambda_class`.
    pub key: String,
    /// Its values.
    pub values: Vec<Value>,
    /// Whether scores are averaged over the values, as the paper does over the splits of UCF101.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub averaged: bool,
}

impl FromStr for Axis {
    type Err = String;

    /// `key=value,value`: values are TOML, or bare words.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (key, list) = text.split_once('=').ok_or("write it as key.path=value,value")?;
        let parse = |list: &str| toml::from_str::<Table>(&format!("values = [{list}]")).ok();
        let words = || {
            let word = |word: &str| match parse(word.trim()) {
                Some(_) => word.trim().to_string(),
                None => Value::String(word.trim().into()).to_string(),
            };
            list.split(',').map(word).collect::<Vec<_>>().join(",")
        };
        let table = parse(list).or_else(|| parse(&words())).ok_or("the values are neither TOML nor words")?;
        match table.get("values") {
            Some(Value::Array(values)) if !values.is_empty() => {
                Ok(Self { key: key.trim().into(), values: values.clone(), averaged: false })
            }
            _ => Err(format!("{} has no values", key.trim())),
        }
    }
}

/// What a sweep runs: every method with every combination of the axes' values and every seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// The settings that all runs share.
    pub base: Config,
    /// The settings that are varied.
    pub axes: Vec<Axis>,
    /// The methods.
    pub methods: Vec<Method>,
    /// The seeds.
    pub seeds: Vec<u64>,
}

/// One run of a grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Its resolved configuration, with method and seed.
    pub config: Config,
    /// The value of each axis.
    pub settings: BTreeMap<String, Value>,
}

impl Grid {
    /// All runs: the first seed with everything, then the next.
    ///
    /// # Errors
    /// If there is no method or seed, a key is varied twice or unknown, a value is out of range, or a configuration with
    /// a schedule of its own meets several methods.
    pub fn plan(&self) -> Result<Vec<Planned>> {
        if self.methods.is_empty() || self.seeds.is_empty() {
            return Err(TrainError::invalid("a sweep needs at least one method and one seed"));
        }
        if self.base.schedule.is_some() && self.methods.len() > 1 {
            return Err(TrainError::invalid(
                "a configuration with its own schedule has one method only, not the several that were given",
            ));
        }
        for (at, axis) in self.axes.iter().enumerate() {
            let key = &axis.key;
            if key == "seed" || key == "method" {
                return Err(TrainError::invalid(format!("{key} is no axis: give several of it as such")));
            }
            if self.axes[..at].iter().any(|other| other.key == *key) {
                return Err(TrainError::invalid(format!("{key} is varied twice")));
            }
        }
        let mut plan = Vec::new();
        for &seed in &self.seeds {
            for settings in combinations(self.axes.iter()) {
                let given: Vec<String> =
                    settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
                let config = Config::load(&self.base, None, &given)?;
                for &method in &self.methods {
                    let config = Config { method, seed, ..config.clone() };
                    plan.push(Planned { config, settings: settings.clone() });
                }
            }
        }
        Ok(plan)
    }

    /// What is compared: each method with each combination of the axes that are not averaged over.
    pub(crate) fn rows(&self) -> Vec<(Method, BTreeMap<String, Value>)> {
        let varied = combinations(self.axes.iter().filter(|axis| !axis.averaged));
        varied
            .into_iter()
            .flat_map(|settings| self.methods.iter().map(move |&method| (method, settings.clone())))
            .collect()
    }

    /// The number of runs whose scores are averaged for one seed of a row.
    pub(crate) fn averaged(&self) -> usize {
        self.axes.iter().filter(|axis| axis.averaged).map(|axis| axis.values.len()).product()
    }
}

/// Every combination of the axes' values; the last axis changes fastest.
fn combinations<'a>(axes: impl Iterator<Item = &'a Axis>) -> Vec<BTreeMap<String, Value>> {
    axes.fold(vec![BTreeMap::new()], |before, axis| {
        let with = |settings: &BTreeMap<String, Value>, value: &Value| {
            let mut settings = settings.clone();
            settings.insert(axis.key.clone(), value.clone());
            settings
        };
        before
            .iter()
            .flat_map(|settings| axis.values.iter().map(move |value| with(settings, value)))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_toml_or_words() {
        let check = |text: &str, expected: Option<Vec<&str>>| {
            let values = text.parse::<Axis>().ok();
            let values = values.map(|axis| axis.values.iter().map(Value::to_string).collect::<Vec<_>>());
            assert_eq!(values, expected.map(|all| all.into_iter().map(String::from).collect()), "{text}");
        };
        check("a.b=0.1,0.3", Some(vec!["0.1", "0.3"]));
        check("a=1", Some(vec!["1"]));
        check("a=shared, per-task", Some(vec!["\"shared\"", "\"per-task\""]));
        check("a=true,other", Some(vec!["true", "\"other\""]));
        check("a={kind='l1'},{kind='l2'}", Some(vec!["{ kind = \"l1\" }", "{ kind = \"l2\" }"]));
        check("a=", None);
        check("a", None);
    }

    fn grid(axes: &[&str]) -> Grid {
        Grid {
            base: Config::sample(),
            axes: axes.iter().map(|axis| axis.parse().unwrap()).collect(),
            methods: vec![Method::Dml, Method::DmlLwf],
            seeds: vec![0, 1],
        }
    }

    #[test]
    fn a_plan_is_every_combination_with_its_settings() {
        let mut grid = grid(&["training.lambda_class=0.1,0.2,0.3", "data.seed=4,5"]);
        grid.axes[1].averaged = true;
        let plan = grid.plan().unwrap();
        assert_eq!(plan.len(), 2 * 3 * 2 * 2);
        assert_eq!((grid.rows().len(), grid.averaged()), (3 * 2, 2));
        let last = plan.last().unwrap();
        assert_eq!(
            (last.config.seed, last.config.method, last.config.training.lambda_class),
            (1, Method::DmlLwf, 0.3)
        );
        assert_eq!(last.settings["data.seed"], Value::Integer(5));
    }

    #[test]
    fn what_is_no_grid_is_refused() {
        let check = |grid: Grid, part: &str| {
            let error = grid.plan().unwrap_err().to_string();
            assert!(error.contains(part), "{error} should say {part}");
        };
        check(grid(&["training.lambda=0.1"]), "lambda");
        check(grid(&["training.lambda_class=0.1,1.5"]), "1.5");
        check(grid(&["training.batch=1,2", "training.batch=3"]), "twice");
        check(grid(&["seed=1,2"]), "seed");
        check(Grid { seeds: vec![], ..grid(&[]) }, "seed");
    }
}
