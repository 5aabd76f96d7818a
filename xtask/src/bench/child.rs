//! A measuring program, kept alive between its runs, so that two can take turns.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A child process that answers every line with a line of JSON.
pub(super) struct Program {
    name: String,
    child: Child,
    answers: BufReader<ChildStdout>,
    /// The line that it printed when it was ready.
    pub(super) ready: Value,
}

impl Program {
    /// Starts it and waits until it is ready.
    pub(super) fn start(name: &str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{name} could not be started"))?;
        let stdout = child.stdout.take().with_context(|| format!("{name} has no output"))?;
        let mut program =
            Self { name: name.into(), child, answers: BufReader::new(stdout), ready: Value::Null };
        program.ready = program.answer()?;
        Ok(program)
    }

    /// One run.
    pub(super) fn ask(&mut self, line: &str) -> Result<Value> {
        let input = self.child.stdin.as_mut().with_context(|| format!("{} takes no input", self.name))?;
        // A program that has ended tells more by its missing answer.
        let _ = writeln!(input, "{line}").and_then(|()| input.flush());
        self.answer()
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            let status = self.child.wait()?;
            bail!("{} ended without an answer ({status}); what it said is above", self.name);
        }
        serde_json::from_str(&line).with_context(|| format!("{} answered {line:?}, not JSON", self.name))
    }
}

impl Drop for Program {
    /// At the end of its input it ends by itself.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Where programs take turns, the threads of the one before still spin for a while in wait of work, on the cores of the
/// next.
pub(super) fn rest() {
    std::thread::sleep(std::time::Duration::from_millis(500));
}

/// A number in an answer.
pub(super) fn number(answer: &Value, key: &str) -> Result<f64> {
    answer[key].as_f64().with_context(|| format!("no number {key:?} in the answer {answer}"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Program> {
        Program::start("the script", Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn every_line_gets_an_answer() {
        let mut program =
            shell(r#"echo '{"ready": true}'; while read x; do echo "{\"twice\": $((2 * x))}"; done"#)
                .unwrap();
        assert_eq!(program.ready["ready"], true);
        for x in [1, 21] {
            assert_eq!(number(&program.ask(&x.to_string()).unwrap(), "twice").unwrap(), 2.0 * f64::from(x));
        }
    }

    #[test]
    fn a_program_that_ends_or_babbles_is_an_error() {
        let check = |script: &str, expected: &str| {
            let error = shell(script).err().unwrap();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        };
        check("exit 3", "the script ended without an answer (exit status: 3)");
        check("echo hello", "the script answered \"hello\\n\", not JSON");
    }
}
