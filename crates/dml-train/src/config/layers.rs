use std::path::Path;

use toml::{Table, Value};

use super::{Config, DataConfig, defaults};
use crate::{Result, TrainError};

/// What is laid over the defaults, and how an error in it reads.
struct Layer<'a> {
    given: Table,
    error: Box<dyn Fn(String) -> TrainError + 'a>,
}

impl Config {
    /// The defaults, overlaid by a file (if one is given) and then by `key.path=value` settings. Where these ask for
    /// another kind of data than `defaults` have, or for a root with settings of its own (see [`Config::with_root`]), they
    /// are laid over the defaults of that.
    ///
    /// # Errors
    /// If the file cannot be read, is not TOML, or has an unknown key or a value of the wrong type or range.
    pub fn load(defaults: &Self, file: Option<&Path>, settings: &[String]) -> Result<Self> {
        let mut layers = Vec::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| TrainError::Io { path: path.into(), source })?;
            let error = Box::new(|problem| TrainError::Config { path: path.into(), problem });
            let given: Table = toml::from_str(&text).map_err(|e| error(e.to_string()))?;
            layers.push(Layer { given, error });
        }
        for setting in settings {
            let error =
                Box::new(move |problem| TrainError::invalid(format!("setting {setting:?}: {problem}")));
            layers.push(Layer { given: parse_setting(setting).map_err(&error)?, error });
        }
        let mut table = to_table(&base(defaults, &layers))?;
        for Layer { given, error } in layers {
            overlay(&mut table, given);
            Value::Table(table.clone()).try_into::<Self>().map_err(|e| error(e.to_string()))?;
        }
        let config: Self = Value::Table(table.clone())
            .try_into()
            .map_err(|e: toml::de::Error| TrainError::invalid(e.to_string()))?;
        // Some keys, such as those beside a `kind` without settings, are refused by nothing before.
        if let Some(key) = unknown_key(&table, &to_table(&config)?) {
            return Err(TrainError::invalid(format!("unknown key {key:?} in the configuration")));
        }
        config.check()?;
        Ok(config)
    }
}

/// The defaults of the kinds of data and root that the layers ask for.
fn base(defaults: &Config, layers: &[Layer]) -> Config {
    let kind =
        |section: &str| layers.iter().rev().find_map(|layer| layer.given.get(section)?.get("kind")?.as_str());
    let nowhere = Path::new("");
    let base = match (kind("data"), &defaults.data) {
        (Some("sample"), DataConfig::Photographs(_) | DataConfig::Videos(_)) => Config::sample(),
        (Some("photographs"), DataConfig::Sample(_) | DataConfig::Videos(_)) => {
            Config::photographs(nowhere, nowhere)
        }
        (Some("videos"), DataConfig::Sample(_) | DataConfig::Photographs(_)) => {
            Config::videos(nowhere, nowhere)
        }
        _ => defaults.clone(),
    };
    match kind("root").and_then(defaults::root) {
        Some(root) => base.with_root(root),
        None => base,
    }
}

fn to_table(config: &Config) -> Result<Table> {
    match Value::try_from(config) {
        Ok(Value::Table(table)) => Ok(table),
        Ok(_) => Err(TrainError::invalid("the configuration is not a table")),
        Err(e) => Err(TrainError::invalid(e.to_string())),
    }
}

/// `a.b=value`, where the value is TOML, or a bare word.
fn parse_setting(setting: &str) -> std::result::Result<Table, String> {
    let (key, value) = setting.split_once('=').ok_or("write it as key.path=value")?;
    let quoted = format!("{key} = {}", Value::String(value.trim().into()));
    toml::from_str(setting).or_else(|_| toml::from_str(&quoted)).map_err(|e| e.to_string())
}

/// Lays `given` over `base`. A table whose `kind` changes is replaced as a whole: its other keys belong to the old kind.
fn overlay(base: &mut Table, given: Table) {
    for (key, value) in given {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new))
                if new.get("kind").is_none_or(|kind| old.get("kind") == Some(kind)) =>
            {
                overlay(old, new);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// The path of a key that is given but not known.
fn unknown_key(given: &Table, known: &Table) -> Option<String> {
    given.iter().find_map(|(key, value)| match (value, known.get(key)) {
        (_, None) => Some(key.clone()),
        (Value::Table(given), Some(Value::Table(known))) => {
            unknown_key(given, known).map(|inner| format!("{key}.{inner}"))
        }
        _ => None,
    })
}
