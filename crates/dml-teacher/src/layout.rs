//! The files of a sentence-transformers model.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::network::Config;
use crate::pooling::{Mode, Pooling};
use crate::{Result, TeacherError};

/// Files that a model may have, relative to its folder; the hub is asked for these.
pub(crate) const FILES: [&str; 11] = [
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
    "2_Dense/pytorch_model.bin",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
];

/// What a model's folder says.
pub(crate) struct Layout {
    pub(crate) network: Config,
    pub(crate) pooling: Pooling,
    pub(crate) dense: Option<Dense>,
    /// The longest sentence in tokens, with the special ones; what is longer is cut.
    pub(crate) max_length: usize,
    /// Whether text is lower-cased before the tokenizer sees it.
    pub(crate) lower_case: bool,
    /// What every sentence begins with.
    pub(crate) prompt: String,
    pub(crate) tokenizer: PathBuf,
    pub(crate) weights: PathBuf,
}

/// A fully connected layer on the pooled vector.
pub(crate) struct Dense {
    pub(crate) sizes: [usize; 2],
    pub(crate) bias: bool,
    pub(crate) tanh: bool,
    pub(crate) weights: PathBuf,
}

#[derive(Deserialize)]
struct Module {
    path: String,
    r#type: String,
}

#[derive(Default, Deserialize)]
struct TransformerConfig {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

#[derive(Deserialize)]
struct DenseConfig {
    in_features: usize,
    out_features: usize,
    #[serde(default = "yes")]
    bias: bool,
    activation_function: String,
}

#[derive(Default, Deserialize)]
struct Prompts {
    #[serde(default)]
    prompts: Map<String, Value>,
    default_prompt_name: Option<String>,
}

fn yes() -> bool {
    true
}

impl Layout {
    /// Reads `modules.json` and the configurations it leads to. A folder without one is a plain transformer, which
    /// sentence-transformers pools by the mean.
    ///
    /// # Errors
    /// If a file is missing or cannot be parsed, or if it asks for what is not implemented.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let modules = dir.join("modules.json");
        let mut root = dir.to_owned();
        let (mut pooling, mut dense) = (Pooling::mean(), None);
        if let Some(list) = optional::<Vec<Module>>(&modules)? {
            let kinds: Vec<&str> =
                list.iter().map(|module| module.r#type.rsplit('.').next().unwrap_or_default()).collect();
            // The vectors are scaled to length one whether the model has Normalize or not.
            let ours = kinds.strip_suffix(&["Normalize"]).unwrap_or(&kinds);
            if !matches!(ours, ["Transformer", "Pooling"] | ["Transformer", "Pooling", "Dense"]) {
                let problem = format!(
                    "the modules {kinds:?} are not implemented; only Transformer, Pooling, Dense and Normalize, in this order"
                );
                return Err(TeacherError::Model { path: modules, problem });
            }
            root = dir.join(&list[0].path);
            pooling = read_pooling(&dir.join(&list[1].path).join("config.json"))?;
            if ours.len() == 3 {
                dense = Some(read_dense(&dir.join(&list[2].path))?);
            }
        }
        let path = root.join("config.json");
        let network = read_network(&path)?;
        if let Some(dense) = &dense
            && dense.sizes[0] != network.hidden_size * pooling.modes().len()
        {
            let problem = format!(
                "takes {} values of {} pooled ones",
                dense.sizes[0],
                network.hidden_size * pooling.modes().len()
            );
            return Err(TeacherError::Model { path: dense.weights.clone(), problem });
        }
        let path = root.join("sentence_bert_config.json");
        let TransformerConfig { max_seq_length, do_lower_case } = optional(&path)?.unwrap_or_default();
        let max_length = max_seq_length.map_or_else(|| tokenizer_length(&root), |length| Ok(Some(length)))?;
        let max_length = max_length.unwrap_or(usize::MAX).min(network.positions());
        if max_length < 3 {
            let problem = format!("max_seq_length {max_length} leaves no room for a word");
            return Err(TeacherError::Model { path, problem });
        }
        let prompt = read_prompt(&dir.join("config_sentence_transformers.json"))?;
        let (tokenizer, weights) = (root.join("tokenizer.json"), weights_in(&root));
        Ok(Self {
            network,
            pooling,
            dense,
            max_length,
            lower_case: do_lower_case,
            prompt,
            tokenizer,
            weights,
        })
    }
}

fn read_network(path: &Path) -> Result<Config> {
    Config::read(required(path)?).map_err(|problem| TeacherError::Model {
        path: path.into(),
        problem: format!("cannot be used: {problem}"),
    })
}

/// Older files have a flag for each mode (`pooling_mode_mean_tokens`, ...), newer ones a `pooling_mode`. The vectors of
/// several modes lie one after the other.
fn read_pooling(path: &Path) -> Result<Pooling> {
    let config: Map<String, Value> = required(path)?;
    let mut names = Vec::new();
    for (key, value) in &config {
        match (key.strip_prefix("pooling_mode"), value) {
            (Some(""), Value::String(mode)) => names.push(mode.as_str()),
            (Some(""), Value::Array(modes)) => names.extend(modes.iter().filter_map(Value::as_str)),
            (Some(mode), Value::Bool(true)) => names.push(mode.trim_start_matches('_')),
            _ => {}
        }
    }
    let modes: Option<Vec<Mode>> = names.iter().map(|name| Mode::named(name)).collect();
    modes.and_then(Pooling::new).ok_or_else(|| {
        let problem = format!(
            "the pooling mode {names:?} is not implemented; only cls, max, mean and mean_sqrt_len_tokens"
        );
        TeacherError::Model { path: path.into(), problem }
    })
}

fn read_dense(dir: &Path) -> Result<Dense> {
    let path = dir.join("config.json");
    let DenseConfig { in_features, out_features, bias, activation_function } = required(&path)?;
    let tanh = match activation_function.rsplit('.').next() {
        Some("Tanh") => true,
        Some("Identity") => false,
        _ => {
            let problem =
                format!("the activation {activation_function} is not implemented; only Tanh and Identity");
            return Err(TeacherError::Model { path, problem });
        }
    };
    Ok(Dense { sizes: [in_features, out_features], bias, tanh, weights: weights_in(dir) })
}

fn read_prompt(path: &Path) -> Result<String> {
    let Prompts { prompts, default_prompt_name } = optional(path)?.unwrap_or_default();
    let Some(name) = default_prompt_name else { return Ok(String::new()) };
    match prompts.get(&name) {
        Some(Value::String(prompt)) => Ok(prompt.clone()),
        _ => {
            let problem = format!("the default prompt {name:?} is not among the prompts");
            Err(TeacherError::Model { path: path.into(), problem })
        }
    }
}

/// The length in `tokenizer_config.json`, where newer models have it; absurdly large where there is none.
fn tokenizer_length(root: &Path) -> Result<Option<usize>> {
    let config: Option<Map<String, Value>> = optional(&root.join("tokenizer_config.json"))?;
    let length = config.and_then(|config| config.get("model_max_length").and_then(Value::as_f64));
    Ok(length.map(|length| length as usize))
}

/// `model.safetensors`, or torch's file where there is only that.
fn weights_in(dir: &Path) -> PathBuf {
    let torch = dir.join("pytorch_model.bin");
    let weights = dir.join("model.safetensors");
    if torch.exists() && !weights.exists() { torch } else { weights }
}

fn required<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text =
        std::fs::read_to_string(path).map_err(|source| TeacherError::Io { path: path.into(), source })?;
    serde_json::from_str(&text)
        .map_err(|e| TeacherError::Model { path: path.into(), problem: format!("cannot be understood: {e}") })
}

fn optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if path.exists() { required(path).map(Some) } else { Ok(None) }
}
