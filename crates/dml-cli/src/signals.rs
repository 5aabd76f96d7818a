//! SIGINT (Ctrl-C) and SIGTERM: the first asks the run to finish its step and save, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use anyhow::{Context, Result};

use crate::progress::complain;

const INTERRUPT: u8 = 2;

/// The signal that came.
static SIGNAL: AtomicU8 = AtomicU8::new(INTERRUPT);

/// The exit code of a run that was stopped and has saved what it had, as shells have it: 128 and the signal's number.
pub(crate) fn exit_code() -> u8 {
    128 + SIGNAL.load(Ordering::Relaxed)
}

/// A flag that is set when a signal comes.
pub(crate) fn listen() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let received = move |signal| {
        SIGNAL.store(signal, Ordering::Relaxed);
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(exit_code().into());
        }
        complain("stopping after this step (once more to stop at once)");
    };
    start(received).context("listening for Ctrl-C")?;
    Ok(stop)
}

#[cfg(unix)]
fn start(received: impl Fn(u8) + Send + 'static) -> Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let work = move || signals.forever().for_each(|signal| received(signal as u8));
    std::thread::Builder::new().name("signals".into()).spawn(work)?;
    Ok(())
}

#[cfg(not(unix))]
fn start(received: impl Fn(u8) + Send + 'static) -> Result<()> {
    Ok(ctrlc::set_handler(move || received(INTERRUPT))?)
}
