//! A place where the command runs, and what it trains there.
// Not every test uses everything.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A sample and a network that train in a second or two.
const TINY: &str = r#"
[data]
kind = "sample"
size = 16
train = 32
caption_train = 32
pretrain = 32
test = 32

[root]
kind = "small-clip"
frames = 8
size = 16
channels = [4, 4, 8]
hidden = 16
dropout = 0.5

[pretrain]
epochs = 1

[training]
epochs = 2
block = 1
"#;

/// A folder to work in.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::write(place.path().join("tiny.toml"), TINY).unwrap();
        place
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// `dml` with these arguments, in this folder and with a cache of its own.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("dml"));
        command.current_dir(self.path()).env("XDG_CACHE_HOME", self.path().join("cache"));
        command.env("HF_HOME", self.path().join("hub")).env_remove("DML_WEIGHTS").args(args);
        command
    }

    /// Runs `dml`; returns exit code, standard output and standard error.
    pub fn dml(&self, args: &[&str]) -> (i32, String, String) {
        let output = self.command(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    /// Runs `dml`, which must fail with exit code 1, and returns its complaint.
    pub fn complaint(&self, args: &[&str]) -> String {
        let (code, stdout, stderr) = self.dml(args);
        assert_eq!(code, 1, "{args:?}\n{stdout}{stderr}");
        stderr
    }
}

/// The newest checkpoint of a run.
pub fn newest(run: &Path) -> PathBuf {
    let entries = std::fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.')).max().unwrap()
}
