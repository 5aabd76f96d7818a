use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};
use toml::Value;

use crate::experiment::CLASS;
use crate::method::Method;
use crate::sweep::{Axis, Grid, Sweep, SweepRun};

/// Scores of several methods, and of several settings, over several seeds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    /// The seeds that were asked for.
    pub seeds: Vec<u64>,
    /// The settings that were varied, and those that were averaged over.
    pub axes: Vec<Axis>,
    /// A row for each combination of settings and each method, in the order asked for.
    pub rows: Vec<Row>,
}

/// One method with one combination of settings.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The method.
    pub method: Method,
    /// The value of each axis that is not averaged over.
    pub settings: BTreeMap<String, Value>,
    /// The scores of the tasks that the method trains, by [`Score::key`](crate::Score::key).
    pub cells: BTreeMap<String, Cell>,
}

/// One score of one row.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cell {
    /// The seeds whose runs are finished.
    pub seeds: Vec<u64>,
    /// The score after the last phase, for each of them.
    pub values: Vec<f64>,
    /// What a phase of another task costs the score, for each seed; empty where there is no such phase.
    pub switch_costs: Vec<f64>,
    /// Difference to the single-task method that trains the score's task under the same settings, for each seed with which
    /// that was run.
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

/// Half the width of the 95 % confidence interval of the mean, by Student's t; none for fewer than two values.
pub fn half_interval(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let sd = mean_and_sd(values).1?;
    let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?.inverse_cdf(0.975);
    Some(t * sd / n.sqrt())
}

impl Comparison {
    /// The finished runs of a grid side by side. A seed counts in a row when all its runs that are averaged are there.
    pub fn new(grid: &Grid, sweep: &Sweep) -> Self {
        let averaged: BTreeSet<&str> =
            grid.axes.iter().filter(|axis| axis.averaged).map(|axis| axis.key.as_str()).collect();
        let own_schedule = grid.base.schedule.is_some();
        let mut rows: Vec<Row> = grid
            .rows()
            .into_iter()
            .map(|(method, settings)| {
                let in_row = |run: &&SweepRun| {
                    let shared = run.settings.iter().filter(|(key, _)| !averaged.contains(key.as_str()));
                    run.method == method && shared.eq(settings.iter())
                };
                let runs: Vec<&SweepRun> = sweep.runs.iter().filter(in_row).collect();
                let trains = if own_schedule { (true, true) } else { method.trains() };
                let cells = cells(&grid.seeds, grid.averaged(), &runs, trains);
                Row { method, settings, cells }
            })
            .collect();
        let singles: Vec<Row> = rows
            .iter()
            .filter(|row| matches!(row.method, Method::ClassOnly | Method::CaptionOnly))
            .cloned()
            .collect();
        for row in &mut rows {
            for single in singles.iter().filter(|single| single.settings == row.settings) {
                for (key, cell) in &mut row.cells {
                    if let Some(single) = single.cells.get(key) {
                        cell.to_single = paired(cell, single);
                    }
                }
            }
        }
        Self { seeds: grid.seeds.clone(), axes: grid.axes.clone(), rows }
    }

    /// Differences of a score of a row to the same under another method with the same settings, for each seed of both; none
    /// where there is no such row.
    pub fn differences(&self, row: &Row, key: &str, against: Method) -> Vec<f64> {
        let other =
            self.rows.iter().find(|other| (other.method, &other.settings) == (against, &row.settings));
        let cells = (row.cells.get(key), other.and_then(|other| other.cells.get(key)));
        if let (Some(cell), Some(other)) = cells { paired(cell, other) } else { vec![] }
    }

    /// The row whose mean of a score is best, and that mean.
    pub fn best(&self, key: &str) -> Option<(usize, f64)> {
        self.best_where(key, |_| true)
    }

    /// The same for each method that has the score, in the order of the rows.
    pub fn best_of_each(&self, key: &str) -> Vec<(usize, f64)> {
        let mut methods: Vec<Method> = Vec::new();
        for row in &self.rows {
            if !methods.contains(&row.method) {
                methods.push(row.method);
            }
        }
        methods.into_iter().filter_map(|method| self.best_where(key, |row| row.method == method)).collect()
    }

    fn best_where(&self, key: &str, wanted: impl Fn(&Row) -> bool) -> Option<(usize, f64)> {
        let of = |(number, row): (usize, &Row)| {
            let cell = row.cells.get(key).filter(|_| wanted(row))?;
            Some((number, mean_and_sd(&cell.values).0, cell.higher_is_better))
        };
        let better = |a: &(usize, f64, bool), b: &(usize, f64, bool)| {
            let order = a.1.total_cmp(&b.1);
            // The first of equals wins.
            (if a.2 { order } else { order.reverse() }).then(b.0.cmp(&a.0))
        };
        self.rows.iter().enumerate().filter_map(of).max_by(better).map(|(number, mean, _)| (number, mean))
    }
}

/// Differences of two cells, seed by seed.
fn paired(cell: &Cell, other: &Cell) -> Vec<f64> {
    let value =
        |cell: &Cell, seed| cell.seeds.iter().position(|&known| known == seed).map(|at| cell.values[at]);
    let difference = |&seed| Some(value(cell, seed)? - value(other, seed)?);
    cell.seeds.iter().filter_map(difference).collect()
}

