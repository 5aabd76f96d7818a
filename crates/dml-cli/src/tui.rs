//! A full screen with the curves of every task through the phases, while a run goes on.

mod draw;
mod story;

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dml_train::Event;
use ratatui::crossterm::event::{self, Event as Input, KeyCode, KeyEventKind, KeyModifiers};

use story::Story;

/// The screen, drawn by a thread of its own so that long steps do not freeze it. It is given back when dropped.
pub(crate) struct Screen {
    story: Arc<Mutex<Story>>,
    closed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Screen {
    /// Takes the terminal. `q`, Esc and Ctrl-C set `stop`.
    pub(crate) fn open(title: &str, stop: &Arc<AtomicBool>) -> Result<Self> {
        if !std::io::stdout().is_terminal() {
            bail!("--tui needs a terminal: leave it out where the output goes to a file or a pipe");
        }
        let mut terminal = ratatui::try_init().context("taking the terminal for --tui")?;
        let story = Arc::new(Mutex::new(Story::new(title)));
        let closed = Arc::new(AtomicBool::new(false));
        let (shared, over, stop) = (story.clone(), closed.clone(), stop.clone());
        let work = move || {
            while !over.load(Ordering::Relaxed) {
                let mut told = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
                told.stopping = stop.load(Ordering::Relaxed);
                // A terminal that has gone away is no reason to stop the run.
                let _ = terminal.draw(|frame| draw::draw(frame, &told));
                if wants_to_stop() {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            ratatui::restore();
        };
        let thread = std::thread::Builder::new().name("screen".into()).spawn(work)?;
        Ok(Self { story, closed, thread: Some(thread) })
    }

    pub(crate) fn show(&self, event: &Event) {
        self.story.lock().unwrap_or_else(PoisonError::into_inner).add(event);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits a tenth of a second for a key.
fn wants_to_stop() -> bool {
    if !event::poll(Duration::from_millis(100)).unwrap_or(false) {
        return false;
    }
    match event::read() {
        Ok(Input::Key(key)) if key.kind == KeyEventKind::Press => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => true,
            KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
            _ => false,
        },
        _ => false,
    }
}
