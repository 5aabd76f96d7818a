//! The commands a chore runs: shown, in the repository's root, with the terminal passed through.

use std::fmt;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result};

/// A command that ran and failed. The chore ends with the same exit code.
#[derive(Debug)]
pub(crate) struct Failed {
    line: String,
    status: ExitStatus,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` failed ({})", self.line, self.status)
    }
}

impl std::error::Error for Failed {}

/// Runs the cargo that started this chore.
pub(crate) fn cargo(args: &[&str]) -> Result<()> {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    run(&format!("cargo {}", args.join(" ")), Command::new(program).args(args))
}

/// Shows `line`, runs `command` in the repository's root and waits; an exit code other than 0 is a [`Failed`].
pub(crate) fn run(line: &str, command: &mut Command) -> Result<()> {
    eprintln!("$ {line}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let status =
        command.current_dir(root).status().with_context(|| format!("`{line}` could not be started"))?;
    if status.success() { Ok(()) } else { Err(Failed { line: line.to_owned(), status }.into()) }
}

/// The exit code of the command that failed; 128 + n if a signal n ended it; 1 for any other error.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    let status = error.downcast_ref::<Failed>().map(|failed| failed.status);
    let code = status.and_then(|status| status.code().or_else(|| signal(status).map(|signal| 128 + signal)));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal(_status: ExitStatus) -> Option<i32> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<()> {
        run(script, Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn a_failed_command_gives_its_exit_code() {
        assert!(shell("exit 0").is_ok());
        let error = shell("exit 101").unwrap_err();
        assert_eq!(exit_code(&error), ExitCode::from(101));
        assert!(error.to_string().starts_with("`exit 101` failed"), "{error}");
        assert_eq!(exit_code(&shell("kill -TERM $$").unwrap_err()), ExitCode::from(143));
    }

    #[test]
    fn a_missing_command_is_an_error_of_code_1() {
        let error = run("nothing", &mut Command::new("no-such-program-here")).unwrap_err();
        assert_eq!(exit_code(&error), ExitCode::from(1));
    }

    #[test]
    fn commands_run_in_the_repository_root() {
        assert!(shell("test -f Cargo.lock && test -d crates/dml-metrics").is_ok());
    }
}