/// The scores of a row's runs, each the mean of `averaged` runs of a seed.
fn cells(
    seeds: &[u64],
    averaged: usize,
    runs: &[&SweepRun],
    (class, caption): (bool, bool),
) -> BTreeMap<String, Cell> {
    let mut cells: BTreeMap<String, Cell> = BTreeMap::new();
    for &seed in seeds {
        let runs: Vec<&SweepRun> = runs.iter().copied().filter(|run| run.seed == seed).collect();
        if runs.len() != averaged {
            continue;
        }
        let mean = |values: Vec<f64>| {
            (values.len() == averaged).then(|| values.iter().sum::<f64>() / averaged as f64)
        };
        for score in &runs[0].scores {
            if !(if score.task == CLASS { class } else { caption }) {
                continue;
            }
            let key = score.key();
            let of = |run: &&SweepRun| run.scores.iter().find(|s| s.key() == key).map(|s| s.value);
            let Some(value) = mean(runs.iter().filter_map(of).collect()) else { continue };
            let cost = mean(runs.iter().filter_map(|run| run.switch_costs.get(&key).copied()).collect());
            let cell = cells.entry(key).or_default();
            cell.higher_is_better = score.higher_is_better;
            cell.seeds.push(seed);
            cell.values.push(value);
            // Where tasks change at every step there is no phase whose cost could be told.
            cell.switch_costs.extend(cost.filter(|_| runs[0].method != Method::Steps));
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::Config;
    use crate::evaluate::Score;

    fn run(method: Method, seed: u64, settings: &[(&str, i64)], value: f64) -> SweepRun {
        let settings =
            settings.iter().map(|(key, value)| (key.to_string(), Value::Integer(*value))).collect();
        let score = |task: &str, higher_is_better| Score {
            eval: task.into(),
            task: task.into(),
            measure: "m".into(),
            protocol: "p".into(),
            value,
            higher_is_better,
            n: 1,
        };
        SweepRun {
            hash: String::new(),
            method,
            seed,
            settings,
            folder: PathBuf::new(),
            scores: vec![score("class", true), score("caption", false)],
            switch_costs: BTreeMap::new(),
        }
    }

    fn grid(axes: &[&str], averaged: &[&str]) -> Grid {
        let axis = |text: &&str, averaged| Axis { averaged, ..text.parse::<Axis>().unwrap() };
        let axes =
            axes.iter().map(|text| axis(text, false)).chain(averaged.iter().map(|text| axis(text, true)));
        Grid {
            base: Config::sample(),
            axes: axes.collect(),
            methods: vec![Method::ClassOnly, Method::DmlLwf],
            seeds: vec![0, 1],
        }
    }

    #[test]
    fn seeds_are_paired_and_untrained_tasks_left_out() {
        let runs = vec![
            run(Method::ClassOnly, 0, &[], 50.0),
            run(Method::DmlLwf, 0, &[], 51.0),
            run(Method::DmlLwf, 1, &[], 53.0),
        ];
        let comparison = Comparison::new(&grid(&[], &[]), &Sweep { axes: vec![], runs });
        let [single, lwf] = &comparison.rows[..] else { panic!("two rows") };
        assert_eq!(single.cells.keys().collect::<Vec<_>>(), ["class | m | p"]);
        assert_eq!(lwf.cells["class | m | p"].values, [51.0, 53.0]);
        assert_eq!(lwf.cells["class | m | p"].to_single, [1.0]);
        assert!(lwf.cells["caption | m | p"].to_single.is_empty());
        assert_eq!(comparison.differences(lwf, "class | m | p", Method::ClassOnly), [1.0]);
        assert_eq!(comparison.differences(lwf, "class | m | p", Method::DmlLwf), [0.0, 0.0]);
        assert!(comparison.differences(lwf, "class | m | p", Method::Mixed).is_empty());
    }

    #[test]
    fn intervals_are_those_of_the_t_distribution() {
        // Values of standard deviation 1 and the 97.5 % quantile for one, four and nine degrees of freedom.
        for (n, quantile) in [(2, 12.7062), (5, 2.7764), (10, 2.2622)] {
            let values: Vec<f64> = (0..n).map(f64::from).collect();
            let sd = mean_and_sd(&values).1.unwrap();
            let half = half_interval(&values).unwrap();
            assert!((half * f64::from(n).sqrt() / sd - quantile).abs() < 1e-4, "{n}: {half}");
        }
        assert_eq!(half_interval(&[1.0]), None);
    }

    #[test]
    fn an_averaged_axis_gives_one_value_a_seed_once_all_of_it_is_there() {
        let of = |seed, split, value| run(Method::DmlLwf, seed, &[("s", split), ("a", 7)], value);
        let runs = vec![of(0, 1, 10.0), of(0, 2, 20.0), of(1, 1, 30.0)];
        let grid = grid(&["a=7"], &["s=1,2"]);
        let comparison = Comparison::new(&grid, &Sweep { axes: vec![], runs });
        let cell = &comparison.rows[1].cells["class | m | p"];
        assert_eq!((&cell.seeds[..], &cell.values[..]), (&[0][..], &[15.0][..]));
        assert_eq!(comparison.rows[1].settings, BTreeMap::from([("a".to_string(), Value::Integer(7))]));
    }

    #[test]
    fn the_best_row_has_the_highest_mean_or_the_lowest_rank() {
        let of = |seed, a, value| run(Method::DmlLwf, seed, &[("a", a)], value);
        let runs = vec![of(0, 1, 10.0), of(1, 1, 14.0), of(0, 2, 13.0), of(1, 2, 12.0), of(0, 3, 12.5)];
        let comparison = Comparison::new(&grid(&["a=1,2,3"], &[]), &Sweep { axes: vec![], runs });
        // Rows of class-only stand between, without cells.
        assert_eq!(comparison.best("class | m | p"), Some((3, 12.5)));
        assert_eq!(comparison.best("caption | m | p"), Some((1, 12.0)));
        assert_eq!(comparison.best("other"), None);
        // class-only has no run.
        assert_eq!(comparison.best_of_each("class | m | p"), [(3, 12.5)]);
    }
}
