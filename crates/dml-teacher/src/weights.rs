use std::ffi::OsString;
use std::path::{Path, PathBuf};

use hf_hub::{HFClient, HFClientSync, HFResult};

use crate::layout::FILES;
use crate::{Result, TeacherError};

/// The hub's name for the default encoder: 6 layers, 384 dimensions, Apache-2.0.
pub const ALL_MINILM_L6_V2: &str = "sentence-transformers/all-MiniLM-L6-v2";

/// Finds the folder of a sentence encoder: the one given; else `all-MiniLM-L6-v2` in the folder that the environment
/// variable `DML_WEIGHTS` names; else in `dml-weights` of the user's cache (`$XDG_CACHE_HOME` or `~/.cache`); else from
/// the Hugging Face hub, which stores it in its own cache.
///
/// # Errors
/// If the folder given does not exist, or if there is none and the hub cannot be reached, with advice.
pub fn find_sentence_transformer(explicit: Option<&Path>) -> Result<PathBuf> {
    if let Some(dir) = explicit {
        // A folder that was asked for by name must not be replaced by another in silence.
        return match std::fs::read_dir(dir) {
            Ok(_) => Ok(dir.to_owned()),
            Err(source) => Err(TeacherError::Io { path: dir.into(), source }),
        };
    }
    let local = places(|name| std::env::var_os(name).filter(|value| !value.is_empty()));
    match local.into_iter().find(|dir| dir.join("config.json").is_file()) {
        Some(dir) => Ok(dir),
        None => fetch(ALL_MINILM_L6_V2, None),
    }
}

/// Finds the default encoder where [`find_sentence_transformer`] would, but on this machine alone.
pub fn find_sentence_transformer_here() -> Option<PathBuf> {
    let local = places(|name| std::env::var_os(name).filter(|value| !value.is_empty()));
    let cached = || {
        let client = HFClient::builder().build_sync().ok()?;
        let (owner, name) = ALL_MINILM_L6_V2.split_once('/')?;
        let files = FILES.map(String::from).to_vec();
        let model = client.model(owner, name);
        let snapshot = model.snapshot_download().allow_patterns(files);
        snapshot.local_files_only(true).send().ok().filter(|dir| dir.join("model.safetensors").is_file())
    };
    local.into_iter().find(|dir| dir.join("config.json").is_file()).or_else(cached)
}

/// Downloads a model, unless the hub's cache has all of it, and gives its folder.
pub(crate) fn fetch(id: &str, cache: Option<&Path>) -> Result<PathBuf> {
    let client = || {
        let builder = HFClient::builder().retry_max_attempts(1);
        match cache {
            Some(dir) => builder.cache_dir(dir).build_sync(),
            None => builder.build_sync(),
        }
    };
    client()
        .and_then(|client| fetch_with(&client, id))
        .map_err(|e| TeacherError::Hub { id: id.into(), problem: chain(&e) })
}

fn fetch_with(client: &HFClientSync, id: &str) -> HFResult<PathBuf> {
    let (owner, name) = id.split_once('/').unwrap_or(("", id));
    let model = client.model(owner, name);
    let snapshot = |cached| {
        let files = FILES.map(String::from).to_vec();
        model.snapshot_download().allow_patterns(files).local_files_only(cached).send()
    };
    match snapshot(true) {
        Ok(dir) if dir.join("model.safetensors").is_file() && dir.join("tokenizer.json").is_file() => Ok(dir),
        _ => snapshot(false),
    }
}

/// Where the default encoder may lie on this machine, best first.
fn places(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let weights = variable("DML_WEIGHTS").map(PathBuf::from);
    let home =
        || variable("HOME").or_else(|| variable("USERPROFILE")).map(|home| Path::new(&home).join(".cache"));
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let folders = [weights, cache.map(|dir| dir.join("dml-weights"))];
    folders.into_iter().flatten().map(|dir| dir.join("all-MiniLM-L6-v2")).collect()
}

/// An error with its causes; the hub client's own text leaves out why a connection failed.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |e| e.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_order() {
        let check = |variables: &[(&str, &str)], expected: &[&str]| {
            let of = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
            let expected: Vec<_> =
                expected.iter().map(|dir| Path::new(dir).join("all-MiniLM-L6-v2")).collect();
            assert_eq!(places(of), expected);
        };
        check(&[], &[]);
        check(&[("HOME", "/h")], &["/h/.cache/dml-weights"]);
        check(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")], &["/c/dml-weights"]);
        check(&[("HOME", "/h"), ("DML_WEIGHTS", "/w")], &["/w", "/h/.cache/dml-weights"]);
    }

    #[test]
    fn an_unreachable_hub_is_explained() {
        let dir = tempfile::TempDir::new().unwrap();
        // Nothing listens on the discard port.
        let client = HFClient::builder().endpoint("http://127.0.0.1:9").cache_dir(dir.path());
        let client = client.retry_max_attempts(0).build_sync().unwrap();
        let error = fetch_with(&client, ALL_MINILM_L6_V2).unwrap_err();
        let message = TeacherError::Hub { id: ALL_MINILM_L6_V2.into(), problem: chain(&error) }.to_string();
        for part in [ALL_MINILM_L6_V2, "127.0.0.1:9", "refused", "DML_WEIGHTS", "HF_ENDPOINT"] {
            assert!(message.contains(part), "\"{message}\" does not say \"{part}\"");
        }
    }
}
