//! Writing files so that nobody ever sees half of one.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Writes the file beside its place, syncs and renames it. Missing folders are made.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let unique = format!("{}-{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let temporary = path.with_extension(unique);
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| publish(&temporary, path));
    if written.is_err() {
        // Best effort: what is left behind is only a temporary file.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Gives a finished, synced file its name, and syncs the folder so that the name stays.
pub(crate) fn publish(temporary: &Path, path: &Path) -> io::Result<()> {
    std::fs::rename(temporary, path)?;
    match path.parent() {
        Some(dir) if cfg!(unix) => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}
