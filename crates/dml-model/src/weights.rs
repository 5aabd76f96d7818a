//! Published weights: where they are on this machine, or their download.

use std::path::{Path, PathBuf};

use hf_hub::{HFClient, HFClientSync, HFResult};

use crate::{ModelError, Result};

/// Weights that somebody published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// What they are, for messages.
    pub what: &'static str,
    /// File names under which a local folder may have them.
    pub files: &'static [&'static str],
    /// Owner, name and file on the Hugging Face hub.
    pub hub: (&'static str, &'static str, &'static str),
}

/// EfficientNet-Lite0, trained on ImageNet (Apache-2.0). Read with
/// [`efficientnet::read_weights`](crate::efficientnet::read_weights).
pub const EFFICIENTNET_LITE0: Published = Published {
    what: "EfficientNet-Lite0's ImageNet weights",
    files: &["efficientnet-lite0.pth", "efficientnet-lite0.safetensors"],
    hub: ("timm", "tf_efficientnet_lite0.in1k", "model.safetensors"),
};

/// Finds published weights: at `explicit` (a file, or a folder that has it) if given, and nowhere else;
/// otherwise in the folder `$DML_WEIGHTS`, then in the folder `dml-weights` of the user's cache
/// (`$XDG_CACHE_HOME`, or `~/.cache`), then in the Hugging Face cache, then on the hub (`$HF_ENDPOINT`), from
/// where they are downloaded into the Hugging Face cache.
///
/// # Errors
/// If they are in none of these places: the error lists each, what was wrong there, and what to do.
pub fn find(published: &Published, explicit: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = explicit {
        let file = if path.is_dir() {
            in_folder(published, path)
        } else {
            Some(path.into()).filter(|_| path.is_file())
        };
        return file.ok_or_else(|| not_found(published, vec![format!("{} (given)", path.display())]));
    }
    find_in(published, &folders(), HFClient::builder())
}

/// The folders that [`find`] looks in before the hub, each with where it comes from.
fn folders() -> Vec<(PathBuf, &'static str)> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = var("XDG_CACHE_HOME").or_else(|| Some(var("HOME")?.join(".cache")));
    let given = var("DML_WEIGHTS").map(|folder| (folder, "$DML_WEIGHTS"));
    given.into_iter().chain(cache.map(|cache| (cache.join("dml-weights"), "the user's cache"))).collect()
}

fn find_in(
    published: &Published,
    folders: &[(PathBuf, &'static str)],
    client: hf_hub::HFClientBuilder,
) -> Result<PathBuf> {
    let mut looked = Vec::new();
    for (folder, origin) in folders {
        match in_folder(published, folder) {
            Some(file) => return Ok(file),
            None => looked.push(format!(
                "{} ({origin}): {} not there",
                folder.display(),
                published.files.join(", ")
            )),
        }
    }
    let (owner, name, file) = published.hub;
    download(published, client).map_err(|error| {
        looked.push(format!("the Hugging Face hub, {owner}/{name}, {file}: {}", with_causes(&error)));
        not_found(published, looked)
    })
}

/// Finds published weights where [`find`] would, but on this machine alone.
pub fn find_here(published: &Published) -> Option<PathBuf> {
    let cached = || {
        let client = HFClientSync::from_inner(HFClient::builder().build().ok()?).ok()?;
        let (owner, name, file) = published.hub;
        client.model(owner, name).download_file().filename(file).local_files_only(true).send().ok()
    };
    local(published).or_else(cached)
}

/// The weights in one of the local folders.
pub(crate) fn local(published: &Published) -> Option<PathBuf> {
    folders().iter().find_map(|(folder, _)| in_folder(published, folder))
}

fn in_folder(published: &Published, folder: &Path) -> Option<PathBuf> {
    published.files.iter().map(|file| folder.join(file)).find(|file| file.is_file())
}

fn download(published: &Published, client: hf_hub::HFClientBuilder) -> HFResult<PathBuf> {
    let (owner, name, file) = published.hub;
    // Two attempts: a hub that cannot be reached should be said so within seconds.
    let client = HFClientSync::from_inner(client.retry_max_attempts(2).build()?)?;
    let repository = client.model(owner, name);
    let cached = repository.download_file().filename(file).local_files_only(true).send();
    cached.or_else(|_| repository.download_file().filename(file).send())
}

fn not_found(published: &Published, looked: Vec<String>) -> ModelError {
    let files = published.files.join(" or ");
    let advice = format!(
        "Put {files} into a folder and name it in DML_WEIGHTS, give the file's path, or let this machine reach the hub \
         (HF_ENDPOINT names a mirror)."
    );
    ModelError::WeightsNotFound { what: published.what, looked, advice }
}

/// The HTTP client's own message says only that a request failed; the reason is among its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
