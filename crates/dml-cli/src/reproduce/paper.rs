//! The paper's tables as data: `data/paper.toml`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use dml_data::Actions;
use dml_train::{Axis, Config, Method};
use serde::Deserialize;
use toml::{Table as Toml, Value};

const TABLES: &str = include_str!("../../../../data/paper.toml");
/// The paper's settings where they differ from the defaults for photographs.
const PHOTOGRAPHS: &str = include_str!("../../../../docs/table4.toml");

/// The names that can be asked for, in the paper's order.
pub(crate) const NAMES: [&str; 7] = ["table1", "table2", "table3", "table4", "table5", "fig4", "fig5"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Paper {
    tables: Vec<Table>,
}

/// A table or figure.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) title: String,
    /// Kinds of data that it can be trained on, the paper's first.
    pub(super) data: Vec<String>,
    /// By kind of data, the settings over whose values the paper averages.
    #[serde(default)]
    average: BTreeMap<String, Vec<String>>,
    /// Settings that are varied.
    #[serde(default)]
    axes: Vec<String>,
    /// Whether scores are those of a linear SVM on fc6.
    #[serde(default)]
    pub(super) svm: bool,
    /// Whether it is about the course of training.
    #[serde(default)]
    pub(super) curves: bool,
    pub(super) note: Option<String>,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
}

/// A column: a score of ours, and a number of the paper's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Column {
    pub(super) name: String,
    /// The paper's name for it, where that is another.
    paper: Option<String>,
    /// Parts of the names of our scores, the first that there is.
    pub(super) scores: Vec<String>,
}

/// A row: a method of ours, and numbers of the paper's by column.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) method: Option<Method>,
    #[serde(default)]
    paper: BTreeMap<String, f64>,
}

impl Table {
    /// The table of this name.
    pub(super) fn find(name: &str) -> Result<Self> {
        let Paper { tables } = toml::from_str(TABLES).context("reading the paper's tables")?;
        let found = tables.into_iter().find(|table| table.name == name);
        found.with_context(|| format!("there is no {name:?}; there are {}", NAMES.join(", ")))
    }

    /// The methods that are trained.
    pub(super) fn methods(&self) -> Vec<Method> {
        self.rows.iter().filter_map(|row| row.method).collect()
    }

    /// The settings that are varied, and those that are averaged over: the table's own, unless others are given.
    pub(super) fn axes(&self, kind: &str, averages: Vec<Axis>) -> Result<Vec<Axis>> {
        let parse = |text: &String| text.parse::<Axis>().map_err(anyhow::Error::msg);
        let mut axes: Vec<Axis> = self.axes.iter().map(parse).collect::<Result<_>>()?;
        if averages.is_empty() {
            for text in self.average.get(kind).into_iter().flatten() {
                axes.push(Axis { averaged: true, ..parse(text)? });
            }
        }
        axes.extend(averages);
        Ok(axes)
    }

    /// Removes what the paper tells of other actions than those that are trained on.
    pub(super) fn keep_columns_of(&mut self, actions: Actions) {
        let other = match actions {
            Actions::Ucf101 => "HMDB51",
            Actions::Hmdb51 => "UCF101",
        };
        self.columns.retain(|column| column.name != other);
    }

    /// Refuses data that the table says nothing about.
    pub(super) fn check_kind(&self, kind: &str) -> Result<()> {
        if !self.data.iter().any(|known| known == kind) {
            bail!("{} is about {}, not about {kind}", self.title, self.data.join(" (or the "));
        }
        Ok(())
    }
}

impl Column {
    /// The paper's number in a row.
    pub(super) fn paper(&self, row: &Row) -> Option<f64> {
        row.paper.get(self.paper.as_ref().unwrap_or(&self.name)).copied()
    }
}

/// The paper's settings laid over the defaults of a kind of data.
pub(super) fn settings(kind: &str, defaults: &Config) -> Result<Config> {
    let given = if kind == "photographs" { PHOTOGRAPHS } else { "" };
    let given: Toml = toml::from_str(given).context("reading the paper's settings")?;
    let mut settings = Vec::new();
    for (key, value) in given {
        match value {
            Value::Table(table) => {
                settings.extend(table.iter().map(|(inner, value)| format!("{key}.{inner}={value}")));
            }
            value => settings.push(format!("{key}={value}")),
        }
    }
    Ok(Config::load(defaults, None, &settings)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_name_is_a_table_whose_rows_and_columns_meet() {
        for name in NAMES {
            let table = Table::find(name).unwrap();
            for axis in table.axes("videos", vec![]).unwrap() {
                assert!(!axis.values.is_empty());
            }
            for row in &table.rows {
                let known = |key: &String| table.columns.iter().any(|column| column.name == *key);
                assert!(row.paper.keys().all(known), "{name}: {}", row.name);
                assert!(row.method.is_some() || !row.paper.is_empty(), "{name}: {}", row.name);
            }
        }
        assert!(Table::find("table6").unwrap_err().to_string().contains("table5"));
    }

    #[test]
    fn numbers_are_the_papers() {
        let check = |table: &str, row: &str, column: &str, expected: Option<f64>| {
            let table = Table::find(table).unwrap();
            let row = table.rows.iter().find(|r| r.name == row).unwrap();
            let column = table.columns.iter().find(|c| c.name == column).unwrap();
            assert_eq!(column.paper(row), expected);
        };
        check("table1", "DML + LwF", "Acc", Some(82.26));
        check("table3", "CNN (Karpathy 2014)", "HMDB51", None);
        check("table4", "Finetuning (class→caption)", "top-1", Some(2.61));
        check("table5", "distillation, T = 1", "mAP", Some(56.17));
        for (actions, name) in [(Actions::Ucf101, "UCF101"), (Actions::Hmdb51, "HMDB51")] {
            let mut table = Table::find("table3").unwrap();
            table.keep_columns_of(actions);
            assert_eq!(table.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), [name]);
        }
    }

    #[test]
    fn the_papers_settings_on_photographs() {
        let defaults = Config::photographs(Path::new("a"), Path::new("b"));
        let config = settings("photographs", &defaults).unwrap();
        assert_eq!((config.training.lambda_class, config.training.lambda_caption), (0.5, 0.7));
        assert_eq!(config.training.caption_loss, dml_train::Loss::Cosine);
        assert_eq!(config.data, defaults.data);
        assert_eq!(settings("sample", &Config::sample()).unwrap(), Config::sample());
    }
}
