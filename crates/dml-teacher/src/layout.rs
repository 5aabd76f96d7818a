//! The files of a sentence-transformers model.

use std::path::{Path, PathBuf};

use candle_transformers::models::bert::Config;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Result, TeacherError};

/// Files that a model may have, relative to its folder; the hub is asked for these.
pub(crate) const FILES: [&str; 6] = [
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "config.json",
    "tokenizer.json",
    "model.safetensors",
];

/// What a model's folder says.
pub(crate) struct Layout {
    pub(crate) bert: Config,
    /// The longest sentence in tokens, with the two special ones; what is longer is cut.
    pub(crate) max_length: usize,
    /// Whether text is lower-cased before the tokenizer sees it.
    pub(crate) lower_case: bool,
    pub(crate) tokenizer: PathBuf,
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

impl Layout {
    /// Reads `modules.json` and the configurations it leads to. A folder without one is a plain BERT, which
    /// sentence-transformers pools by the mean.
    ///
    /// # Errors
    /// If a file is missing or cannot be parsed, or if it asks for anything but a BERT, mean pooling and
    /// normalisation.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let modules = dir.join("modules.json");
        let mut root = dir.to_owned();
        if let Some(list) = optional::<Vec<Module>>(&modules)? {
            let kinds: Vec<&str> =
                list.iter().map(|module| module.r#type.rsplit('.').next().unwrap_or_default()).collect();
            if !matches!(kinds[..], ["Transformer", "Pooling"] | ["Transformer", "Pooling", "Normalize"]) {
                let problem = format!(
                    "the modules {kinds:?} are not implemented; only Transformer, Pooling and Normalize, in this order"
                );
                return Err(TeacherError::Model { path: modules, problem });
            }
            root = dir.join(&list[0].path);
            check_pooling(&dir.join(&list[1].path).join("config.json"))?;
        }
        let path = root.join("config.json");
        let bert: Config = required(&path)?;
        let fail = |problem| Err(TeacherError::Model { path: path.clone(), problem });
        if let Some(kind) = bert.model_type.as_deref().filter(|kind| *kind != "bert") {
            return fail(format!("model_type {kind} is not implemented; only bert"));
        }
        if !bert.hidden_size.is_multiple_of(bert.num_attention_heads) {
            let Config { hidden_size, num_attention_heads, .. } = bert;
            return fail(format!(
                "{num_attention_heads} attention heads do not divide hidden_size {hidden_size}"
            ));
        }
        let path = root.join("sentence_bert_config.json");
        let TransformerConfig { max_seq_length, do_lower_case } = optional(&path)?.unwrap_or_default();
        let max_length = max_seq_length.unwrap_or(usize::MAX).min(bert.max_position_embeddings);
        if max_length < 3 {
            let problem = format!("max_seq_length {max_length} leaves no room for a word");
            return Err(TeacherError::Model { path, problem });
        }
        let (tokenizer, weights) = (root.join("tokenizer.json"), root.join("model.safetensors"));
        Ok(Self { bert, max_length, lower_case: do_lower_case, tokenizer, weights })
    }
}

/// Older files have a flag for each mode (`pooling_mode_mean_tokens`, ...), newer ones a `pooling_mode`.
fn check_pooling(path: &Path) -> Result<()> {
    let config: Map<String, Value> = required(path)?;
    let mut modes = Vec::new();
    for (key, value) in &config {
        match (key.strip_prefix("pooling_mode"), value) {
            (Some(""), Value::String(mode)) => modes.push(mode.as_str()),
            (Some(mode), Value::Bool(true)) => modes.push(mode.trim_start_matches('_')),
            _ => {}
        }
    }
    if modes.iter().all(|mode| ["mean", "mean_tokens"].contains(mode)) && !modes.is_empty() {
        return Ok(());
    }
    let problem = format!("the pooling mode {modes:?} is not implemented; only the mean over the tokens");
    Err(TeacherError::Model { path: path.into(), problem })
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
