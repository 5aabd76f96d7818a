//! A folder in which the command runs.

use std::path::Path;

use assert_cmd::Command;

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

pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::write(place.path().join("tiny.toml"), TINY).unwrap();
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs `dml`; returns exit code, standard output and standard error.
    pub(crate) fn dml(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::cargo_bin("dml").unwrap();
        command
            .current_dir(self.path())
            .env("XDG_CACHE_HOME", self.path().join("cache"))
            .env("HF_HOME", self.path().join("hub"))
            .env_remove("DML_WEIGHTS");
        let output = command.args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    /// Runs `dml`, which must fail with exit code 1, and returns its complaint.
    pub(crate) fn complaint(&self, args: &[&str]) -> String {
        let (code, stdout, stderr) = self.dml(args);
        assert_eq!(code, 1, "{args:?}\n{stdout}{stderr}");
        stderr
    }
}
