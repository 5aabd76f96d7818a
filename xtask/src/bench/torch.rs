//! PyTorch, which a bench may be compared with: a virtual environment of its own, outside the repository.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::step;

/// The release that is installed; numpy only keeps PyTorch from warning that it is missing.
const PACKAGES: [&str; 2] = ["torch==2.15.0", "numpy"];

/// A Python with PyTorch: of the environment that `$DML_TORCH_VENV` names, or of one in the user's cache folder, which
/// is made at the first call.
pub(super) fn python() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set("DML_TORCH_VENV") {
        let python = interpreter(&folder);
        if !has_torch(&python) {
            bail!("DML_TORCH_VENV names {}, where Python cannot import torch", folder.display());
        }
        return Ok(python);
    }
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let cache = cache.context("neither DML_TORCH_VENV nor XDG_CACHE_HOME nor HOME is set")?;
    let folder = cache.join("dml").join("torch-venv");
    let python = interpreter(&folder);
    if !has_torch(&python) {
        create(&folder, &python)?;
    }
    Ok(python)
}

fn create(folder: &Path, python: &Path) -> Result<()> {
    eprintln!(
        "PyTorch is installed from PyPI into {} (about 3 GB to download and 6 GB on disk with Linux's wheel, much less \
         elsewhere). Only this comparison uses it; delete the folder to be rid of it, or set DML_TORCH_VENV to an \
         environment that has it.",
        folder.display()
    );
    let shown = folder.display();
    let mut make = Command::new("python3");
    step::run(&format!("python3 -m venv --clear {shown}"), make.args(["-m", "venv", "--clear"]).arg(folder))?;
    let line = format!("{} -m pip install {}", python.display(), PACKAGES.join(" "));
    step::run(&line, Command::new(python).args(["-m", "pip", "install"]).args(PACKAGES))
}

fn interpreter(folder: &Path) -> PathBuf {
    if cfg!(windows) { folder.join("Scripts").join("python.exe") } else { folder.join("bin").join("python") }
}

/// Whether a whole installation is there: one that was interrupted cannot be imported.
fn has_torch(python: &Path) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", "import torch"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
