//! ffmpeg decodes the videos. It is a program of the system, not a crate, so a chore looks for it.

use std::process::{Command, Stdio};

use crate::step;

/// Looks for ffmpeg, installs it where that is possible without asking for a password, and otherwise says how.
///
/// A machine without ffmpeg is no failure: what needs it says so itself.
pub(crate) fn ensure() {
    if found("ffmpeg", "-version") {
        return;
    }
    if may_install() && install() && found("ffmpeg", "-version") {
        return;
    }
    eprintln!("note: ffmpeg is not installed; tests that decode videos will be left out. {}", advice());
}

fn found(program: &str, argument: &str) -> bool {
    let quiet = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

fn may_install() -> bool {
    let id = Command::new("id").arg("-u").output();
    let root = id.is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    root && found("apt-get", "--version")
}

/// Fresh images come without package lists, so a first failure is answered with an update and a second try.
fn install() -> bool {
    apt_get(&["install", "-y", "ffmpeg"]) || apt_get(&["update"]) && apt_get(&["install", "-y", "ffmpeg"])
}

fn apt_get(args: &[&str]) -> bool {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    let result = step::run(&format!("apt-get {}", args.join(" ")), &mut command);
    if let Err(error) = &result {
        eprintln!("note: {error:#}");
    }
    result.is_ok()
}

fn advice() -> &'static str {
    match std::env::consts::OS {
        "linux" => {
            "To install it: `sudo apt-get install ffmpeg`, or your distribution's package of that name."
        }
        "macos" => "To install it: `brew install ffmpeg`.",
        _ => "To install it: see https://ffmpeg.org/download.html.",
    }
}
