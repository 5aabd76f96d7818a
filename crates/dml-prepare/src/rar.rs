//! Rar archives: with the crate `unrar` where its feature is on, else with a program of the system.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::extract::{Guard, size_of_folder};

/// Whether rar archives can be unpacked here.
pub fn available() -> bool {
    cfg!(feature = "rar") || Program::find().is_some()
}

/// What to do where they cannot.
pub(crate) const ADVICE: &str = "rar archives need a program here: install bsdtar, unar or RARLAB's unrar (Debian and Ubuntu: \
     `apt-get install libarchive-tools`; macOS has bsdtar), or add `--features rar` to cargo's arguments";

pub(crate) fn unpack(archive: &Path, guard: &mut Guard<'_>) -> Result<()> {
    #[cfg(feature = "rar")]
    return linked::unpack(archive, guard);
    #[cfg(not(feature = "rar"))]
    match Program::find() {
        Some(program) => with_program(program, archive, guard),
        None => Err(guard.refuse(ADVICE)),
    }
}

/// A program that unpacks rar archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Unrar,
    Unar,
    Bsdtar,
}

impl Program {
    /// The first that is installed, the one that reads the most variants first.
    pub(crate) fn find() -> Option<Self> {
        [Self::Unrar, Self::Unar, Self::Bsdtar].into_iter().find(|program| program.installed())
    }

    pub(crate) fn installed(self) -> bool {
        let output = Command::new(self.name()).arg("--version").stdin(Stdio::null()).output();
        // Exit codes for this differ. Of the programs called unrar only the original takes the arguments used here.
        output.is_ok_and(|output| {
            self != Self::Unrar || has(&output.stdout, b"Roshal") || has(&output.stderr, b"Roshal")
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Unrar => "unrar",
            Self::Unar => "unar",
            Self::Bsdtar => "bsdtar",
        }
    }
}

fn has(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part == word)
}

/// Unpacks with a program. bsdtar turns the archive into a tar stream, whose every entry passes the guard; the others
/// write into the folder themselves, which is watched and checked.
#[cfg_attr(feature = "rar", allow(dead_code))]
pub(crate) fn with_program(program: Program, archive: &Path, guard: &mut Guard<'_>) -> Result<()> {
    let archive_path = std::path::absolute(archive).map_err(crate::error::io(archive))?;
    let mut command = Command::new(program.name());
    match program {
        Program::Bsdtar => {
            let mut source = std::ffi::OsString::from("@");
            source.push(&archive_path);
            command.args(["-c", "-f", "-"]).arg(source).stdout(Stdio::piped());
        }
        Program::Unrar => {
            // -o- overwrite nothing, -p- ask for no password, -y ask nothing, -inul say nothing.
            command.args(["x", "-o-", "-p-", "-y", "-inul", "--"]).arg(&archive_path);
            command.current_dir(guard.into).stdout(Stdio::null());
        }
        Program::Unar => {
            command.args(["-quiet", "-no-directory", "-force-skip", "-output-directory"]);
            command.arg(guard.into).arg(&archive_path).stdout(Stdio::null());
        }
    }
    let started = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = started.map_err(|e| guard.refuse(format!("{} does not start: {e}", program.name())))?;
    let unpacked = match child.stdout.take() {
        Some(mut stream) => crate::extract::tar(&mut stream, guard).map(|()| {
            // What follows the last entry must be read too: the program fails where nobody takes it.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }),
        None => watch(&mut child, guard),
    };
    if unpacked.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|e| guard.refuse(format!("{}: {e}", program.name())))?;
    unpacked?;
    if !status.success() {
        let problem = format!(
            "{} could not unpack it ({status}); it is damaged, or of a variant that {} does not read",
            program.name(),
            program.name()
        );
        return Err(guard.refuse(problem));
    }
    Ok(())
}

/// Ends a program that writes more than it may.
#[cfg_attr(feature = "rar", allow(dead_code))]
fn watch(child: &mut Child, guard: &mut Guard<'_>) -> Result<()> {
    let before = size_of_folder(guard.into)?;
    loop {
        let ended = child.try_wait().map_err(|e| guard.refuse(e.to_string()))?.is_some();
        let grown = size_of_folder(guard.into)?.saturating_sub(before);
        if grown > guard.left {
            return Err(guard.too_large());
        }
        if ended {
            guard.left -= grown;
            return Ok(());
        }
        guard.run.check()?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(feature = "rar")]
mod linked {
    use super::*;

    pub(super) fn unpack(archive: &Path, guard: &mut Guard<'_>) -> Result<()> {
        let failed = |e: unrar::error::UnrarError| crate::PrepareError::Archive {
            path: archive.into(),
            problem: format!("it is damaged: {e}"),
        };
        let mut open = unrar::Archive::new(archive).open_for_processing().map_err(failed)?;
        while let Some(at_file) = open.read_header().map_err(failed)? {
            let entry = at_file.entry();
            let (path, size) = (entry.filename.clone(), entry.unpacked_size);
            if entry.is_directory() {
                guard.folder(&path)?;
                open = at_file.skip().map_err(failed)?;
                continue;
            }
            if size > guard.left {
                return Err(guard.too_large());
            }
            // Into memory, so that nothing but the guard writes; a link has no content there.
            let (content, next) = at_file.read().map_err(failed)?;
            if content.len() as u64 != size {
                let problem =
                    format!("its entry \"{}\" is a link, or damaged; it is refused", path.display());
                return Err(guard.refuse(problem));
            }
            guard.file(&path, content.as_slice())?;
            open = next;
        }
        Ok(())
    }
}
